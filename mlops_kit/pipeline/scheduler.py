"""Scheduler."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mlops_kit.core import files
from mlops_kit.pipeline import current_project, fingerprint, history, param_types, plan
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.pipeline.carry_over import carry_over_stage
from mlops_kit.pipeline.run_completion import render_stage_page
from mlops_kit.pipeline.stage_runner import run_stage
from mlops_kit.project import run_manifest
from mlops_kit.project.config.pipeline import order_stages
from mlops_kit.project.run_manifest import COMPLETED_STATUSES, NOT_SELECTED_REASON


def run_all_stages(chain: ActiveRun) -> None:
    """Take each stage when what it needs is done, as many at once as there is room for."""
    left = [
        s
        for s in order_stages(chain.project.config.stages)
        if chain.get_stage_entry(s)["status"] == "not run"
    ]
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
                if going and not _has_capacity(chain, stage, len(going), jobs):
                    break
                left.remove(stage)
                if _prepare_stage(chain, stage):
                    going[pool.submit(run_stage, chain, stage)] = stage
            done, _ = wait(going, return_when=FIRST_COMPLETED) if going else ((), ())
            for future in done:
                del going[future]
                future.result()
    except BaseException:
        chain.stop_event.set()
        raise
    finally:
        pool.shutdown(wait=True)


def _has_capacity(chain: ActiveRun, stage: str, going: int, jobs: int) -> bool:
    """Whether one more stage fits beside those that go on: a core, and the memory that it took the last time."""
    import psutil

    peak = next((e.get("peak", 0) for _, e in chain.history.iterate_completed(stage)), 0)
    return going < jobs and psutil.virtual_memory().available > 1.5 * peak


def _prepare_stage(chain: ActiveRun, stage: str) -> bool:
    """Whether a stage has to be run; one that is skipped, carried over or cannot run is dealt with here."""
    made, config = chain.manifest, chain.project.config
    blocked = [
        n
        for n in config.stages[stage].needs
        if made["stages"][n]["status"] not in COMPLETED_STATUSES
    ]
    now = current_project.CurrentProject(chain.project, chain.file_hashes)
    if stage in made.get("apart", ()):
        chain.update_stage(stage, status="not run", reason="in its branches")
        return False
    if stage not in chain.parameter_values:
        old = history.find_carried_stage(now, chain.history, stage)
        carry_over_stage(chain, stage, *old, f"as in {old[0].name}") if old else chain.update_stage(
            stage, status="not run", reason=NOT_SELECTED_REASON
        )
        return False
    if blocked:
        chain.update_stage(stage, reason=f"needs {blocked[0]}")
        chain.report_progress(f"{stage}: not run, it needs {blocked[0]}")
        return False
    found = plan.plan_stage(
        now,
        chain.history,
        stage,
        chain.parameter_values[stage],
        chain.collect_inputs(),
        chain.force,
    )
    if found.origin is not None and found.action == "skip":
        carry_over_stage(chain, stage, found.origin, found.entry, found.summary)
        if found.origin.name == "draft":
            files.write_text(
                chain.folder / "notebooks" / chain.project.get_notebook_path(stage).name,
                chain.project.get_notebook_path(stage).read_text(encoding="utf-8"),
            )
            chain.page_futures.append(
                chain.page_executor.submit(
                    render_stage_page,
                    chain,
                    chain.folder / "notebooks" / chain.project.get_notebook_path(stage).name,
                )
            )
        chain.report_progress(f"{stage}: skipped, {found.summary}")
        return False
    chain.update_stage(
        stage,
        status="running",
        started=run_manifest.format_current_time(),
        why=list(found.reasons),
        params=param_types.encode_value(chain.parameter_values[stage]),
        parts=fingerprint.hash_code_origins(now),
    )
    chain.report_progress(f"{stage} … {found.summary}", transient=True)
    return True
