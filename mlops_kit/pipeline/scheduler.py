"""Start the stages of a run, each as soon as the stages that it needs are completed."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from mlops_kit.core.files import write_text
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.pipeline.carry_over import carry_over_stage
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import hash_code_origins
from mlops_kit.pipeline.history import find_carried_stage
from mlops_kit.pipeline.object_store import store_used_files
from mlops_kit.pipeline.param_types import encode_value
from mlops_kit.pipeline.plan import PlanAction, PlannedStage, is_draft, plan_stage
from mlops_kit.pipeline.run_completion import render_stage_page
from mlops_kit.pipeline.stage_runner import run_stage
from mlops_kit.project.config.pipeline import order_stages
from mlops_kit.project.run_manifest import NOT_SELECTED_REASON, StageStatus, format_current_time

_MEMORY_SAFETY_FACTOR = 1.5  # free memory required, relative to the peak of the stage's last run


def run_all_stages(active: ActiveRun) -> None:
    """Run all stages that are not run yet, as many at once as cores and memory allow."""
    stages = order_stages(active.project.config.stages)
    pending = [
        stage for stage in stages if active.get_stage_entry(stage).status == StageStatus.NOT_RUN
    ]
    max_jobs = active.project.config.run.jobs or os.cpu_count() or 1
    running: dict[Future[None], str] = {}
    executor = ThreadPoolExecutor(max_jobs, thread_name_prefix="stage")
    try:
        while pending or running:
            _start_ready_stages(active, pending, running, executor, max_jobs)
            if not running:
                continue
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                del running[future]
                future.result()
    except BaseException:
        active.stop_event.set()
        raise
    finally:
        executor.shutdown(wait=True)


def _start_ready_stages(
    active: ActiveRun,
    pending: list[str],
    running: dict[Future[None], str],
    executor: ThreadPoolExecutor,
    max_jobs: int,
) -> None:
    """Start the pending stages that do not have to wait; update ``pending`` and ``running``."""
    config = active.project.config
    unfinished = {*pending, *running.values()}
    ready = [stage for stage in pending if not unfinished & set(config.stages[stage].needs)]
    for stage in ready:
        if running and not _has_capacity(active, stage, len(running), max_jobs):
            return
        pending.remove(stage)
        if _prepare_stage(active, stage):
            future = executor.submit(run_stage, active, stage)
            running[future] = stage


def _has_capacity(
    active: ActiveRun,
    stage: str,
    running_count: int,
    max_jobs: int,
) -> bool:
    """Return whether a core and the memory that the stage used last time are free."""
    import psutil  # here: its import is a noticeable part of a command that runs nothing

    last_entry = active.history.get_last_completed(stage)
    peak_bytes = last_entry.peak_bytes if last_entry else 0
    available_bytes = psutil.virtual_memory().available
    return running_count < max_jobs and available_bytes > _MEMORY_SAFETY_FACTOR * peak_bytes


def _prepare_stage(active: ActiveRun, stage: str) -> bool:
    """Return whether a stage has to be executed.

    A stage that is skipped, carried over, blocked or left to the branches is recorded here.
    """
    current = CurrentProject(active.project, active.file_hashes)
    if stage in active.manifest.branching_stages:
        active.update_stage(
            stage,
            status=StageStatus.NOT_RUN,
            reason="in its branches",
        )
        return False
    if stage not in active.parameter_values:
        _carry_over_unselected_stage(active, current, stage)
        return False
    for need in active.project.config.stages[stage].needs:
        if not active.get_stage_entry(need).is_completed:
            active.update_stage(stage, reason=f"needs {need}")
            active.report_progress(f"{stage}: not run, it needs {need}")
            return False
    planned = plan_stage(
        current,
        active.history,
        stage,
        active.parameter_values[stage],
        active.collect_inputs(),
        active.force,
    )
    if planned.action == PlanAction.SKIP:
        _skip_stage(active, planned)
        return False
    active.update_stage(
        stage,
        status=StageStatus.RUNNING,
        started=format_current_time(),
        reasons=list(planned.reasons),
        params=encode_value(active.parameter_values[stage]),
        code_origins=hash_code_origins(current),
    )
    active.report_progress(f"{stage} … {planned.summary}", transient=True)
    return True


def _carry_over_unselected_stage(
    active: ActiveRun,
    current: CurrentProject,
    stage: str,
) -> None:
    """Carry a stage that was not selected over from an earlier run, if one has it intact."""
    carried = find_carried_stage(current, active.history, stage)
    if carried is None:
        active.update_stage(
            stage,
            status=StageStatus.NOT_RUN,
            reason=NOT_SELECTED_REASON,
        )
        return
    folder, entry = carried
    carry_over_stage(active, stage, folder, entry, f"as in {folder.name}", is_selected=False)


def _skip_stage(active: ActiveRun, planned: PlannedStage) -> None:
    """Carry over a stage that is up to date, from a run or from the draft."""
    if planned.origin is None or planned.entry is None:
        raise ValueError(f"{planned.stage} is skipped without a run to carry it over from")
    carry_over_stage(active, planned.stage, planned.origin, planned.entry, planned.summary)
    if is_draft(planned.origin):
        source = active.project.get_notebook_path(planned.stage)
        target = active.get_notebook_target(planned.stage)
        write_text(target, source.read_text(encoding="utf-8"))
        if planned.entry.dependencies is not None:
            store_used_files(active.project, planned.entry.dependencies)
        active.page_futures.append(active.page_executor.submit(render_stage_page, active, target))
    active.report_progress(f"{planned.stage}: skipped, {planned.summary}")
