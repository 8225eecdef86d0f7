"""Run completion."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import RunFailedError
from mlops_kit.pipeline import kernel_pool
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.project import loader, run_folder, run_manifest


def render_stage_page(chain: ActiveRun, notebook: Path) -> None:
    """Draw a notebook's page, in a fork that has what it takes."""
    kernel_pool.get_fork_server().call_function(
        "mlops_kit.pipeline.report:write_notebook_page_in_fork",
        str(notebook),
        cwd=str(chain.project.root),
        log=str(chain.folder / "logs" / "pages.stderr"),
    )


def finish_run(chain: ActiveRun, dead: list[str]) -> None:
    """Mirror the run in MLflow, and those that were found killed, and draw its page; neither undoes the run if it fails."""
    from mlops_kit.pipeline import report

    made, folder = chain.manifest, chain.folder
    chain.report_progress("pages and record …", transient=True)
    chain.page_executor.shutdown(wait=True)
    (folder / run_manifest.DISK_RESERVE_FILE).unlink(missing_ok=True)
    run_manifest.write_manifest(folder, made)
    chain.file_hashes.save_cache()
    for failed in filter(None, (f.exception() for f in chain.page_futures)):
        chain.report_progress(f"a page could not be drawn: {failed}")
    if any(e["status"] not in {"skipped", "not run"} for e in made["stages"].values()):
        try:
            made["mlflow"] = kernel_pool.get_fork_server().call_function(
                "mlops_kit.pipeline.run_completion:record_in_mlflow",
                str(chain.project.root),
                str(folder),
                dead,
                cwd=str(chain.project.root),
                log=str(folder / "logs" / "mlflow.stderr"),
            )
            made.pop("unrecorded", None)
        except RunFailedError as error:
            made["unrecorded"] = str(error)
        run_manifest.write_manifest(folder, made)
    for log in (folder / "logs").iterdir():
        if not log.stat().st_size:
            log.unlink()
    report.write_run_index(folder, made)


def record_in_mlflow(root: str, folder: str, dead: list[str]) -> dict[str, str]:
    """File a run in MLflow, and first those that were killed; the ids of its runs there."""
    from mlops_kit.registry import run_log

    for old in map(Path, dead):
        made, project = (
            run_manifest.read_manifest(old),
            run_folder.load_recorded_project(loader.load_project(root), old),
        )
        run_manifest.write_manifest(
            old, {**made, "mlflow": run_log.log_pipeline_run(project, made)}
        )
        run_log.end_abandoned_runs(project, old.name)
    project = run_folder.load_recorded_project(loader.load_project(root), Path(folder))
    ids = run_log.log_pipeline_run(project, run_manifest.read_manifest(Path(folder)))
    run_log.end_abandoned_runs(project, Path(folder).name)  # by a kill while it was filed
    return ids
