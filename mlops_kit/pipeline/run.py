"""The chain: notebooks through Papermill, one kernel a stage, stages that need not wait at once, one record.

A stage that an earlier run has, with all it used unchanged and its outputs intact, is skipped and its files
are carried over (hard links), so that each run is whole by itself. What failed is kept and said.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlops_kit import config as configs
from mlops_kit import sources, store
from mlops_kit import stage as stages
from mlops_kit.config import Project, order
from mlops_kit.errors import KitError, RunFailed, Waiting, nearest
from mlops_kit.pipeline import fingerprint, kernels, manifest, params, plan, replay
from mlops_kit.pipeline.plan import DONE, NOT_CHOSEN
from mlops_kit.pipeline.progress import Say
from mlops_kit.stage import WAITING

Values = dict[str, dict[str, Any]]
SHOWN = ("sentence", "logged", "verdicts")  # of a stage's record, what people read
TELLING = 8  # characters of a secret that are no accident within a longer value
ENDS = (
    "interrupted",
    "failed",
    "killed",
    "timed out",
    "stopped early",
    WAITING,
)  # how a run ended: the first of these that a stage has


@dataclass
class Chain:
    """A run while it goes on: its folder, its manifest, and what its threads share."""

    project: Project
    folder: Path
    made: dict[str, Any]
    values: Values
    say: Say
    force: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    pages: list[Future[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hashes = fingerprint.Hashes(self.project)
        self.history = plan.History(self.project, but=self.folder)
        self.aside = ThreadPoolExecutor(1)

    def entry(self, stage: str) -> dict[str, Any]:
        """What the manifest says of a stage."""
        found: dict[str, Any] = self.made["stages"][stage]
        return found

    def note(self, stage: str, **facts: Any) -> None:
        """Put facts of a stage into the manifest, and file it."""
        with self.lock:
            self.entry(stage).update(facts)
            manifest.write(self.folder, self.made)

    def inputs(self) -> dict[str, str | None]:
        """Content of what the stages have handed on so far."""
        found: dict[str, str | None] = {}
        for entry in list(self.made["stages"].values()):
            found |= plan.contents(entry) if entry["status"] in DONE else {}
        return found


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
        raise KitError(
            f"--from {first} comes after --to {last}", f"an order such as {' → '.join(line)}"
        )
    return line[begin : end + 1]


def resolved(project: Project, stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a stage's parameters, checked."""
    return params.values(params.resolve(project, stage, given))


