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

from mlops_kit.config import Loader, Project
from mlops_kit.errors import KitError, nearest
from mlops_kit.pipeline import kernels, manifest, params
from mlops_kit.pipeline import run as chain
from mlops_kit.pipeline.plan import BRANCHES
from mlops_kit.pipeline.progress import Say
from mlops_kit.stage import WAITING

WIDE = ("seed", "as_of", "until", "sample")  # what may differ beside parameters of stages


def grid(project: Project, asked: list[str]) -> dict[str, list[Any]]:
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
        found[key] = listed(key, text)
    for key, values in found.items():
        stage, dot, name = key.partition(".")
        known = (
            params.read(project.notebook(stage)) if dot and stage in project.config.stages else {}
        )
        if key not in WIDE and name not in known:
            keys = [
                *WIDE,
                *(
                    f"{s}.{n}"
                    for s in project.config.stages
                    for n in params.read(project.notebook(s))
                ),
            ]
            raise KitError(
                f"{key!r} cannot differ between branches",
                nearest(key, keys),
                "--each train.seed=1,2,3",
            )
        if dot:
            found[key] = values = [params.cast(stage, known[name], v, "--each") for v in values]
        if len(values) != len(set(map(str, values))):
            raise KitError(f"{key} has a value twice: {values}", "each value once", "take one out")
    return found


def listed(key: str, text: str) -> list[Any]:
    """The values of ``--each``: of a stage's parameter as they were typed, for its type to read."""
    text = text if text.startswith("[") else f"[{text}]"
    try:
        read, typed = yaml.load(text, Loader), yaml.load(text, yaml.BaseLoader)  # noqa: S506 - safe loaders both
    except yaml.YAMLError as error:
        raise KitError(
            f"--each {key}: {text!r} is no list", "value,value", f"--each {key}=1,2,3"
        ) from error
    return [
        params.Text(t) if "." in key and isinstance(t, str) else v
        for v, t in zip(read, typed, strict=True)
    ]


def slug(values: dict[str, Any]) -> str:
    """A branch's name, of its values; a file can have it."""
    return re.sub(
        r"[^\w.=,-]+", "_", ",".join(f"{k.rpartition('.')[2]}={v}" for k, v in values.items())
    )[:80]


def fanned(project: Project, keys: list[str], chosen: list[str]) -> list[str]:
    """The chosen stages that differ between branches: those named, and all that come after them."""
    if any(k in WIDE for k in keys):
        return chosen
    found = {k.partition(".")[0] for k in keys}
    for stage in chosen:
        if found & set(project.config.stages[stage].needs):
            found.add(stage)
    return [s for s in chosen if s in found]


def run(
    project: Project,
    chosen: list[str],
    given: chain.Values,
    force: bool,
    note: str,
    say: Say,
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
    apart = fanned(project, list(varied), chosen)
    stop, kept, kernels.keep = threading.Event(), kernels.keep, True
    for values in combinations:  # a value that is wrong is refused before anything runs
        laid = branch(project, given, values)
        for stage in apart:
            chain.resolved(laid[0], stage, laid[1].get(stage, {}))
    try:
        facts = {
            "apart": apart,
            "branches": [{"name": slug(v), "values": v, "status": "not run"} for v in combinations],
        }
        made = chain.run(
            project,
            [s for s in chosen if s not in apart],
            given,
            force,
            note,
            say,
            facts=facts,
            stop=stop,
        )
        folder = project.reports / made["run"]
        if made["status"] == "succeeded":
            each(project, folder, made, (given, force, note), say, stop, keep_going)
    finally:
        kernels.keep = kept
        kernels.release()
    return made


def branch(
    project: Project, given: chain.Values, values: dict[str, Any]
) -> tuple[Project, chain.Values]:
    """The project and the parameters of a branch."""
    wide = {k: v for k, v in values.items() if k in WIDE}
    laid = {s: dict(v) for s, v in given.items()}
    for key, value in values.items():
        stage, dot, name = key.partition(".")
        if dot:
            laid.setdefault(stage, {})[name] = value
    return project.with_values(
        "the branch",
        branch=slug(values),
        run={**project.config.run.model_dump(), "jobs": 1},
        **wide,
    ), laid


def each(
    project: Project,
    folder: Path,
    made: dict[str, Any],
    how: tuple[chain.Values, bool, str],
    say: Say,
    stop: threading.Event,
    keep_going: bool,
) -> None:
    """Run all branches, as many at once as there is room for, and file what became of them."""
    given, force, note = how
    failed = threading.Event()

    def one(found: dict[str, Any]) -> None:
        if stop.is_set() or (failed.is_set() and not keep_going):
            return
        mine, laid = branch(project, given, found["values"])
        name = f"{made['run']}.{found['name']}"
        done = chain.run(
            mine,
            made["apart"],
            laid,
            force,
            f"{note} {found['name']}".strip(),
            partial(prefixed, say, found["name"]),
            folder=folder / BRANCHES / name,
            facts={"run": name, "branch": found["name"]},
            stop=stop,
        )
        found.update(told(done), run=name)
        if done["status"] not in {"succeeded", WAITING}:
            failed.set()

    made.update(status="running", ended=None)
    manifest.begin(folder, made)
    with (
        kernels.terminated(),
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
        "interrupted" if stop.is_set() else next((s for s in chain.ENDS if s in ends), "succeeded")
    )
    made["ended"] = manifest.now()
    (folder / manifest.RESERVE).unlink(missing_ok=True)
    manifest.write(folder, made)
    from mlops_kit.pipeline import report

    report.write(folder, made)


def prefixed(say: Say, name: str, text: str, passing: bool = False) -> None:
    """Tell a line of a branch."""
    say(f"[{name}] {text}", passing=passing)


def told(done: dict[str, Any]) -> dict[str, Any]:
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
