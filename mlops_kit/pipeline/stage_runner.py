"""Stage runner."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.errors import RunFailedError
from mlops_kit.pipeline import (
    current_project,
    fingerprint,
    history,
    kernel_pool,
    object_store,
    stage_dependencies,
)
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.pipeline.run_completion import render_stage_page
from mlops_kit.project import artifacts, run_folder, run_manifest
from mlops_kit.project.run_folder import STATUS_WAITING_FOR_APPROVAL

_SCRUBBED_RECORD_KEYS = ("sentence", "logged", "verdicts")  # of a stage's record, what people read


def run_stage(chain: ActiveRun, stage: str) -> None:
    """Run a stage, again if it says so, and record how it ended."""
    held, begin = chain.project.config.stages[stage], time.perf_counter()
    for attempt in range(held.retries + 1):
        end, used = _execute_notebook(chain, stage)
        if (
            end["status"]
            in {"succeeded", "stopped early", "interrupted", STATUS_WAITING_FOR_APPROVAL}
            or attempt == held.retries
        ):
            break
        pause = held.backoff.total_seconds() * 2**attempt
        chain.report_progress(
            f"{stage}: {run_manifest.describe_status(end)}, {end['error']['message']}; again in {pause:g} s ({attempt + 1} of {held.retries})"
        )
        if chain.stop_event.wait(pause):
            break
    record = run_folder.read_stage_records(chain.folder).get(stage, {})
    facts: dict[str, Any] = {
        "sentence": record.get("sentence", ""),
        **{k: record[k] for k in ("logged", "artifacts", "mlflow_run") if k in record},
    }
    for made in facts.get("artifacts", {}).values():
        chain.file_hashes.add_known_hash(chain.folder / made["path"], made["sha256"])
    if end["status"] == "succeeded" and used is not None:
        facts["trace"] = _collect_stage_dependencies(chain, stage, record, used)
        facts["fingerprint"] = fingerprint.compute_fingerprint(facts["trace"])
        object_store.store_used_files(chain.project, facts["trace"])
    chain.update_stage(
        stage, **end, seconds=round(time.perf_counter() - begin, 2), attempts=attempt + 1, **facts
    )
    entry = chain.get_stage_entry(stage)
    place = (
        f" in cell {entry['error']['cell']}"
        if entry["error"] and entry["error"].get("cell")
        else ""
    )
    said = entry["sentence"] if end["status"] == "succeeded" else entry["error"]["message"]
    chain.report_progress(
        f"{stage}: {run_manifest.describe_status(entry)}{place if end['status'] != STATUS_WAITING_FOR_APPROVAL else ''} in {entry['seconds']:.0f} s. {said}"
    )


def _collect_stage_dependencies(
    chain: ActiveRun, stage: str, record: Mapping[str, Any], used: Mapping[str, Any]
) -> run_manifest.StageDependencies:
    """The parts of a stage that has just run; one that read nothing through its handle hangs on all that its needs hand on."""
    there = chain.collect_inputs()
    read = [n for n in record.get("read", {}) if n in there]
    needs = [
        n
        for need in chain.project.config.stages[stage].needs
        for n in history.get_content_hashes(chain.get_stage_entry(need))
    ]
    inputs = {
        n: str(there[n]) for n in [*(read or needs), *filter(artifacts.is_project_file_name, needs)]
    }  # a file can be read past the handle
    ran = current_project.hash_code_cells(
        chain.folder / "notebooks" / chain.project.get_notebook_path(stage).name
    )
    return stage_dependencies.collect_dependencies(
        current_project.CurrentProject(chain.project, chain.file_hashes),
        stage,
        chain.parameter_values[stage],
        {**used, "cells": ran},
        inputs,
    )


def _execute_notebook(
    chain: ActiveRun, stage: str
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Run a stage's notebook once; how it ended (status, detail, error, peak), and what its kernel used."""
    import nbformat
    import papermill

    from mlops_kit.pipeline import kernel_watchdog, notebook_outcome, papermill_engine
    from mlops_kit.project import secrets

    papermill_engine.register_engine()
    project, folder, held = chain.project, chain.folder, chain.project.config.stages[stage]
    source = project.get_notebook_path(stage)
    target, log = folder / "notebooks" / source.name, folder / "logs" / f"{stage}.stderr"
    log.write_bytes(b"")
    record = folder / run_folder.STAGE_RECORDS_FOLDER / f"{stage}.json"
    record.unlink(missing_ok=True)
    used: list[Mapping[str, Any] | None] = []
    begin = time.time()
    scrub = secrets.make_scrubber(project)
    limits = kernel_watchdog.KernelLimits(
        _to_seconds(held.cell_timeout),
        _to_seconds(held.timeout),
        held.memory,
        project.config.run.kernel_start_timeout.total_seconds(),
    )
    try:
        papermill.execute_notebook(
            nbformat.read(source, as_version=4),
            None,
            parameters=chain.parameter_values[stage],
            engine_name=papermill_engine.ENGINE_NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_target=str(target),
            kernel_reserve=folder / run_manifest.DISK_RESERVE_FILE,
            kernel_env=kernel_pool.build_kernel_environment(folder, project.root),
            kernel_cwd=str(project.root),
            kernel_log=str(log),
            kernel_limits=limits,
            kernel_stop=chain.stop_event,
            kernel_scrub=scrub,
            kernel_plain=project.config.run.kernels == "cold",
            kernel_used=used.append,
            kernel_progress=_make_progress_callback(chain, stage),
            kernel_check=lambda: _check_outputs(chain, stage, begin),
        )
        end = notebook_outcome.NotebookOutcome(
            **nbformat.read(target, as_version=4).metadata["mlops"]
        )
    except notebook_outcome.NotebookExecutionError as stopped:
        end = stopped.outcome
    except (RunFailedError, OSError) as error:
        end = notebook_outcome.NotebookOutcome("failed", type(error).__name__, scrub(str(error)))
    _scrub_stage_files(log, record, scrub)
    if target.exists():
        chain.page_futures.append(chain.page_executor.submit(render_stage_page, chain, target))
    return _describe_notebook_end(end), used[0] if used else None