def run(
    project: Project,
    chosen: list[str],
    given: Values,
    force: bool,
    note: str,
    say: Say,
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
    project = sources.settled(project)
    values = {s: resolved(project, s, given.get(s, {})) for s in chosen}
    open_secrets(project, values)
    found = plan.make(
        project, chosen, values, force, fingerprint.Hashes(project, more.pop("verify", False))
    )
    if not more and (same := plan.nothing_to_do(project, found, plan.History(project))):
        folder = project.reports / same["run"]
        return (
            carried_out(
                Chain(stages.recorded(project, folder), folder, manifest.read(folder), {}, say)
            )
            if unfiled(same)
            else same
        )
    sources.check_columns(project)
    kernels.nursery(kernels.wanted(project, [d.stage for d in found if d.action != "skip"]))
    made = {**manifest.new(project, order(project.config.stages), note), **more.get("facts", {})}
    folder = more.get("folder") or project.reports / made["run"]
    folder.mkdir(parents=True)
    store.write_json(
        folder / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    return carried_out(
        Chain(project, folder, made, values, say, force, more.get("stop") or threading.Event())
    )


def open_secrets(project: Project, values: Values) -> None:
    """Refuse a parameter that gives a secret away: parameters are shown, and filed with the run.

    Raises
    ------
    KitError
        Which parameter, and whose value; not the value itself.
    """
    from mlops_kit.pipeline import keeping

    for name, secret in keeping.secrets(project):
        for stage, given in values.items():
            for parameter, value in given.items():
                if len(secret) >= keeping.LEAST and (
                    secret == str(value) or len(secret) >= TELLING and secret in str(value)
                ):
                    raise KitError(
                        f"parameter {stage}.{parameter} holds the value of the secret {name}",
                        "a value that may be shown and filed",
                        f"read it where it is used: os.environ[{name!r}]",
                    )


def unfiled(made: dict[str, Any]) -> bool:
    """Whether a run has done all its stages and was killed before its end was filed, here or in MLflow."""
    entries = [e for e in made["stages"].values() if e.get("reason") != NOT_CHOSEN]
    return (
        made["status"] in {"killed", "succeeded"}
        and not made["mlflow"]
        and all(e["status"] in DONE for e in entries)
        and any(e["status"] == "succeeded" for e in entries)
    )


def go_on(project: Project, folder: Path, say: Say) -> dict[str, Any]:
    """Go on with a run that waited for a person or did not end well, in its own folder, with its own config and parameters.

    Raises
    ------
    KitError
        If the run ended well, or still goes on.
    """
    manifest.bury(folder)
    made = manifest.read(folder)
    if made["status"] in {"succeeded", "running"}:
        raise KitError(
            f"run {made['run']} does not wait: it is {made['status']}",
            f"a run that is {WAITING}, failed, killed or interrupted",
            "mlops runs lists them",
        )
    project = stages.recorded(project, folder)
    left = {
        s: e
        for s, e in made["stages"].items()
        if e["status"] not in DONE and e.get("reason") != NOT_CHOSEN
    }
    values = {s: resolved(project, s, e.get("params", {})) for s, e in left.items()}
    for entry in left.values():
        entry.update(status="not run", error=None, reason="", detail="")
    kernels.nursery(kernels.wanted(project, list(left)))
    return carried_out(Chain(project, folder, made, values, say))


def carried_out(chain: Chain) -> dict[str, Any]:
    """Run what has not been run yet of a run, and say how it ended."""
    made, folder = chain.made, chain.folder
    manifest.begin(folder, made)
    for name in ("logs", "notebooks"):
        (folder / name).mkdir(exist_ok=True)
    dead = [str(old) for old in chain.history.folders if manifest.bury(old)]
    with kernels.terminated():
        try:
            all_stages(chain)
        except KeyboardInterrupt:
            chain.stop.set()
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
        "interrupted" if chain.stop.is_set() else next((s for s in ENDS if s in ended), "succeeded")
    )
    made["ended"] = manifest.now()
    finish(chain, dead)
    kernels.release()
    return made


def all_stages(chain: Chain) -> None:
    """Take each stage when what it needs is done, as many at once as there is room for."""
    left = [s for s in order(chain.project.config.stages) if chain.entry(s)["status"] == "not run"]
    jobs = chain.project.config.run.jobs or os.cpu_count() or 1
    going: dict[Future[None], str] = {}
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="stage")
    try:
        while left or going:
            for stage in [
                s
                for s in left
                if not set(chain.project.config.stages[s].needs) & {*left, *going.values()}
            ]:
                if going and not room(chain, stage, len(going), jobs):
                    break
                left.remove(stage)
                if taken(chain, stage):
                    going[pool.submit(one, chain, stage)] = stage
            done, _ = wait(going, return_when=FIRST_COMPLETED) if going else ((), ())
            for future in done:
                del going[future]
                future.result()
    except BaseException:
        chain.stop.set()
        raise
    finally:
        pool.shutdown(wait=True)


def room(chain: Chain, stage: str, going: int, jobs: int) -> bool:
    """Whether one more stage fits beside those that go on: a core, and the memory that it took the last time."""
    import psutil

    peak = next((e.get("peak", 0) for _, e in chain.history.of(stage)), 0)
    return going < jobs and psutil.virtual_memory().available > 1.5 * peak


def taken(chain: Chain, stage: str) -> bool:
    """Whether a stage has to be run; one that is skipped, carried over or cannot run is dealt with here."""
    made, config = chain.made, chain.project.config
    blocked = [n for n in config.stages[stage].needs if made["stages"][n]["status"] not in DONE]
    now = fingerprint.Now(chain.project, chain.hashes)
    if stage in made.get("apart", ()):
        chain.note(stage, status="not run", reason="in its branches")
        return False
    if stage not in chain.values:
        old = plan.carried(now, chain.history, stage)
        carry(chain, stage, *old, f"as in {old[0].name}") if old else chain.note(
            stage, status="not run", reason=NOT_CHOSEN
        )
        return False
    if blocked:
        chain.note(stage, reason=f"needs {blocked[0]}")
        chain.say(f"{stage}: not run, it needs {blocked[0]}")
        return False
    found = plan.decide(now, chain.history, stage, chain.values[stage], chain.inputs(), chain.force)
    if found.origin is not None and found.action == "skip":
        carry(chain, stage, found.origin, found.entry, found.reason)
        if found.origin.name == "draft":
            store.write_text(
                chain.folder / "notebooks" / chain.project.notebook(stage).name,
                chain.project.notebook(stage).read_text(encoding="utf-8"),
            )
            chain.pages.append(
                chain.aside.submit(
                    page, chain, chain.folder / "notebooks" / chain.project.notebook(stage).name
                )
            )
        chain.say(f"{stage}: skipped, {found.reason}")
        return False
    chain.note(
        stage,
        status="running",
        started=manifest.now(),
        why=list(found.why),
        params=params.kept(chain.values[stage]),
        parts=fingerprint.origins(now),
    )
    chain.say(f"{stage} … {found.reason}", passing=True)
    return True


