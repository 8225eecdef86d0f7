"""Actions."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project import loader, run_folder, run_manifest
from mlops_kit.project.run_folder import read_run_artifact
from mlops_kit.registry import store, versions
from mlops_kit.watch import retraining

_Action = Callable[[str, dict[str, str]], str]


def connect_tracking_store(project: loader.Project) -> None:
    """Load what the first decision would wait for."""
    if run_folder.list_run_folders(project.reports_folder):
        with store.connect_mlflow(project):
            pass


def explain_alias_mismatch(project: loader.Project) -> str:
    """Where MLflow's champion points if not to the version that serves, as a sentence; empty if all is well, or nobody can tell."""
    said = (
        versions.check_champion_alias(project)
        if approvals.get_current_promotion(project) is not None
        else ""
    )
    return f"MLflow's champion {said}. What serves is what was approved." if said else ""


def build_actions(project: loader.Project) -> dict[str, _Action]:
    """What the dashboards' server does when somebody decides: each act is told who, and what the page showed, and answers in a sentence."""
    words = {
        "approve": ApprovalOutcome.APPROVED,
        "reject": ApprovalOutcome.REJECTED,
        "ask": ApprovalOutcome.CHANGES_REQUESTED,
    }
    rulings = {
        name: partial(_record_review_decision, project, word) for name, word in words.items()
    }
    return {
        **rulings,
        "rollback": partial(_roll_back_version, project),
        "acknowledge": partial(_acknowledge_incident, project),
        "retrain": partial(_request_retraining, project),
    }


def _require_fields(said: dict[str, str], *names: str) -> list[str]:
    """What a page must have said.

    Raises
    ------
    KitError
        Naming what is missing.
    """
    for name in names:
        if not said.get(name):
            raise KitError(
                f"the page did not say {name!r}",
                "what it showed when the decision was taken",
                "load the page again",
            )
    return [said[name] for name in names]


def _record_review_decision(
    project: loader.Project, word: ApprovalOutcome, by: str, said: dict[str, str]
) -> str:
    """Record what somebody says of the version that a page showed, if it is still that; an approval lets its run go on.

    Raises
    ------
    RunFailed
        If the version's model or evidence is another by now, it serves already, or somebody else has decided since.
    """
    version, run, model, evidence, seen, reason = _require_fields(
        said, "version", "run", "model_hash", "evidence_hash", "seen", "reason"
    )
    facts = versions.load_version(project, version)
    for what, registered, shown in (
        ("model", facts.model_hash, model),
        ("evidence", facts.evidence_hash, evidence),
    ):
        if registered != shown:
            raise RunFailedError(
                f"the {what} of version {version} is not the one that this page shows: {registered[:12]}",
                shown[:12],
                "load the page again, look at what changed, then decide",
            )
    present = approvals.get_current_promotion(project)
    if present is not None and present.version == version:
        raise RunFailedError(
            f"version {version} serves already, approved by {present.actor}",
            "a version that waits for a decision",
            "load the page again",
        )
    folder = _find_waiting_run(project, run, version) if word == "approved" else None
    approvals.record_approval(project, facts, word, by, reason, int(seen))
    if folder is None:
        return {
            "rejected": f"Version {version} is rejected",
            "changes": f"You asked for changes to version {version}",
        }[word] + "; what serves goes on serving."
    _start_command(project, folder / "logs" / "resume.log", "resume", folder.name)
    return f"Version {version} is approved. Its run goes on now and lets it serve."


def _find_waiting_run(project: loader.Project, run: str, version: str) -> Path:
    """The folder of a run that waits for a decision on this version.

    Raises
    ------
    RunFailed
        If it waits no more, or is another version's.
    """
    folder = next(
        (r for r in run_folder.list_run_folders(project.reports_folder) if r.name == run), None
    )
    status = run_manifest.read_manifest(folder).status if folder else "gone"
    if folder is None or status != run_manifest.RunStatus.WAITING_FOR_APPROVAL:
        raise RunFailedError(
            f"run {run} does not wait for an approval: it is {status}",
            f"a run that is {run_manifest.RunStatus.WAITING_FOR_APPROVAL}",
            "mlops run makes one",
        )
    made = read_run_artifact(folder, "version")["version"]
    if made != version:
        raise RunFailedError(
            f"run {run} made version {made}, not {version}",
            "the run that made it",
            "load the page again",
        )
    return folder


def _start_command(project: loader.Project, log: Path, *verb: str) -> None:
    """Start a command in a process of its own, which outlives the server; what it says is kept in a file."""
    command = [sys.executable, "-m", "mlops_kit.cli", *verb, "--project", str(project.root)]

    def follow() -> None:
        with log.open("ab") as stream:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                check=False,
            )

    log.parent.mkdir(exist_ok=True)
    threading.Thread(target=follow, daemon=True).start()


def _acknowledge_incident(project: loader.Project, by: str, said: dict[str, str]) -> str:
    """Record that somebody knows of an incident that a page showed, and what they make of it.

    Raises
    ------
    KitError
        If the page named no incident.
    RunFailed
        If it is over, or somebody has acknowledged it before.
    """
    from mlops_kit.stages.monitor import incidents

    number, reason = _require_fields(said, "id", "reason")
    if not number.isdecimal() or len(number) > 15:
        raise KitError(
            f"{number!r} is no incident's number",
            "the one that the page showed",
            "load the page again",
        )
    found = incidents.acknowledge_incident(project, int(number), by, reason)
    return f"{found.title}: others now see that you know. It stays open until it is over."


def _request_retraining(project: loader.Project, by: str, said: dict[str, str]) -> str:
    """Ask for a new version as of where the watch stands, and let the watch make it; one that goes on already takes it up.

    Raises
    ------
    RunFailed
        If a retraining is on its way already.
    """
    made = retraining.request_retraining(project, by, *_require_fields(said, "reason"))
    _start_command(
        project,
        project.resolve_path(".mlops") / "watch.log",
        "watch",
        "--once",
        "--as-of",
        made.as_of,
    )
    return "A new version is being made; the page says what becomes of it."


def _roll_back_version(project: loader.Project, by: str, said: dict[str, str]) -> str:
    """Let the version serve that served before the one that a page showed.

    Raises
    ------
    RunFailed
        If another one serves by now.
    """
    version, reason = _require_fields(said, "version", "reason")
    present = approvals.get_current_promotion(project)
    if present is None or present.version != version:
        raise RunFailedError(
            f"version {present.version if present else 'none'} serves by now, not {version}",
            "the version that the page showed",
            "load the page again, then decide",
        )
    done = versions.roll_back(project, by, reason)
    return f"Version {done.version} serves again; version {version} does not."
