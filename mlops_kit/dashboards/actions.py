"""What the server of the dashboards does when a person decides something on a page.

Each action gets the name of the person and the values that the page sent, and answers in a
sentence. The values include what the page showed when the person decided: if that has changed
since, the action is refused.

To add an action: a function here, and its name in ``build_actions``.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import require_extra
from mlops_kit.core.formatting import format_number
from mlops_kit.db import approvals, operator_decisions
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders, read_run_artifact
from mlops_kit.project.run_manifest import RunStatus, read_manifest
from mlops_kit.registry import store, versions
from mlops_kit.watch import retraining

Action = Callable[[str, dict[str, str]], str]  # person, values of the page; the answer
_MAX_INCIDENT_DIGITS = 15  # more do not fit into the database
_SHOWN_HASH_CHARACTERS = 12
_RELOAD_HINT = "load the page again"
_RELOAD_AND_DECIDE_HINT = "load the page again, then decide"


def connect_tracking_store(project: Project) -> None:
    """Connect to MLflow's store, so that the first decision does not have to wait for it."""
    if list_run_folders(project.reports_folder):
        with store.connect_mlflow(project):
            pass


def explain_alias_mismatch(project: Project) -> str:
    """Return where MLflow's champion alias points if not to the version in service.

    Empty if it does, or if that cannot be found out.
    """
    if approvals.get_current_promotion(project) is None:
        return ""
    mismatch = versions.check_champion_alias(project)
    if not mismatch:
        return ""
    return f"MLflow's champion {mismatch}. The approved version is in service."


def build_actions(
    project: Project, rewrite_run_page: Callable[[str], None] | None = None
) -> dict[str, Action]:
    """Return the actions by the names under which pages send them.

    Parameters
    ----------
    rewrite_run_page : callable, optional
        Writes the page of a run again after a decision on its version; gets the run's name.
    """

    def make_decision(decide: Action) -> Action:
        def decide_and_rewrite(actor: str, values: dict[str, str]) -> str:
            answer = decide(actor, values)
            if rewrite_run_page is not None:
                rewrite_run_page(values["run"])
            return answer

        return decide_and_rewrite

    return {
        "approve": make_decision(partial(_approve_version, project)),
        "reject": make_decision(partial(_reject_version, project)),
        "ask": make_decision(partial(_request_changes, project)),
        "rollback": partial(_roll_back_version, project),
        "acknowledge": partial(_acknowledge_incident, project),
        "retrain": partial(_request_retraining, project),
        "enable_promotion": partial(_enable_promotion, project),
        "accept_reference": partial(_accept_reference, project),
    }


def _require_fields(values: Mapping[str, str], *names: str) -> list[str]:
    """Return values that a page must have sent.

    Raises
    ------
    KitError
        If one of them is missing.
    """
    for name in names:
        if not values.get(name):
            raise KitError(
                f"the page did not send {name!r}",
                "the values that it showed when the decision was made",
                _RELOAD_HINT,
            )
    return [values[name] for name in names]


