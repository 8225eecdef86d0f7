"""Comparison of the metrics and logged numbers of two runs, beyond noise where that is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, Difference, RunSide
from mlops_kit.pipeline.compare.values import compare_values
from mlops_kit.project.artifacts import read_artifact
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.run_folder import list_artifacts

_NO_INTERVAL = "no confidence interval to compare"
_ROW_ID_COLUMN = "row_id"


@dataclass(frozen=True)
class _Measurement:
    """A metric of the review with its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        return not (pd.isna(self.low) or pd.isna(self.high))

    def __str__(self) -> str:
        low = format_number(self.low)
        high = format_number(self.high)
        return f"{format_number(self.value)} [{low}, {high}]"


def compare_logged_numbers(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the numbers that stages logged and that differ, without the metrics of the review.

    They have no confidence interval, so it is unknown whether a difference matters.
    """
    metric_names = {*_read_review_metrics(old.folder), *_read_review_metrics(new.folder)}
    excluded = {f"review.{name}" for name in metric_names}
    rows = compare_values(
        "logged numbers",
        _collect_logged_numbers(old, excluded),
        _collect_logged_numbers(new, excluded),
    )
    for row in rows:
        yield replace(
            row,
            difference=Difference.UNKNOWN,
            explanation=_NO_INTERVAL,
        )


def _collect_logged_numbers(side: RunSide, excluded: set[str]) -> dict[str, Any]:
    """Return the logged numbers of all stages as ``stage.name``."""
    numbers = {}
    for stage, entry in side.manifest.stages.items():
        for name, value in entry.logged.items():
            if f"{stage}.{name}" not in excluded:
                numbers[f"{stage}.{name}"] = value
    return numbers


def _read_review_metrics(run: Path) -> dict[str, _Measurement]:
    """Read the metrics that the review of a run measured, by name; empty without a review."""
    artifact = list_artifacts(run).get("metrics")
    if artifact is None:
        return {}
    table = read_artifact(run, artifact).data
    metrics = {}
    for row in table.to_dict("records"):
        metrics[row["metric"]] = _Measurement(row["value"], row["low"], row["high"])
    return metrics


def compare_metrics(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the metrics of the review, with whether they differ beyond noise."""
    old_metrics = _read_review_metrics(old.folder)
    new_metrics = _read_review_metrics(new.folder)
    common = [name for name in old_metrics if name in new_metrics]
    gains = _compute_paired_gains(old, new, common)
    for name in dict.fromkeys([*old_metrics, *new_metrics]):
        old_metric = old_metrics.get(name)
        new_metric = new_metrics.get(name)
        difference, explanation = Difference.DIFFERENT, ""
        if old_metric is not None and new_metric is not None:
            difference, explanation = _explain_metric_difference(
                old_metric, new_metric, gains.get(name)
            )
        yield ComparisonRow(
            "metrics",
            name,
            NOT_THERE if old_metric is None else str(old_metric),
            NOT_THERE if new_metric is None else str(new_metric),
            difference,
            explanation,
        )


def _explain_metric_difference(
    old: _Measurement,
    new: _Measurement,
    gain: Interval | None,
) -> tuple[Difference, str]:
    """Return whether a metric differs beyond noise, and why.

    Parameters
    ----------
    old, new : _Measurement
        The metric in either run.
    gain : Interval or None
        How much better the new run is on the same rows, if both measured it on the same rows.
    """
    if old.value == new.value:
        return Difference.NONE, "equal"
    if gain is not None and gain.value is not None:
        explained = _explain_gain(gain.value, gain.low, gain.high)
        if explained is not None:
            return explained
    if not (old.has_interval and new.has_interval):
        return Difference.UNKNOWN, _NO_INTERVAL
    if old.low > new.high or new.low > old.high:
        return Difference.DIFFERENT, "not the same rows: the confidence intervals do not overlap"
    return Difference.UNKNOWN, "not the same rows: the confidence intervals overlap"


def _explain_gain(
    value: float,
    low: float | None,
    high: float | None,
) -> tuple[Difference, str] | None:
    """Return whether a gain on the same rows is more than noise; None without an interval."""
    if low is None or high is None:
        return None
    is_clear = low > 0 or high < 0
    if value > 0:
        change = f"better by {Interval(value, low, high)}"
    else:
        change = f"worse by {Interval(-value, -high, -low)}"
    if is_clear:
        return Difference.DIFFERENT, f"{change} on the same rows, more than noise"
    return Difference.NONE, f"{change} on the same rows, no more than noise"


def _compute_paired_gains(
    old: RunSide,
    new: RunSide,
    names: list[str],
) -> dict[str, Interval]:
    """Compute how much better the new run is, by metric, if both reviewed the same rows.

    The order of the rows does not matter. Empty if the rows are not the same.
    """
    from mlops_kit.stats import bootstrap, metrics

    config = new.config
    keys = [*config.id] or [_ROW_ID_COLUMN]
    if not names:
        return {}
    old_scores = _read_held_out_scores(old.folder, keys, config)
    new_scores = _read_held_out_scores(new.folder, keys, config)
    if old_scores is None or new_scores is None:
        return {}
    row_columns = [*keys, config.target]
    if not old_scores[row_columns].equals(new_scores[row_columns]):
        return {}
    blocks = None
    if config.validation.group in new_scores:
        blocks, _ = pd.factorize(new_scores[config.validation.group], use_na_sentinel=False)
    elif config.time in new_scores:
        times = pd.to_datetime(new_scores[config.time], utc=True)
        blocks = times.dt.tz_convert(config.timezone).dt.date.to_numpy()
    weights = None
    if config.weight in new_scores:
        weights = new_scores[config.weight].to_numpy(dtype=float)
    design = bootstrap.SamplingDesign(blocks, weights)
    return bootstrap.compute_paired_differences(
        [name for name in names if name in metrics.METRICS],
        new_scores[config.target],
        (new_scores["score"], old_scores["score"]),
        design,
        config.review.draws,
        config.seed,
    )


def _read_held_out_scores(
    run: Path,
    keys: list[str],
    config: ProjectConfig,
) -> pd.DataFrame | None:
    """Read the scores of a run's held-out rows, sorted by their keys.

    None if the run has none, or not with these columns.
    """
    artifact = list_artifacts(run).get("held_out_scores")
    if artifact is None:
        return None
    scores = read_artifact(run, artifact)
    if not {*keys, config.target, "score"} <= set(scores):
        return None
    sorted_scores: pd.DataFrame = scores.sort_values(keys, ignore_index=True)
    return sorted_scores
