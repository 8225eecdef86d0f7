"""Metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide
from mlops_kit.pipeline.compare.values import compare_values, keep_common_names
from mlops_kit.project import artifacts, run_folder


def compare_logged_numbers(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """Numbers that the stages logged, but for those judged with the metrics; without an interval nobody can tell whether a difference matters."""
    judged = {f"review.{n}" for side in (a, b) for n in _read_review_metrics(side)}
    sides = [
        {
            k: v
            for s, e in m.stages.items()
            for n, v in e.logged.items()
            if (k := f"{s}.{n}") not in judged
        }
        for _, m, _ in (a, b)
    ]
    for row in compare_values("logged numbers", *sides):
        yield ComparisonRow(
            row.section, row.name, row.old, row.new, None, "no interval to judge it by"
        )


def _read_review_metrics(side: RunSide) -> dict[str, dict[str, Any]]:
    """The review's metrics by name: value, low, high."""
    known = run_folder.list_artifacts(side[0])
    return (
        {
            r["metric"]: r
            for r in artifacts.read_artifact(side[0], known["metrics"]).data.to_dict("records")
        }
        if "metrics" in known
        else {}
    )


def compare_metrics(a: RunSide, b: RunSide) -> Iterator[ComparisonRow]:
    """The review's metrics, with whether a difference is more than noise."""
    found = [_read_review_metrics(side) for side in (a, b)]
    paired = _compute_paired_gains(a, b, [*keep_common_names(*found)[0]])
    for name in dict.fromkeys([*found[0], *found[1]]):
        old, new = (f.get(name) for f in found)
        before, now = (
            f"{format_number(m['value'])} [{format_number(m['low'])}, {format_number(m['high'])}]"
            if m
            else NOT_THERE
            for m in (old, new)
        )
        same, says = (
            _explain_metric_difference(old, new, paired.get(name)) if old and new else (False, "")
        )
        yield ComparisonRow("metrics", name, before, now, same, says)


def _explain_metric_difference(
    old: dict[str, Any], new: dict[str, Any], gain: Interval | None
) -> tuple[bool | None, str]:
    """Whether a metric is the same but for noise, None if it cannot be told, and why; ``gain`` is the paired one."""
    if old["value"] == new["value"]:
        return True, "equal"
    if (
        gain is not None
        and gain.value is not None
        and gain.low is not None
        and gain.high is not None
    ):
        clear = gain.low > 0 or gain.high < 0
        size = gain if gain.value > 0 else Interval(-gain.value, -gain.high, -gain.low)
        return (
            not clear,
            f"{'better' if gain.value > 0 else 'worse'} by {size} on the same rows, {'more than' if clear else 'no more than'} noise",
        )
    if any(pd.isna(m[end]) for m in (old, new) for end in ("low", "high")):
        return None, "no interval to judge it by"
    apart = old["low"] > new["high"] or new["low"] > old["high"]
    return (
        (False, "not the same rows: the intervals lie apart")
        if apart
        else (None, "not the same rows: the intervals overlap, so nobody can tell")
    )


def _compute_paired_gains(a: RunSide, b: RunSide, names: list[str]) -> dict[str, Interval]:
    """How much better the new run is, by metric, where both judged the same rows, in whatever order; empty where they did not."""
    from mlops_kit.stats import bootstrap, metrics

    found = [run_folder.list_artifacts(f) for f, _, _ in (a, b)]
    if not names or not all("held_out_scores" in f for f in found):
        return {}
    config = b[2]
    keys = [*config.id] or ["row_id"]
    old, new = (
        artifacts.read_artifact(f, k["held_out_scores"])
        for (f, _, _), k in zip((a, b), found, strict=True)
    )
    if not {*keys, config.target, "score"} <= set(old) & set(new):
        return {}
    old, new = (f.sort_values(keys, ignore_index=True) for f in (old, new))
    if not old[[*keys, config.target]].equals(new[[*keys, config.target]]):
        return {}
    blocks = (
        pd.to_datetime(new[config.time], utc=True).dt.tz_convert(config.timezone).dt.date
        if config.time in new
        else None
    )
    return bootstrap.compute_paired_differences(
        [n for n in names if n in metrics.METRICS],
        new[config.target],
        new["score"],
        old["score"],
        blocks,
        config.review.draws,
        config.seed,
    )