def _approve_version(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Approve the version that a page shows, and resume its run, which promotes it."""
    require_extra("train")  # before the decision is recorded, since the run then continues
    version, run_name = _require_fields(values, "version", "run")
    model_version = _load_shown_version(project, version, values)
    run = _find_waiting_run(project, run_name, version)
    _record_decision(project, model_version, ApprovalOutcome.APPROVED, actor, values)
    _start_command(project, run / "logs" / "resume.log", "resume", run.name)
    return f"Version {version} is approved. Its run continues now and promotes it."


def _reject_version(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Reject the version that a page shows."""
    version, _ = _require_fields(values, "version", "run")
    model_version = _load_shown_version(project, version, values)
    _record_decision(project, model_version, ApprovalOutcome.REJECTED, actor, values)
    return f"Version {version} is rejected; {approvals.describe_champion(project)}."


def _request_changes(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Request changes to the version that a page shows."""
    version, _ = _require_fields(values, "version", "run")
    model_version = _load_shown_version(project, version, values)
    _record_decision(project, model_version, ApprovalOutcome.CHANGES_REQUESTED, actor, values)
    return f"You requested changes to version {version}; {approvals.describe_champion(project)}."


def _load_shown_version(
    project: Project, version: str, values: Mapping[str, str]
) -> versions.ModelVersion:
    """Load the version that a page shows.

    Raises
    ------
    RunFailedError
        If its model or evidence is not the one that the page shows, or it is already in service.
    """
    model_hash, evidence_hash, *_ = _require_fields(
        values, "model_hash", "evidence_hash", "seen", "reason"
    )
    model_version = versions.load_version(project, version)
    _check_shown_hash("model", version, model_version.model_hash, model_hash)
    _check_shown_hash("evidence", version, model_version.evidence_hash, evidence_hash)
    champion = approvals.get_current_promotion(project)
    if champion is not None and champion.version == version:
        raise RunFailedError(
            f"version {version} is already in service, approved by {champion.actor}",
            "a version that waits for a decision",
            _RELOAD_HINT,
        )
    return model_version


def _check_shown_hash(
    subject: str,
    version: str,
    registered: str,
    shown: str,
) -> None:
    """Refuse a decision on a model or evidence that has been replaced since.

    Raises
    ------
    RunFailedError
        If the hashes differ.
    """
    if registered != shown:
        raise RunFailedError(
            f"the {subject} of version {version} is not the one that the page shows: "
            f"{registered[:_SHOWN_HASH_CHARACTERS]}",
            shown[:_SHOWN_HASH_CHARACTERS],
            "load the page again, look at what has changed, then decide",
        )


def _record_decision(
    project: Project,
    model_version: versions.ModelVersion,
    outcome: ApprovalOutcome,
    actor: str,
    values: Mapping[str, str],
) -> None:
    """Record a decision; it is refused if another person has decided since the page was shown."""
    last_seen_decision = int(values["seen"])
    approvals.record_approval(
        project, model_version, outcome, actor, values["reason"], last_seen_decision
    )


def _find_waiting_run(project: Project, run_name: str, version: str) -> Path:
    """Return the folder of a run that waits for a decision on a version.

    Raises
    ------
    RunFailedError
        If the run does not wait, or made another version.
    """
    runs = {folder.name: folder for folder in list_run_folders(project.reports_folder)}
    run = runs.get(run_name)
    status = str(read_manifest(run).status) if run is not None else "missing"
    if run is None or status != RunStatus.WAITING_FOR_APPROVAL:
        raise RunFailedError(
            f"run {run_name} does not wait for an approval: it is {status}",
            f"a run that is {RunStatus.WAITING_FOR_APPROVAL}",
            "mlops run creates one",
        )
    run_version = read_run_artifact(run, "version")["version"]
    if run_version != version:
        raise RunFailedError(
            f"run {run_name} made version {run_version}, not {version}",
            "the run that made it",
            _RELOAD_HINT,
        )
    return run


def _start_command(project: Project, log: Path, *arguments: str) -> None:
    """Start a command in a process of its own, which outlives the server; log its output."""
    command = [sys.executable, "-m", "mlops_kit.cli", *arguments, "--project", str(project.root)]

    def run_command() -> None:
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
    threading.Thread(target=run_command, daemon=True).start()


def _acknowledge_incident(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Record that a person knows of an incident, and what they say about it.

    Raises
    ------
    KitError
        If the page sent no valid number of an incident.
    RunFailedError
        If the incident is resolved, or was acknowledged before.
    """
    from mlops_kit.stages.monitor import incidents

    number, reason = _require_fields(values, "id", "reason")
    if not number.isdecimal() or len(number) > _MAX_INCIDENT_DIGITS:
        raise KitError(
            f"{number!r} is not the number of an incident",
            "the number that the page showed",
            _RELOAD_HINT,
        )
    incident = incidents.acknowledge_incident(project, int(number), actor, reason)
    return f"{incident.title}: acknowledged. The incident stays open until it is resolved."


def _request_retraining(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Request a new version as of the time that the watch has reached, and let the watch make it.

    A watch that is running already makes it.

    Raises
    ------
    RunFailedError
        If a retraining is already under way.
    """
    require_extra("train")
    (reason,) = _require_fields(values, "reason")
    request = retraining.request_retraining(project, actor, reason)
    log = project.resolve_path(".mlops") / "watch.log"
    _start_command(project, log, "watch", "--once", "--as-of", request.as_of)
    return "A new version is being trained; this page will show the result."


def _enable_promotion(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Enable automatic promotion again, which two rollbacks in a row have stopped."""
    (reason,) = _require_fields(values, "reason")
    operator_decisions.enable_automatic_promotion(project, actor, reason)
    return "Versions that pass their review are promoted automatically again."


def _accept_reference(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Accept the realized performance that a page shows as the reference of its version.

    Raises
    ------
    KitError
        If the page sent no number.
    """
    version, text, reason = _require_fields(values, "version", "value", "reason")
    try:
        value = float(text)
    except ValueError as error:
        raise KitError(
            f"{text!r} is not a reference performance",
            "the number that the page showed",
            _RELOAD_HINT,
        ) from error
    accepted = operator_decisions.accept_reference(project, version, value, actor, reason)
    return (
        f"Windows of version {version} are compared with {format_number(accepted.value)} from now "
        "on."
    )


def _roll_back_version(project: Project, actor: str, values: Mapping[str, str]) -> str:
    """Roll back from the version that a page shows to the previous one.

    Raises
    ------
    RunFailedError
        If another version is in service now.
    """
    version, reason = _require_fields(values, "version", "reason")
    champion = approvals.get_current_promotion(project)
    if champion is None or champion.version != version:
        current = f"version {champion.version}" if champion is not None else "no version"
        raise RunFailedError(
            f"{current} is in service now, not {version}",
            "the version that the page showed",
            _RELOAD_AND_DECIDE_HINT,
        )
    promotion = versions.roll_back(project, actor, reason)
    return f"Version {promotion.version} is in service again; version {version} is not."
