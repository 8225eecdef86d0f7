"""The chain: seven notebooks through Papermill, one kernel a stage, one record.

A stage whose fingerprint an earlier run has, with its outputs intact, is skipped and its files are
carried over (hard links), so that each run is whole by itself. What failed is kept and said.
"""

from __future__ import annotations

import os
import shutil
import time
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit import sources, store
from mlops_kit import stage as stages
from mlops_kit.config import Project, order
from mlops_kit.errors import KitError, RunFailed, Waiting, nearest
from mlops_kit.pipeline import fingerprint, manifest, params
from mlops_kit.pipeline.progress import Say
from mlops_kit.stage import WAITING

NOT_CHOSEN = "not chosen"
SHARED = ("as_of", "until", "sample", "seed")  # run-wide values given to each notebook that declares them


def selected(project: Project, first: str = "", last: str = "", only: str = "") -> list[str]:
    """The stages that ``--from``, ``--to`` and ``--only`` leave, in order."""
    line = order(project.config.stages)
    for name in filter(None, (first, last, only)):
        if name not in line:
            raise KitError(f"unknown stage {name!r}", nearest(name, line))
    if only:
        return [only]
    begin, end = line.index(first) if first else 0, line.index(last) if last else len(line) - 1
    if begin > end:
        raise KitError(f"--from {first} comes after --to {last}", f"an order such as {' → '.join(line)}")
    return line[begin : end + 1]


def resolved(project: Project, stage: str, given: dict[str, Any]) -> dict[str, Any]:
    """The parameters that a stage's notebook is run with, checked."""
    known = params.read(project.notebook(stage))
    config = project.config
    moments = {"as_of": config.as_of.isoformat() if config.as_of else "", "until": config.until.isoformat() if config.until else ""}
    shared = {**moments, "sample": config.sample, "seed": config.seed}
    laid = {**{k: shared[k] for k in SHARED if k in known}, **config.stages[stage].params, **given}
    return params.checked(stage, known, laid)


def run(project: Project, chosen: list[str], given: dict[str, dict[str, Any]], force: bool, note: str, say: Say) -> dict[str, Any]:
    """Run the chosen stages and return the manifest.

    Raises
    ------
    KitError
        For mistakes in parameters or config, before anything is written.
    """
    sources.check_columns(project)
    project = sources.settled(project)
    values = {s: resolved(project, s, given.get(s, {})) for s in chosen}
    if not force and (same := nothing_to_do(project, chosen, values)):
        return same
    made = manifest.new(project, order(project.config.stages), note)
    folder = project.reports / made["run"]
    folder.mkdir(parents=True)
    store.write_json(folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True))
    manifest.write(folder, made)
    return chain(project, folder, made, values, force, say)


def go_on(project: Project, folder: Path, say: Say) -> dict[str, Any]:
    """Go on with a run that waited for a person, in its own folder, with its own config and parameters.

    Raises
    ------
    KitError
        If the run does not wait.
    """
    made = manifest.read(folder)
    if made["status"] != WAITING:
        raise KitError(f"run {made['run']} does not wait for an approval: it is {made['status']}", f"a run that is {WAITING}", "mlops status")
    project = stages.recorded(project, folder)
    values = {s: e["params"] if "params" in e else resolved(project, s, {}) for s, e in made["stages"].items() if e.get("reason") != NOT_CHOSEN}
    made.update(status="running", pid=os.getpid())
    for entry in made["stages"].values():
        if entry["status"] == WAITING or entry["status"] == "not run" and entry.get("reason") != NOT_CHOSEN:
            entry.update(status="not run", error=None, reason="")
    manifest.write(folder, made)
    return chain(project, folder, made, values, False, say)


def chain(project: Project, folder: Path, made: dict[str, Any], values: dict[str, dict[str, Any]], force: bool, say: Say) -> dict[str, Any]:
    """Run what has not been run yet of a run, stage by stage, and say how it ended."""
    try:
        for stage in order(project.config.stages):
            if made["stages"][stage]["status"] == "not run":
                one(project, folder, made, stage, values.get(stage), force, say)
                manifest.write(folder, made)
        ended = {e["status"] for e in made["stages"].values()}
        made["status"] = next((s for s in ("failed", WAITING) if s in ended), "succeeded")
    except KeyboardInterrupt:
        made["status"] = "interrupted"
        for entry in made["stages"].values():
            entry["status"] = "interrupted" if entry["status"] == "running" else entry["status"]
    made["ended"] = manifest.now()
    finish(project, folder, made, say)
    return made


