"""One line per run: verdict, headline metric, time, stages, version, note (``mlops runs``)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import align_columns
from mlops_kit.core.results import Interval, Verdicts
from mlops_kit.db import approvals
from mlops_kit.pipeline import report
from mlops_kit.pipeline.run_decision import find_run_decision
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders, read_stage_records
from mlops_kit.project.run_manifest import RunManifest, StageStatus, read_manifest


@dataclass(frozen=True)
class MetricSummary:
    """The headline metric of a run with the ends of its confidence interval."""

    name: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class RunSummary:
    """One run in short.

    Attributes
    ----------
    verdict : str
        As the run's page shows it.
    seconds : float
        Time that its own stages took.
    ran, skipped : int
        Numbers of stages that were executed and skipped.
    version : str or None
        The model version that its own review registered or reviewed again.
    is_serving : bool
        Whether it made the version that is the champion.
    """

    run: str
    started: str
    status: str
    verdict: str
    metric: MetricSummary | None
    seconds: float
    ran: int
    skipped: int
    version: str | None
    note: str
    is_serving: bool = False

    def to_json_dict(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return asdict(self)


def summarize_runs(project: Project, last: int) -> list[RunSummary]:
    """Return the last runs in short, newest first."""
    folders = list_run_folders(project.reports_folder)[:last]
    summaries = [_summarize_run(project, folder) for folder in folders]
    promotions = approvals.list_promotions(project)
    if not promotions:
        return summaries
    champion = promotions[0].version
    first_promoted_at = min(
        promotion.promoted_at for promotion in promotions if promotion.version == champion
    )
    for position, summary in enumerate(summaries):
        # A later run may have reviewed the version again; it was made before its first promotion.
        if summary.version == champion and summary.started <= first_promoted_at:
            summaries[position] = replace(summary, is_serving=True)
            break
    return summaries


def _summarize_run(project: Project, folder: Path) -> RunSummary:
    """Return one run in short."""
    manifest = read_manifest(folder)
    entries = list(manifest.stages.values())
    executed = [entry for entry in entries if not entry.is_idle]
    stored_verdicts = read_stage_records(folder).get("review", {}).get("verdicts", [])
    verdicts = Verdicts.from_verdicts(map(report.revive_verdict, stored_verdicts))
    decision = find_run_decision(project, folder, manifest)
    return RunSummary(
        run=manifest.run,
        started=manifest.started,
        status=manifest.status,
        verdict=report.build_headline(manifest, verdicts, decision).badge,
        metric=_read_headline_metric(folder, project.config.headline_metric),
        seconds=round(sum(entry.seconds or 0 for entry in executed), 1),
        ran=len(executed),
        skipped=sum(entry.status == StageStatus.SKIPPED for entry in entries),
        version=read_run_version(folder, manifest),
        note=manifest.note,
    )


def _read_headline_metric(folder: Path, name: str) -> MetricSummary | None:
    """Return a metric as the run's review stored it; None if it did not."""
    file = folder / "artifacts" / "metrics.json"
    if not file.exists():
        return None
    stored = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(stored, dict) or stored.get("__kind__") != "Table":
        return None
    table = stored["data"]["__frame__"]  # as plain values: a data frame would import pandas
    for values in table["rows"]:
        if values[0] == name:
            row = dict(zip(table["columns"], values, strict=True))
            return MetricSummary(name, row.get("value"), row.get("low"), row.get("high"))
    return None


def read_run_version(folder: Path, manifest: RunManifest) -> str | None:
    """Return the version that a run's own review registered or reviewed again.

    None if the review was not run or carried over from another run.
    """
    file = folder / "artifacts" / "version.json"
    if manifest.get_stage("review").is_idle or not file.exists():
        return None
    number = json.loads(file.read_text(encoding="utf-8")).get("version")
    if number is None:
        return None
    return str(number)


def format_run_summaries(summaries: list[RunSummary]) -> str:
    """Return runs as a table in text, one line per run."""
    rows = [("run", "verdict", "metric", "took", "stages", "version", "note")]
    for summary in summaries:
        metric = ""
        if summary.metric is not None:
            interval = Interval(summary.metric.value, summary.metric.low, summary.metric.high)
            metric = f"{summary.metric.name} {interval}"
        version = summary.version or ""
        row = (
            summary.run,
            summary.verdict,
            metric,
            f"{summary.seconds:.0f} s",
            f"{summary.ran} run, {summary.skipped} skipped",
            f"{version} serves" if summary.is_serving else version,
            " ".join(summary.note.split()),
        )
        rows.append(row)
    return align_columns(rows)