def carry(chain: Chain, stage: str, old: Path, entry: Mapping[str, Any], reason: str) -> None:
    """Link a stage's artifacts, figures, record, notebook and page from another run; files are never changed in place."""
    stem = chain.project.notebook(stage).stem
    wanted = [
        f"{stages.RECORD}/{stage}.json",
        f"notebooks/{stem}.ipynb",
        f"notebooks/{stem}.html",
        f"figures/{stage}",
    ]
    for relative in wanted + [a["path"] for a in entry["artifacts"].values()]:
        begin, end = old / relative, chain.folder / relative
        if begin.is_dir():
            shutil.copytree(begin, end, copy_function=hard, dirs_exist_ok=True)
        elif begin.exists():
            end.parent.mkdir(parents=True, exist_ok=True)
            hard(str(begin), str(end))
    for name in fingerprint.displaced(chain.project, entry["artifacts"], chain.hashes):
        store.write_atomic(
            chain.project.path(name),
            lambda p, source=old / entry["artifacts"][name]["path"]: shutil.copyfile(source, p),
        )  # type: ignore[misc]
    chain.note(stage, **{**entry, "status": "skipped", "reason": reason})


def hard(begin: str, end: str) -> None:
    """A hard link; a copy where the file system has none."""
    try:
        os.link(begin, end)
    except FileExistsError:
        os.unlink(end)
        os.link(begin, end)
    except OSError:
        shutil.copy2(begin, end)


def one(chain: Chain, stage: str) -> None:
    """Run a stage, again if it says so, and record how it ended."""
    held, begin = chain.project.config.stages[stage], time.perf_counter()
    for attempt in range(held.retries + 1):
        end, used = execute(chain, stage)
        if (
            end["status"] in {"succeeded", "stopped early", "interrupted", WAITING}
            or attempt == held.retries
        ):
            break
        pause = held.backoff.total_seconds() * 2**attempt
        chain.say(
            f"{stage}: {manifest.words(end)}, {end['error']['message']}; again in {pause:g} s ({attempt + 1} of {held.retries})"
        )
        if chain.stop.wait(pause):
            break
    record = stages.records(chain.folder).get(stage, {})
    facts: dict[str, Any] = {
        "sentence": record.get("sentence", ""),
        **{k: record[k] for k in ("logged", "artifacts", "mlflow_run") if k in record},
    }
    for made in facts.get("artifacts", {}).values():
        chain.hashes.learn(chain.folder / made["path"], made["sha256"])
    if end["status"] == "succeeded" and used is not None:
        facts["trace"] = traced(chain, stage, record, used)
        facts["fingerprint"] = fingerprint.whole(facts["trace"])
        replay.keep(chain.project, facts["trace"])
    chain.note(
        stage, **end, seconds=round(time.perf_counter() - begin, 2), attempts=attempt + 1, **facts
    )
    entry = chain.entry(stage)
    place = (
        f" in cell {entry['error']['cell']}"
        if entry["error"] and entry["error"].get("cell")
        else ""
    )
    said = entry["sentence"] if end["status"] == "succeeded" else entry["error"]["message"]
    chain.say(
        f"{stage}: {manifest.words(entry)}{place if end['status'] != WAITING else ''} in {entry['seconds']:.0f} s. {said}"
    )


def traced(
    chain: Chain, stage: str, record: Mapping[str, Any], used: Mapping[str, Any]
) -> fingerprint.Trace:
    """The parts of a stage that has just run; one that read nothing through its handle hangs on all that its needs hand on."""
    there = chain.inputs()
    read = [n for n in record.get("read", {}) if n in there]
    needs = [
        n
        for need in chain.project.config.stages[stage].needs
        for n in plan.contents(chain.entry(need))
    ]
    inputs = {
        n: str(there[n]) for n in [*(read or needs), *filter(store.is_file_name, needs)]
    }  # a file can be read past the handle
    ran = fingerprint.cells(chain.folder / "notebooks" / chain.project.notebook(stage).name)
    return fingerprint.of(
        fingerprint.Now(chain.project, chain.hashes),
        stage,
        chain.values[stage],
        {**used, "cells": ran},
        inputs,
    )


