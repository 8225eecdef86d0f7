"""Fan out: the chain once for each value of a list, or each combination of a grid, beside one another.

What no branch changes runs once, in the run itself; each branch is a run of its own below it
(``RUN/branches/``), which takes that over and goes on from there. A branch that fails leaves the
others alone. Nothing made in a branch is promoted: run the one that won by itself.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline import (
    active_run,
    kernel_pool,
    manifest,
    param_types,
    parameter_cell,
    runner,
    signals,
)
from mlops_kit.project import run_manifest
from mlops_kit.project.loader import DateAsTextLoader, Project
from mlops_kit.project.run_folder import STATUS_WAITING_FOR_APPROVAL
from mlops_kit.project.run_manifest import BRANCHES_FOLDER

_RUN_WIDE_KEYS = ("seed", "as_of", "until", "sample")  # what may differ beside parameters of stages


def parse_branch_grid(project: Project, asked: list[str]) -> dict[str, list[Any]]:
    """What differs between branches: of ``--each KEY=A,B``, else of each stage's ``foreach``.

    Raises
    ------
    KitError
        For a key that there is not, or a list that cannot be read.
    """
    found = {
        f"{s}.{name}": values
        for s, held in project.config.stages.items()
        for name, values in held.foreach.items()
    }
    for item in asked:
        key, equals, text = item.partition("=")
        if not equals or not text:
            raise KitError(
                f"--each {item!r} cannot be read",
                "stage.name=value,value or seed=value,value",
                "--each train.seed=1,2,3",
            )
        found[key] = _parse_branch_values(key, text)
    for key, values in found.items():
        stage, dot, name = key.partition(".")
        known = (
            parameter_cell.read_parameters(project.get_notebook_path(stage))
            if dot and stage in project.config.stages
            else {}
        )
        if key not in _RUN_WIDE_KEYS and name not in known:
            keys = [
                *_RUN_WIDE_KEYS,
                *(
                    f"{s}.{n}"
                    for s in project.config.stages
                    for n in parameter_cell.read_parameters(project.get_notebook_path(s))
                ),
            ]
            raise KitError(
                f"{key!r} cannot differ between branches",
                suggest_names(key, keys),
                "--each train.seed=1,2,3",
            )
        if dot:
            found[key] = values = [
                param_types.cast_value(stage, known[name], v, "--each") for v in values
            ]
        if len(values) != len(set(map(str, values))):
            raise KitError(f"{key} has a value twice: {values}", "each value once", "take one out")
    return found


def _parse_branch_values(key: str, text: str) -> list[Any]:
    """The values of ``--each``: of a stage's parameter as they were typed, for its type to read."""
    text = text if text.startswith("[") else f"[{text}]"
    try:
        read, typed = yaml.load(text, DateAsTextLoader), yaml.load(text, yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise KitError(
            f"--each {key}: {text!r} is no list", "value,value", f"--each {key}=1,2,3"
        ) from error
    return [
        param_types.UntypedText(t) if "." in key and isinstance(t, str) else v
        for v, t in zip(read, typed, strict=True)
    ]


def format_branch_name(values: dict[str, Any]) -> str:
    """A branch's name, of its values; a file can have it."""
    return re.sub(
        r"[^\w.=,-]+", "_", ",".join(f"{k.rpartition('.')[2]}={v}" for k, v in values.items())
    )[:80]


def select_branching_stages(project: Project, keys: list[str], chosen: list[str]) -> list[str]:
    """The chosen stages that differ between branches: those named, and all that come after them."""
    if any(k in _RUN_WIDE_KEYS for k in keys):
        return chosen
    found = {k.partition(".")[0] for k in keys}
    for stage in chosen:
        if found & set(project.config.stages[stage].needs):
            found.add(stage)
    return [s for s in chosen if s in found]


def run_branches(
    project: Project,
    chosen: list[str],
    given: active_run.ParameterValues,
    force: bool,
    note: str,
    say: ProgressReporter,
    varied: dict[str, list[Any]],
    keep_going: bool,
) -> dict[str, Any]:
    """Run what is common once, then each branch; the manifest of the whole.

    Parameters
    ----------
    varied : dict
        Key (``seed``, ``train.trials``) and its values.
    keep_going : bool
        Start the other branches when one has failed.
    """
    combinations = [
        dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())
    ]
    apart = select_branching_stages(project, list(varied), chosen)
    stop, kept, kernel_pool.keep_fork_server = threading.Event(), kernel_pool.keep_fork_server, True
    for values in combinations:  # a value that is wrong is refused before anything runs
        laid = _configure_branch(project, given, values)
        for stage in apart:
            runner.resolve_stage_values(laid[0], stage, laid[1].get(stage, {}))
    try:
        facts = {
            "apart": apart,
            "branches": [
                {"name": format_branch_name(v), "values": v, "status": "not run"}
                for v in combinations
            ],
        }
        made = runner.run_pipeline(
            project,
            [s for s in chosen if s not in apart],
            given,
            force,
            note,
            say,
            facts=facts,
            stop=stop,
        )
        folder = project.reports_folder / made["run"]
        if made["status"] == "succeeded":
            _run_each_branch(project, folder, made, (given, force, note), say, stop, keep_going)
    finally:
        kernel_pool.keep_fork_server = kept
        kernel_pool.release_fork_server()
    return made


