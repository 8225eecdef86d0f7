"""The chain: notebooks through Papermill, one kernel a stage, stages that need not wait at once, one record.

A stage that an earlier run has, with all it used unchanged and its outputs intact, is skipped and its files
are carried over (hard links), so that each run is whole by itself. What failed is kept and said.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.data.source import check_configured_columns, resolve_cutoffs
from mlops_kit.pipeline import file_hashes, history, kernel_pool, manifest, params, plan, signals
from mlops_kit.pipeline.active_run import ActiveRun, ParameterValues
from mlops_kit.pipeline.run_completion import finish_run
from mlops_kit.pipeline.scheduler import run_all_stages
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.config.pipeline import order_stages
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import STATUS_WAITING_FOR_APPROVAL
from mlops_kit.project.run_manifest import (
    COMPLETED_STATUSES,
    NOT_SELECTED_REASON,
    UNSUCCESSFUL_STATUSES,
)

_MIN_EMBEDDED_SECRET_CHARACTERS = (
    8  # characters of a secret that are no accident within a longer value
)


def select_stages(project: Project, first: str = "", last: str = "", only: str = "") -> list[str]:
    """The stages that ``--from``, ``--to`` and ``--only`` leave, in order."""
    line = order_stages(project.config.stages)
    for name in filter(None, (first, last, only)):
        if name not in line:
            raise KitError(f"unknown stage {name!r}", suggest_names(name, line))
    if only:
        return [only]
    begin, end = line.index(first) if first else 0, line.index(last) if last else len(line) - 1
    if begin > end:
        raise KitError(
            f"--from {first} comes after --to {last}", f"an order such as {' → '.join(line)}"
        )
    return line[begin : end + 1]


def resolve_stage_values(project: Project, stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stage's parameters, checked."""
    return params.extract_values(params.resolve_parameters(project, stage, given))