def execute(chain: Chain, stage: str) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Run a stage's notebook once; how it ended (status, detail, error, peak), and what its kernel used."""
    import nbformat
    import papermill

    from mlops_kit.pipeline import engine, keeping

    engine.register()
    project, folder, held = chain.project, chain.folder, chain.project.config.stages[stage]
    source = project.notebook(stage)
    target, log = folder / "notebooks" / source.name, folder / "logs" / f"{stage}.stderr"
    log.write_bytes(b"")
    record = folder / stages.RECORD / f"{stage}.json"
    record.unlink(missing_ok=True)
    used: list[Mapping[str, Any] | None] = []
    begin = time.time()
    scrub = keeping.scrubber(project)
    limits = engine.Limits(
        seconds(held.cell_timeout),
        seconds(held.timeout),
        held.memory,
        project.config.run.start.total_seconds(),
    )
    try:
        papermill.execute_notebook(
            nbformat.read(source, as_version=4),
            None,
            parameters=chain.values[stage],
            engine_name=engine.NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_target=str(target),
            kernel_reserve=folder / manifest.RESERVE,
            kernel_env=kernels.environment(folder, project.root),
            kernel_cwd=str(project.root),
            kernel_log=str(log),
            kernel_limits=limits,
            kernel_stop=chain.stop,
            kernel_scrub=scrub,
            kernel_plain=project.config.run.kernels == "cold",
            kernel_used=used.append,
            kernel_progress=progress(chain, stage),
            kernel_check=lambda: missing(chain, stage, begin),
        )
        end = engine.End(**nbformat.read(target, as_version=4).metadata["mlops"])
    except engine.Stopped as stopped:
        end = stopped.end
    except (RunFailed, OSError) as error:
        end = engine.End("failed", type(error).__name__, scrub(str(error)))
    clean(log, record, scrub)
    if target.exists():
        chain.pages.append(chain.aside.submit(page, chain, target))
    return worded(end), used[0] if used else None


def seconds(limit: timedelta | None) -> float | None:
    """A limit in seconds."""
    return None if limit is None else limit.total_seconds()


def missing(chain: Chain, stage: str, begin: float) -> str:
    """What a stage promised and did not hand on; files that it wrote into the project are taken into the run."""
    folder, project = chain.folder, chain.project
    writes = project.config.stages[stage].writes
    record = stages.records(folder).get(stage)
    if (
        record is not None
        and not record.get("done")
        or record is None
        and any(not store.is_file_name(w) for w in writes)
    ):
        return "the notebook ended without stage.hand_over(…)"
    made = []
    for name in filter(store.is_file_name, writes):
        path = project.path(name)
        fault = (
            "is not there"
            if not path.exists()
            else "is empty"
            if not path.stat().st_size
            else "is older than the run of the stage"
            if path.stat().st_mtime < begin - 1
            else ""
        )
        if fault:
            return f"the declared output {name!r} {fault}"
        made.append(store.take_file(folder, stage, name, path))
    if record is None or made:
        record = record or {
            "stage": stage,
            "artifacts": {},
            "logged": {},
            "shown": [],
            "verdicts": [],
            "sentence": "",
            "read": {},
            "done": True,
        }
        record["artifacts"] |= {a.name: a.model_dump() for a in made}
        store.write_json(folder / stages.RECORD / f"{stage}.json", record)
    return ""


def progress(chain: Chain, stage: str) -> Any:
    """What is told at each cell: where it is, and how long it may take from what it took the last time."""
    last, begin = (
        next((e.get("seconds", 0.0) for _, e in chain.history.of(stage)), 0.0),
        time.monotonic(),
    )

    def tell(cell: int, cells: int) -> None:
        left = last - (time.monotonic() - begin)
        chain.say(
            f"{stage}: cell {cell} of {cells}" + (f", about {left:.0f} s left" if left > 1 else ""),
            passing=True,
        )

    return tell


