"""Run summary."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import align_columns
from mlops_kit.core.results import Interval, Verdicts
from mlops_kit.pipeline import report
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.loader import Project

_IDLE_STATUSES = {"skipped", "not run"}  # stages that took no time of their own


def summarize_runs(project: Project, last: int) -> list[dict[str, Any]]:
    """The last runs in short, the newest first; ``serves`` marks the one whose version serves."""
    found = [
        _summarize_run(project, run)
        for run in run_folder.list_run_folders(project.reports_folder)[:last]
    ]
    from mlops_kit.db import approvals

    promoted = approvals.list_promotions(project)
    serving = promoted[0].version if promoted else None
    first = min((p.promoted_at for p in promoted if p.version == serving), default="")
    maker = next(
        (f["run"] for f in found if serving and f["version"] == serving and f["started"] <= first),
        "",
    )
    return [{**f, "serves": f["run"] == maker} for f in found]


def _summarize_run(project: Project, run: Path) -> dict[str, Any]:
    """One run: verdict as its page words it, headline metric, seconds of work, stages, version, note."""
    made = run_manifest.read_manifest(run)
    entries = list(made["stages"].values())
    ended = Counter(e["status"] for e in entries)
    verdicts = run_folder.read_stage_records(run).get("review", {}).get("verdicts", [])
    return {
        "run": made["run"],
        "started": made["started"],
        "status": made["status"],
        "verdict": report.build_headline(
            made, Verdicts.from_verdicts(map(report.revive_verdict, verdicts))
        )[0],
        "metric": _read_headline_metric(run, project.config.headline_metric),
        "seconds": round(
            sum(e.get("seconds", 0) for e in entries if e["status"] not in _IDLE_STATUSES), 1
        ),
        "ran": len(entries) - sum(ended[s] for s in _IDLE_STATUSES),
        "skipped": ended["skipped"],
        "version": read_run_version(run, made),
        "note": made["note"],
    }


def _read_headline_metric(run: Path, name: str) -> dict[str, Any] | None:
    """A metric of a run with the ends of its interval, as its review filed it; None if it has not."""
    file = run / "artifacts" / "metrics.json"
    held = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    if not isinstance(held, dict) or held.get("__kind__") != "Table":
        return None
    table = held["data"]["__frame__"]  # read plainly: a frame would load pandas
    rows = {r[0]: dict(zip(table["columns"], r, strict=True)) for r in table["rows"]}
    return (
        {"name": name, **{k: rows[name].get(k) for k in ("value", "low", "high")}}
        if name in rows
        else None
    )


def read_run_version(run: Path, made: dict[str, Any]) -> str | None:
    """The version that a run's own review registered or judged anew; None if its review was carried over."""
    file = run / "artifacts" / "version.json"
    if (
        made["stages"].get("review", {}).get("status", "not run") in _IDLE_STATUSES
        or not file.exists()
    ):
        return None
    number = json.loads(file.read_text(encoding="utf-8")).get("version")
    return None if number is None else str(number)


def format_run_summaries(found: list[dict[str, Any]]) -> str:
    """Runs as a table in text, a line a run."""
    rows = [("run", "verdict", "metric", "took", "stages", "version", "note")]
    for f in found:
        measured = (
            f"{f['metric']['name']} {Interval(*(f['metric'][k] for k in ('value', 'low', 'high')))}"
            if f["metric"]
            else ""
        )
        served = f"{f['version'] or ''}{' serves' if f['serves'] else ''}"
        rows.append(
            (
                f["run"],
                f["verdict"],
                measured,
                f"{f['seconds']:.0f} s",
                f"{f['ran']} run, {f['skipped']} skipped",
                served,
                " ".join(f["note"].split()),
            )
        )
    return align_columns(rows)