def _to_seconds(limit: timedelta | None) -> float | None:
    """A limit in seconds."""
    return None if limit is None else limit.total_seconds()


def _check_outputs(chain: ActiveRun, stage: str, begin: float) -> str:
    """What a stage promised and did not hand on; files that it wrote into the project are taken into the run."""
    folder, project = chain.folder, chain.project
    writes = project.config.stages[stage].writes
    record = run_folder.read_stage_records(folder).get(stage)
    if (
        record is not None
        and not record.get("done")
        or record is None
        and any(not artifacts.is_project_file_name(w) for w in writes)
    ):
        return "the notebook ended without stage.hand_over(…)"
    made = []
    for name in filter(artifacts.is_project_file_name, writes):
        path = project.resolve_path(name)
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
        made.append(artifacts.copy_file_artifact(folder, stage, name, path))
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
        files.write_json(folder / run_folder.STAGE_RECORDS_FOLDER / f"{stage}.json", record)
    return ""


def _make_progress_callback(chain: ActiveRun, stage: str) -> Any:
    """What is told at each cell: where it is, and how long it may take from what it took the last time."""
    last, begin = (
        next((e.get("seconds", 0.0) for _, e in chain.history.iterate_completed(stage)), 0.0),
        time.monotonic(),
    )

    def tell(cell: int, cells: int) -> None:
        left = last - (time.monotonic() - begin)
        chain.report_progress(
            f"{stage}: cell {cell} of {cells}" + (f", about {left:.0f} s left" if left > 1 else ""),
            transient=True,
        )

    return tell


def _scrub_stage_files(log: Path, record: Path, scrub: Any) -> None:
    """Take secrets out of what a kernel has said and a stage recorded for people; one that said nothing leaves no file."""
    from mlops_kit.project import secrets

    if record.exists():
        files.write_json(
            record,
            {
                k: secrets.scrub_text_values(v, scrub) if k in _SCRUBBED_RECORD_KEYS else v
                for k, v in files.read_json(record).items()
            },
        )
    text = log.read_text(encoding="utf-8", errors="replace")
    if not text:
        log.unlink()
    elif scrub(text) != text:
        files.write_text(log, scrub(text))


def _describe_notebook_end(end: Any) -> dict[str, Any]:
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
    status = STATUS_WAITING_FOR_APPROVAL if end.type == "Waiting" else end.status
    error = {
        "type": end.type,
        "message": told if plainly else f"{end.type}: {told}".removesuffix(": "),
        "cell": end.cell,
        "line": end.line,
        "source": end.source,
        "traceback": end.traceback,
    }
    return {"status": status, "detail": end.detail, "error": error, "peak": end.peak}
