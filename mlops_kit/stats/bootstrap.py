"""Bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import np
from mlops_kit.core.results import Interval
from mlops_kit.stats.metrics import METRICS

MIN_BLOCKS = 5  # below, a resampling of blocks says little more than their number


def draw_row_counts(rows: int, blocks: Any, draws: int, seed: int) -> Iterator[np.ndarray]:
    """Counts of each row in each bootstrap draw; rows are drawn, or whole blocks."""
    rng = np.random.default_rng(seed)
    codes = (
        np.arange(rows) if blocks is None else np.unique(np.asarray(blocks), return_inverse=True)[1]
    )
    count = int(codes.max()) + 1
    for _ in range(draws):
        yield np.bincount(rng.integers(0, count, count), minlength=count).astype(float)[codes]


def _align_scores(
    y: Any, scores: list[Any], blocks: Any
) -> tuple[np.ndarray, list[np.ndarray], Any]:
    """The rows in which label and all scores are finite, sorted by the first score (each draw's sort is then cheap)."""
    y, scores = np.asarray(y, dtype=float), [np.asarray(s, dtype=float) for s in scores]
    for score in scores:
        if score.shape != y.shape:
            raise KitError(
                f"{len(y)} labels and {len(score)} scores",
                "one score a label",
                "score the same rows",
            )
    finite = np.flatnonzero(np.isfinite(y) & np.all([np.isfinite(s) for s in scores], axis=0))
    kept = finite[np.argsort(scores[0][finite], kind="stable")]
    return y[kept], [s[kept] for s in scores], None if blocks is None else np.asarray(blocks)[kept]


def _compute_percentile_interval(point: float, drawn: list[float]) -> Interval:
    """The 95 % interval between the percentiles of what was drawn; without ends if most draws say nothing."""
    known = [d for d in drawn if math.isfinite(d)]
    if not math.isfinite(point) or not known or len(known) < len(drawn) / 2:
        return Interval(point if math.isfinite(point) else None)
    return Interval(point, *map(float, np.quantile(known, [0.025, 0.975])))


def bootstrap_statistics(
    measured: Callable[[np.ndarray], dict[str, float]],
    rows: int,
    blocks: Any,
    draws: int,
    seed: int,
) -> dict[str, Interval]:
    """What is measured of weighted rows, each with its interval; without one if there is too little to resample."""
    drawable = rows > 1 if blocks is None else len(np.unique(blocks)) >= MIN_BLOCKS
    points, drawn = (
        measured(np.ones(rows)),
        [measured(w) for w in draw_row_counts(rows, blocks, draws, seed)] if drawable else [],
    )
    return {n: _compute_percentile_interval(p, [d[n] for d in drawn]) for n, p in points.items()}


def compute_metric_intervals(
    names: Iterable[str], y: Any, score: Any, blocks: Any = None, draws: int = 500, seed: int = 0
) -> dict[str, Interval]:
    """Metrics with percentile bootstrap intervals (Efron & Tibshirani 1993, ch. 13).

    Rows of one day share its weather and its traffic: drawn one by one they would promise too much.
    Where ``blocks`` is given whole blocks are drawn instead (ch. 8.6), and all metrics see the same draws.

    Parameters
    ----------
    names : iterable of str
        Registered metrics.
    y, score : array-like, shape (rows,)
        Labels and scores; rows where either is missing are left out.
    blocks : array-like, optional
        What rows are drawn together, such as the day. With fewer than 5 blocks there is no interval.

    Returns
    -------
    dict of str to Interval
        ``value`` is None where the metric cannot be computed, ``low`` and ``high`` where nothing can be drawn.
    """
    chosen = {n: METRICS[n].function for n in names}
    y, (score,), blocks = _align_scores(y, [score], blocks)
    return bootstrap_statistics(
        lambda weights: {n: f(y, score, None, weights) for n, f in chosen.items()},
        len(y),
        blocks,
        draws,
        seed,
    )


def compute_ratio_interval(
    over: Any, under: Any, blocks: Any = None, draws: int = 500, seed: int = 0
) -> Interval:
    """The sum of ``over`` by the sum of ``under``, with a percentile bootstrap interval.

    A mean where ``under`` is one for each row, a share among some rows where it is one for these
    (precision: hits by flagged). Blocks are drawn as in ``intervals``.
    """
    over, under = np.asarray(over, dtype=float), np.asarray(under, dtype=float)

    def value(weights: Any) -> dict[str, float]:
        total = float((weights * under).sum())
        return {"": float((weights * over).sum()) / total if total > 0 else math.nan}

    return bootstrap_statistics(value, len(over), blocks, draws, seed)[""]


def compute_paired_differences(
    names: Iterable[str],
    y: Any,
    a: Any,
    b: Any,
    blocks: Any = None,
    draws: int = 500,
    seed: int = 0,
) -> dict[str, Interval]:
    """How much better ``a`` is than ``b`` on the same rows, by metric, with paired bootstrap intervals.

    Each draw holds the same rows for both, and for all metrics, so that what is hard for both cancels
    out (Efron & Tibshirani 1993, ch. 8). Positive means that ``a`` is better, also for a metric of which
    less is better. Noise adds to the calibration error of both, so a difference in it is understated.

    Returns
    -------
    dict of str to Interval
        ``value`` is None where a metric cannot be computed, ``low`` and ``high`` where nothing can be drawn.
    """
    chosen = {n: METRICS[n] for n in names}
    y, (a, b), blocks = _align_scores(y, [a, b], blocks)
    order = np.argsort(b, kind="stable")  # the sort in each draw is then cheap for both
    y_b, b = y[order], b[order]

    def gains(weights: np.ndarray) -> dict[str, float]:
        return {
            n: m.compute_gain(
                m.function(y, a, None, weights), m.function(y_b, b, None, weights[order])
            )
            for n, m in chosen.items()
        }

    return bootstrap_statistics(gains, len(y), blocks, draws, seed)


def compute_paired_difference(
    name: str, y: Any, a: Any, b: Any, blocks: Any = None, draws: int = 500, seed: int = 0
) -> Interval:
    """How much better ``a`` is than ``b`` in one metric; as of ``paired_differences``."""
    return compute_paired_differences([name], y, a, b, blocks, draws, seed)[name]