def _configure_branch(
    project: Project, given: active_run.ParameterValues, values: dict[str, Any]
) -> tuple[Project, active_run.ParameterValues]:
    """The project and the parameters of a branch."""
    wide = {k: v for k, v in values.items() if k in _RUN_WIDE_KEYS}
    laid = {s: dict(v) for s, v in given.items()}
    for key, value in values.items():
        stage, dot, name = key.partition(".")
        if dot:
            laid.setdefault(stage, {})[name] = value
    return project.with_values(
        "the branch",
        branch=format_branch_name(values),
        run={**project.config.run.model_dump(), "jobs": 1},
        **wide,
    ), laid


def _run_each_branch(
    project: Project,
    folder: Path,
    made: dict[str, Any],
    how: tuple[active_run.ParameterValues, bool, str],
    say: ProgressReporter,
    stop: threading.Event,
    keep_going: bool,
) -> None:
    """Run all branches, as many at once as there is room for, and file what became of them."""
    given, force, note = how
    failed = threading.Event()

    def one(found: dict[str, Any]) -> None:
        if stop.is_set() or (failed.is_set() and not keep_going):
            return
        mine, laid = _configure_branch(project, given, found["values"])
        name = f"{made['run']}.{found['name']}"
        done = runner.run_pipeline(
            mine,
            made["apart"],
            laid,
            force,
            f"{note} {found['name']}".strip(),
            partial(_report_branch_line, say, found["name"]),
            folder=folder / BRANCHES_FOLDER / name,
            facts={"run": name, "branch": found["name"]},
            stop=stop,
        )
        found.update(_summarize_branch(done), run=name)
        if done["status"] not in {"succeeded", STATUS_WAITING_FOR_APPROVAL}:
            failed.set()

    made.update(status="running", ended=None)
    manifest.mark_run_started(folder, made)
    with (
        signals.interrupt_on_termination(),
        ThreadPoolExecutor(
            project.config.run.jobs or os.cpu_count() or 1, thread_name_prefix="branch"
        ) as pool,
    ):
        try:
            for future in [pool.submit(one, b) for b in made["branches"]]:
                future.result()
        except BaseException as error:
            stop.set()
            if not isinstance(error, KeyboardInterrupt):
                raise
    ends = {b["status"] for b in made["branches"]} - {"not run"}
    made["status"] = (
        "interrupted"
        if stop.is_set()
        else next((s for s in run_manifest.UNSUCCESSFUL_STATUSES if s in ends), "succeeded")
    )
    made["ended"] = run_manifest.format_current_time()
    (folder / run_manifest.DISK_RESERVE_FILE).unlink(missing_ok=True)
    run_manifest.write_manifest(folder, made)
    from mlops_kit.pipeline import report

    report.write_run_index(folder, made)


def _report_branch_line(
    say: ProgressReporter, name: str, text: str, transient: bool = False
) -> None:
    """Tell a line of a branch."""
    say(f"[{name}] {text}", transient=transient)


def _summarize_branch(done: dict[str, Any]) -> dict[str, Any]:
    """What the table of branches shows of one: how it ended, its seconds, the numbers that it logged."""
    entries = done["stages"].values()
    error = next(((e.get("error") or {}).get("message") for e in entries if e.get("error")), "")
    numbers = {
        f"{s}.{k}": v
        for s, e in done["stages"].items()
        for k, v in e.get("logged", {}).items()
        if isinstance(v, (int, float)) and not isinstance(v, bool)
    }
    return {
        "status": done["status"],
        "seconds": round(sum(e.get("seconds", 0) for e in entries if e["status"] != "skipped"), 1),
        "numbers": numbers,
        "said": error,
    }