def clean(log: Path, record: Path, scrub: Any) -> None:
    """Take secrets out of what a kernel has said and a stage recorded for people; one that said nothing leaves no file."""
    from mlops_kit.pipeline import engine

    if record.exists():
        store.write_json(
            record,
            {
                k: engine.scrubbed(v, scrub) if k in SHOWN else v
                for k, v in store.read_json(record).items()
            },
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    if not text:
        log.unlink()
    elif scrub(text) != text:
        store.write_text(log, scrub(text))


def worded(end: Any) -> dict[str, Any]:
    """How a notebook ended, as the manifest has it."""
    if end.status == "succeeded":
        return {"status": end.status, "detail": "", "error": None, "peak": end.peak}
    told = "; ".join(" ".join(line.split()) for line in end.message.splitlines() if line.strip())
    plainly = end.status != "failed" or end.type in {
        "KitError",
        "RunFailed",
        "Waiting",
        "NotAllowed",
        "DeadKernelError",
        "RuntimeError",
    }
    status = WAITING if end.type == "Waiting" else end.status
    error = {
        "type": end.type,
        "message": told if plainly else f"{end.type}: {told}".removesuffix(": "),
        "cell": end.cell,
        "line": end.line,
        "source": end.source,
        "traceback": end.traceback,
    }
    return {"status": status, "detail": end.detail, "error": error, "peak": end.peak}


def page(chain: Chain, notebook: Path) -> None:
    """Draw a notebook's page, in a fork that has what it takes."""
    kernels.nursery().call(
        "mlops_kit.pipeline.report:drawn",
        str(notebook),
        cwd=str(chain.project.root),
        log=str(chain.folder / "logs" / "pages.stderr"),
    )


def finish(chain: Chain, dead: list[str]) -> None:
    """Mirror the run in MLflow, and those that were found killed, and draw its page; neither undoes the run if it fails."""
    from mlops_kit.pipeline import report

    made, folder = chain.made, chain.folder
    chain.say("pages and record …", passing=True)
    chain.aside.shutdown(wait=True)
    (folder / manifest.RESERVE).unlink(missing_ok=True)
    manifest.write(folder, made)
    chain.hashes.save()
    for failed in filter(None, (f.exception() for f in chain.pages)):
        chain.say(f"a page could not be drawn: {failed}")
    if any(e["status"] not in {"skipped", "not run"} for e in made["stages"].values()):
        try:
            made["mlflow"] = kernels.nursery().call(
                "mlops_kit.pipeline.run:mirrored",
                str(chain.project.root),
                str(folder),
                dead,
                cwd=str(chain.project.root),
                log=str(folder / "logs" / "mlflow.stderr"),
            )
            made.pop("unrecorded", None)
        except RunFailed as error:
            made["unrecorded"] = str(error)
        manifest.write(folder, made)
    for log in (folder / "logs").iterdir():
        if not log.stat().st_size:
            log.unlink()
    report.write(folder, made)


def mirrored(root: str, folder: str, dead: list[str]) -> dict[str, str]:
    """File a run in MLflow, and first those that were killed; the ids of its runs there."""
    from mlops_kit import tracking

    for old in map(Path, dead):
        made, project = manifest.read(old), stages.recorded(configs.load(root), old)
        manifest.write(old, {**made, "mlflow": tracking.log_run(project, made)})
        tracking.end_left(project, old.name)
    project = stages.recorded(configs.load(root), Path(folder))
    ids = tracking.log_run(project, manifest.read(Path(folder)))
    tracking.end_left(project, Path(folder).name)  # by a kill while it was filed
    return ids


def failure(made: dict[str, Any]) -> KitError | None:
    """The error to leave a failed run with; None for one that ended well."""
    if made.get(
        "nothing_to_do"
    ):  # what was asked for is there, whatever became of the rest of that run
        return None
    if made["status"] == "succeeded":
        return (
            RunFailed(
                f"the run succeeded, but MLflow could not be told: {made['unrecorded']}",
                cure="mend what it names; the next run is recorded again",
            )
            if made.get("unrecorded")
            else None
        )
    if made["status"] == WAITING:
        return Waiting(
            f"run {made['run']} waits for an approval",
            "somebody who looks at its page and its model card",
            f'mlops approve {made["run"]} --reason "why", or mlops reject {made["run"]} --reason "why"',
        )
    for name, entry in made["stages"].items():
        if entry["status"] in ENDS and entry["status"] != WAITING and entry.get("error"):
            return RunFailed(
                f"{name} {'' if entry['status'] == 'failed' else 'was ' if entry['status'] in {'killed', 'interrupted'} else ''}{manifest.words(entry)}: {entry['error']['message']}",
                cure=f"look at the run's page or mlops logs {name}, mend what it names, then: mlops run",
            )
    for branch in made.get("branches", []):
        if branch["status"] in ENDS:
            return RunFailed(
                f"branch {branch['name']} {branch['status']}: {branch['said']}",
                cure="look at its page, mend what it names, then run again: what succeeded is skipped",
            )
    return RunFailed(f"the run was {made['status']}", cure="mlops run goes on where it stopped")