def run_pipeline(
    project: Project,
    chosen: list[str],
    given: ParameterValues,
    force: bool,
    note: str,
    say: ProgressReporter,
    **more: Any,
) -> dict[str, Any]:
    """Run the chosen stages and return the manifest.

    Parameters
    ----------
    given : dict
        Values of parameters, by stage and name.
    force : bool
        Run what is unchanged too.
    **more
        ``verify``: read all files anew; ``folder``, ``stop`` and ``facts`` of a branch (``branches.py``).

    Raises
    ------
    KitError
        For mistakes in parameters or config, before anything is written.
    """
    project = resolve_cutoffs(project)
    values = {s: resolve_stage_values(project, s, given.get(s, {})) for s in chosen}
    _refuse_exposed_secrets(project, values)
    found = plan.plan_stages(
        project, chosen, values, force, file_hashes.FileHashes(project, more.pop("verify", False))
    )
    if not more and (same := plan.find_up_to_date_run(project, found, history.RunHistory(project))):
        folder = project.reports_folder / same["run"]
        return (
            _execute_run(
                ActiveRun(
                    run_folder.load_recorded_project(project, folder),
                    folder,
                    run_manifest.read_manifest(folder),
                    {},
                    say,
                )
            )
            if _is_unrecorded(same)
            else same
        )
    check_configured_columns(project)
    kernel_pool.get_fork_server(
        kernel_pool.list_modules_to_preload(project, [d.stage for d in found if d.action != "skip"])
    )
    made = {
        **manifest.create_manifest(project, order_stages(project.config.stages), note),
        **more.get("facts", {}),
    }
    folder = more.get("folder") or project.reports_folder / made["run"]
    folder.mkdir(parents=True)
    files.write_json(
        folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    return _execute_run(
        ActiveRun(project, folder, made, values, say, force, more.get("stop") or threading.Event())
    )


def _refuse_exposed_secrets(project: Project, values: ParameterValues) -> None:
    """Refuse a parameter that gives a secret away: parameters are shown, and filed with the run.

    Raises
    ------
    KitError
        Which parameter, and whose value; not the value itself.
    """
    from mlops_kit.project import secrets

    for name, secret in secrets.iterate_secrets(project):
        for stage, given in values.items():
            for parameter, value in given.items():
                if len(secret) >= secrets.MIN_SECRET_CHARACTERS and (
                    secret == str(value)
                    or len(secret) >= _MIN_EMBEDDED_SECRET_CHARACTERS
                    and secret in str(value)
                ):
                    raise KitError(
                        f"parameter {stage}.{parameter} holds the value of the secret {name}",
                        "a value that may be shown and filed",
                        f"read it where it is used: os.environ[{name!r}]",
                    )


def _is_unrecorded(made: dict[str, Any]) -> bool:
    """Whether a run has done all its stages and was killed before its end was filed, here or in MLflow."""
    entries = [e for e in made["stages"].values() if e.get("reason") != NOT_SELECTED_REASON]
    return (
        made["status"] in {"killed", "succeeded"}
        and not made["mlflow"]
        and all(e["status"] in COMPLETED_STATUSES for e in entries)
        and any(e["status"] == "succeeded" for e in entries)
    )


def resume_run(project: Project, folder: Path, say: ProgressReporter) -> dict[str, Any]:
    """Go on with a run that waited for a person or did not end well, in its own folder, with its own config and parameters.

    Raises
    ------
    KitError
        If the run ended well, or still goes on.
    """
    manifest.mark_run_killed(folder)
    made = run_manifest.read_manifest(folder)
    if made["status"] in {"succeeded", "running"}:
        raise KitError(
            f"run {made['run']} does not wait: it is {made['status']}",
            f"a run that is {STATUS_WAITING_FOR_APPROVAL}, failed, killed or interrupted",
            "mlops runs lists them",
        )
    project = run_folder.load_recorded_project(project, folder)
    left = {
        s: e
        for s, e in made["stages"].items()
        if e["status"] not in COMPLETED_STATUSES and e.get("reason") != NOT_SELECTED_REASON
    }
    values = {s: resolve_stage_values(project, s, e.get("params", {})) for s, e in left.items()}
    for entry in left.values():
        entry.update(status="not run", error=None, reason="", detail="")
    kernel_pool.get_fork_server(kernel_pool.list_modules_to_preload(project, list(left)))
    return _execute_run(ActiveRun(project, folder, made, values, say))


def _execute_run(chain: ActiveRun) -> dict[str, Any]:
    """Run what has not been run yet of a run, and say how it ended."""
    made, folder = chain.manifest, chain.folder
    manifest.mark_run_started(folder, made)
    for name in ("logs", "notebooks"):
        (folder / name).mkdir(exist_ok=True)
    dead = [str(old) for old in chain.history.folders if manifest.mark_run_killed(old)]
    with signals.interrupt_on_termination():
        try:
            run_all_stages(chain)
        except KeyboardInterrupt:
            chain.stop_event.set()
    for entry in made["stages"].values():
        if entry["status"] == "running":  # told to stop before its kernel was asked for
            entry.update(
                status="interrupted",
                detail="",
                error={
                    "type": "KeyboardInterrupt",
                    "message": "the run was told to stop",
                    "cell": None,
                },
            )
    ended = {e["status"] for e in made["stages"].values()}
    made["status"] = (
        "interrupted"
        if chain.stop_event.is_set()
        else next((s for s in UNSUCCESSFUL_STATUSES if s in ended), "succeeded")
    )
    made["ended"] = run_manifest.format_current_time()
    finish_run(chain, dead)
    kernel_pool.release_fork_server()
    return made


def find_run_error(made: dict[str, Any]) -> KitError | None:
    """The error to leave a failed run with; None for one that ended well."""
    if made.get(
        "nothing_to_do"
    ):  # what was asked for is there, whatever became of the rest of that run
        return None
    if made["status"] == "succeeded":
        return (
            RunFailedError(
                f"the run succeeded, but MLflow could not be told: {made['unrecorded']}",
                hint="mend what it names; the next run is recorded again",
            )
            if made.get("unrecorded")
            else None
        )
    if made["status"] == STATUS_WAITING_FOR_APPROVAL:
        return WaitingForApprovalError(
            f"run {made['run']} waits for an approval",
            "somebody who looks at its page and its model card",
            f'mlops approve {made["run"]} --reason "why", or mlops reject {made["run"]} --reason "why"',
        )
    for name, entry in made["stages"].items():
        if (
            entry["status"] in UNSUCCESSFUL_STATUSES
            and entry["status"] != STATUS_WAITING_FOR_APPROVAL
            and entry.get("error")
        ):
            return RunFailedError(
                f"{name} {'' if entry['status'] == 'failed' else 'was ' if entry['status'] in {'killed', 'interrupted'} else ''}{run_manifest.describe_status(entry)}: {entry['error']['message']}",
                hint=f"look at the run's page or mlops logs {name}, mend what it names, then: mlops run",
            )
    for branch in made.get("branches", []):
        if branch["status"] in UNSUCCESSFUL_STATUSES:
            return RunFailedError(
                f"branch {branch['name']} {branch['status']}: {branch['said']}",
                hint="look at its page, mend what it names, then run again: what succeeded is skipped",
            )
    return RunFailedError(
        f"the run was {made['status']}", hint="mlops run goes on where it stopped"
    )
