"""What follows the stages of a run: pages, the record in MLflow, the index page."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import RunFailedError
from mlops_kit.pipeline import kernel_pool
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.project.loader import load_project
from mlops_kit.project.run_folder import load_recorded_project
from mlops_kit.project.run_manifest import DISK_RESERVE_FILE, read_manifest, write_manifest


def render_stage_page(active: ActiveRun, notebook: Path) -> None:
    """Render the HTML page of an executed notebook in a fork, which has the libraries loaded."""
    kernel_pool.get_fork_server().call_function(
        "mlops_kit.pipeline.report:write_notebook_page_in_fork",
        str(notebook),
        cwd=str(active.project.root),
        log=str(active.folder / "logs" / "pages.stderr"),
    )


def finish_run(active: ActiveRun, killed_runs: list[str]) -> None:
    """Write the manifest, record the run in MLflow and write its index page.

    Neither a page that cannot be rendered nor an error of MLflow fails the run: both are reported.

    Parameters
    ----------
    killed_runs : list of str
        Folders of earlier runs that were found killed and have yet to be recorded in MLflow.
    """
    from mlops_kit.pipeline import report  # here: a run with nothing to do does not need it

    manifest, folder = active.manifest, active.folder
    active.report_progress("pages and record …", transient=True)
    active.page_executor.shutdown(wait=True)
    (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
    write_manifest(folder, manifest)
    active.file_hashes.save_cache()
    for future in active.page_futures:
        error = future.exception()
        if error is not None:
            active.report_progress(f"a page could not be rendered: {error}")
    if any(entry.is_logged_with_run for entry in manifest.stages.values()):
        _record_run(active, killed_runs)
    for log in (folder / "logs").iterdir():
        if not log.stat().st_size:
            log.unlink()
    report.write_run_index(folder, manifest)


def _record_run(active: ActiveRun, killed_runs: list[str]) -> None:
    """Record the run in MLflow, in a fork; an error is noted in the manifest."""
    manifest, folder = active.manifest, active.folder
    try:
        manifest.mlflow = kernel_pool.get_fork_server().call_function(
            "mlops_kit.pipeline.run_completion:record_in_mlflow",
            str(active.project.root),
            str(folder),
            killed_runs,
            cwd=str(active.project.root),
            log=str(folder / "logs" / "mlflow.stderr"),
        )
        manifest.mlflow_error = None
    except RunFailedError as error:
        manifest.mlflow_error = str(error)
    write_manifest(folder, manifest)


def record_in_mlflow(
    root: str,
    folder: str,
    killed_runs: list[str],
) -> dict[str, str]:
    """Record a run in MLflow, after the runs that were killed; called in a fork.

    Returns
    -------
    dict
        The MLflow run ids of the run and of its stages.
    """
    from mlops_kit.registry import run_log  # here: it imports MLflow

    for killed_run in map(Path, killed_runs):
        project = load_recorded_project(load_project(root), killed_run)
        manifest = read_manifest(killed_run)
        manifest.mlflow = run_log.log_pipeline_run(project, manifest)
        write_manifest(killed_run, manifest)
        run_log.end_abandoned_runs(project, killed_run.name)
    run = Path(folder)
    project = load_recorded_project(load_project(root), run)
    mlflow_ids = run_log.log_pipeline_run(project, read_manifest(run))
    run_log.end_abandoned_runs(project, run.name)  # left by a kill while the run was recorded
    return mlflow_ids