def finish(project: Project, folder: Path, made: dict[str, Any], say: Say) -> None:
    """Mirror the run in MLflow and draw its page; neither undoes the run if it fails."""
    from mlops_kit.pipeline import report

    manifest.write(folder, made)
    if any(e["status"] in {"succeeded", "failed"} for e in made["stages"].values()):
        from mlops_kit import tracking

        made["mlflow"] = tracking.log_run(project, made)
        manifest.write(folder, made)
    report.write(folder, made)


def nothing_to_do(project: Project, chosen: list[str], values: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The latest run of the same two moments, if it has all chosen stages as they would be made now."""
    wanted = [m.isoformat() if m else None for m in (project.config.as_of, project.config.until)]
    same = ((f, m) for f in stages.runs(project.reports) if [(m := manifest.read(f))["as_of"], m["until"]] == wanted)
    for folder, found in list(islice(same, 1)):
        inputs = hashes(folder)
        for stage in chosen:
            entry = found["stages"].get(stage, {})
            parts = fingerprint.parts(project, stage, values[stage], needed(project, stage, inputs))
            if entry.get("fingerprint") != fingerprint.whole(parts) or entry["status"] not in {"succeeded", "skipped"} or not whole(folder, stage):
                return None
        return {**found, "nothing_to_do": True}
    return None


def hashes(folder: Path) -> dict[str, dict[str, str]]:
    """Content hashes of a run's artifacts by stage; records, which differ by nature, are left out."""
    return {s: {n: a["content"] for n, a in r["artifacts"].items() if a["content"]} for s, r in stages.records(folder).items()}


def needed(project: Project, stage: str, have: dict[str, dict[str, str]]) -> dict[str, str]:
    """The content that a stage builds on: of all stages it needs, near and far."""
    out: dict[str, str] = {}
    for need in project.config.stages[stage].needs:
        out |= needed(project, need, have) | {f"{need}.{k}": v for k, v in have.get(need, {}).items()}
    return out


def whole(folder: Path, stage: str) -> bool:
    """Whether a stage of a run ended well and all it wrote is as it was."""
    record = stages.records(folder).get(stage, {})
    return bool(record.get("done")) and store.intact(folder, [store.Artifact(**a) for a in record["artifacts"].values()])


def one(project: Project, folder: Path, made: dict[str, Any], stage: str, values: dict[str, Any] | None, force: bool, say: Say) -> None:
    """Run a stage, skip it, carry it over, or say why it could not run."""
    entry = made["stages"][stage]
    blocked = [n for n in project.config.stages[stage].needs if made["stages"][n]["status"] not in {"succeeded", "skipped"}]
    if values is None:  # not chosen: whatever an earlier run of the same kind has
        origin = carry(project, folder, made, stage, None)
        entry.update(status="skipped" if origin else "not run", reason=f"as in {origin}" if origin else NOT_CHOSEN)
        return
    if blocked:
        entry.update(status="not run", reason=f"needs {blocked[0]}")
        say(f"{stage}: not run, it needs {blocked[0]}")
        return
    parts = fingerprint.parts(project, stage, values, needed(project, stage, hashes(folder)))
    entry.update(params=values, fingerprint=fingerprint.whole(parts), parts=parts)
    origin = None if force else carry(project, folder, made, stage, entry["fingerprint"])
    if origin:
        entry.update(status="skipped", reason=f"unchanged since {origin}", **facts(folder, stage))
        say(f"{stage}: skipped, unchanged since {origin}")
        return
    entry.update(status="running", started=manifest.now())
    manifest.write(folder, made)
    say(f"{stage} …", passing=True)
    begin = time.perf_counter()
    error = execute(project, folder, stage, values, say)
    record = stages.records(folder).get(stage, {})
    if error is None and not record.get("done"):
        error = {"type": "RunFailed", "message": "the notebook ended without stage.hand_over(…)", "cell": None}
    # the first run of a project infers its contract: what it was checked against counts from then on
    parts["contract"] = fingerprint.parts(project, stage, values, {})["contract"]
    ended = "succeeded" if error is None else WAITING if error["type"] == "Waiting" else "failed"
    entry.update(status=ended, error=error, seconds=round(time.perf_counter() - begin, 2), fingerprint=fingerprint.whole(parts), parts=parts, **facts(folder, stage))
    said = entry["sentence"] if error is None else error["message"] if ended == WAITING else f"failed in cell {error['cell']}: {error['message']}"
    say(f"{stage}: {entry['status']} in {entry['seconds']:.0f} s. {said}")


def facts(folder: Path, stage: str) -> dict[str, Any]:
    """What the stage itself filed: sentence, numbers, artifacts."""
    record = stages.records(folder).get(stage, {})
    return {"sentence": record.get("sentence", ""), **{k: record[k] for k in ("logged", "artifacts", "mlflow_run") if k in record}}


def carry(project: Project, folder: Path, made: dict[str, Any], stage: str, wanted: str | None) -> str | None:
    """Link a stage's files from the newest run that has it (with this fingerprint, if one is given)."""
    for old in stages.runs(project.reports):
        if old == folder:
            continue
        found = manifest.read(old)
        entry = found["stages"].get(stage, {})
        fits = entry.get("fingerprint") == wanted if wanted else (found["sample"], found["as_of"]) == (made["sample"], made["as_of"])
        if fits and entry.get("status") in {"succeeded", "skipped"} and whole(old, stage):
            link(old, folder, stage, project.notebook(stage).stem)
            if not wanted:
                made["stages"][stage].update({k: v for k, v in entry.items() if k not in {"status", "reason"}})
            return old.name
    return None


def link(old: Path, folder: Path, stage: str, stem: str) -> None:
    """Carry over a stage's artifacts, figures, record, notebook and page; files are never changed in place."""
    record = stages.records(old)[stage]
    wanted = [f"{stages.RECORD}/{stage}.json", f"notebooks/{stem}.ipynb", f"notebooks/{stem}.html", f"figures/{stage}"]
    for relative in wanted + [a["path"] for a in record["artifacts"].values()]:
        begin, end = old / relative, folder / relative
        if begin.is_dir():
            shutil.copytree(begin, end, copy_function=hard, dirs_exist_ok=True)
        elif begin.exists():
            end.parent.mkdir(parents=True, exist_ok=True)
            hard(str(begin), str(end))


def hard(begin: str, end: str) -> None:
    """A hard link; a copy where the file system has none."""
    try:
        os.link(begin, end)
    except OSError:
        shutil.copy2(begin, end)


def execute(project: Project, folder: Path, stage: str, values: dict[str, Any], say: Say) -> dict[str, Any] | None:
    """Run a stage's notebook; None if it ended well, else the error: type, message, cell."""
    import logging

    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from mlops_kit.pipeline import kernels, report

    logging.getLogger("papermill").setLevel(logging.ERROR)
    kernels.register()
    source = project.notebook(stage)
    target = folder / "notebooks" / source.name
    target.parent.mkdir(exist_ok=True)
    log = folder / "logs" / f"{stage}.stderr"
    log.parent.mkdir(exist_ok=True)
    error = None
    try:
        with log.open("wb") as stream:
            papermill.execute_notebook(
                nbformat.read(source, as_version=4), str(target), parameters=values, engine_name=kernels.NAME, kernel_name="python3", language="python", progress_bar=False, autosave_cell_every=30,
                kernel_env=kernels.environment(folder, project.root), kernel_cwd=str(project.root), kernel_log=stream,
                kernel_progress=lambda cell, cells: say(f"{stage}: cell {cell} of {cells}", passing=True),
            )  # fmt: skip
    except PapermillExecutionError as failure:
        told = "; ".join(" ".join(line.split()) for line in failure.evalue.splitlines() if line.strip())
        ours = failure.ename in {"KitError", "RunFailed", "Waiting"}
        error = {"type": failure.ename, "message": told if ours else f"{failure.ename}: {told}", "cell": failure.exec_count, "traceback": list(failure.traceback)[-4:]}
    except (DeadKernelError, RuntimeError, OSError) as failure:
        error = {"type": type(failure).__name__, "message": f"the kernel died: {str(failure).splitlines()[0]}", "cell": None}
    if target.exists():
        report.page(target)
    return error


def failure(made: dict[str, Any]) -> KitError | None:
    """The error to leave a failed run with; None for one that ended well."""
    if made["status"] == "succeeded":
        return None
    if made["status"] == WAITING:
        return Waiting(f"run {made['run']} waits for an approval", "somebody who looks at its page and its model card", f'mlops approve {made["run"]} --reason "why", or mlops reject {made["run"]} --reason "why"')
    for name, entry in made["stages"].items():
        if entry["status"] == "failed":
            return RunFailed(f"{name} failed: {entry['error']['message']}", cure="look at the run's page, mend what it names, then: mlops run")
    return RunFailed(f"the run was {made['status']}", cure="mlops run goes on where it stopped")
