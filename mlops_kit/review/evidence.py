"""What the checks look at: the judged scores, put into numbers once.

Nothing here passes judgement; ``checks`` does. Rows of a day go together, so every interval is
resampled by the day of the project's zone where rows have a moment.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit import metrics
from mlops_kit.config import Config
from mlops_kit.errors import KitError
from mlops_kit.late import np, pd
from mlops_kit.results import Interval, Table, number

BASELINES = {"baseline_linear": "a linear model", "baseline_constant": "a constant"}


class Agreement(NamedTuple):
    """How far the refitted model answers like the judged one, on the same rows."""

    rank: float
    shift: float


class Comparison(NamedTuple):
    """The paired gain over the champion, or None; and how it was compared, or why not."""

    gain: Interval | None
    how: str


NO_CHAMPION = Comparison(None, "There is no champion yet.")


class Evidence(NamedTuple):
    """All that a check may look at; made by ``evidence``.

    ``gains`` holds the paired gain in the headline metric over each baseline, ``comparison`` the one
    over the champion, and ``champion`` how that came about; a positive gain is better whichever way
    the metric points.
    """

    config: Config
    rows: int
    classes: dict[str, int]
    metrics: dict[str, Interval]
    baselines: dict[str, float]
    gains: dict[str, Interval]
    slices: Table | None = None
    agreement: Agreement | None = None
    comparison: Interval | None = None
    champion: str = NO_CHAMPION.how
    sample: int = 0


def days(frame: pd.DataFrame, config: Config) -> np.ndarray | None:
    """The day of each row in the project's zone; None for a table without time."""
    if config.time is None:
        return None
    moments = pd.to_datetime(frame[config.time], utc=True).dt.tz_convert(config.timezone)
    return moments.dt.strftime("%Y-%m-%d").to_numpy(dtype=object)


def joined(scores: pd.DataFrame, table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """The judged scores with the features of their rows, in the scores' order.

    Raises
    ------
    KitError
        If a judged row is not in the table, or the ids name a row twice.
    """
    keys = config.id or ["row_id"]
    for name, frame in (("judged_scores", scores), ("features", table)):
        if (doubled := frame.duplicated(keys)).any():
            raise KitError(
                f"{name}: {int(doubled.sum()):,} rows share their {', '.join(keys)}",
                "ids that name one row",
                "name more columns under id in mlops.yaml",
            )
    extra = [c for c in table.columns if c in keys or c not in scores.columns]
    found = scores.merge(table[extra], on=keys, how="left", indicator="found")
    if lost := int((found["found"] != "both").sum()):
        raise KitError(
            f"{lost:,} judged rows are not in the feature table",
            "scores of these features",
            "mlops run --from train",
        )
    return found.drop(columns="found")


def quality(scores: pd.DataFrame, config: Config, draws: int = 500, seed: int = 0) -> Table:
    """Every metric of the task on the rows put aside, with its interval and the baselines beside it."""
    names = [config.headline, *(n for n in metrics.for_task(config.task) if n != config.headline)]
    y = scores[config.target]
    found = metrics.intervals(names, y, scores["score"], days(scores, config), draws, seed)
    rows = [
        {
            "metric": n,
            "value": i.value,
            "low": i.low,
            "high": i.high,
            **{b: metrics.value(n, y, scores[b]) if b in scores else None for b in BASELINES},
        }
        for n, i in found.items()
    ]
    data = pd.DataFrame(rows).astype({c: float for c in ("value", "low", "high", *BASELINES)})
    notes = (
        f"Intervals: 95 %, bootstrap of {draws:,} draws of {'whole days' if config.time else 'rows'}.",
    )
    return Table(
        "How good is it on rows it has never seen?",
        headline(found[config.headline], data, config, int(y.notna().sum())),
        data,
        notes=notes,
    )


def headline(interval: Interval, data: pd.DataFrame, config: Config, rows: int) -> str:
    """The one sentence about quality: the headline metric, its rows, and what a linear model has."""
    title = metrics.METRICS[config.headline].title
    where = f"on the newest {rows:,} rows" if config.time else f"on {rows:,} rows put aside"
    linear = data.loc[data["metric"] == config.headline, "baseline_linear"].iloc[0]
    beside = f"; a linear model has {number(float(linear))}" if linear == linear else ""
    return f"{title[0].upper()}{title[1:]} {interval} {where}{beside}."


def agreement(scores: pd.DataFrame, config: Config) -> Agreement:
    """Rank correlation (Spearman) of refitted and judged scores, and the mean shift between them.

    The shift is in probability for a classifier, in standard deviations of the target otherwise.
    """
    judged, refitted = scores["score"].astype(float), scores["refitted"].astype(float)
    rank = (
        judged.rank().corr(refitted.rank())
        if judged.nunique() > 1 and refitted.nunique() > 1
        else float("nan")
    )
    unit = 1.0 if config.task == "binary" else float(scores[config.target].std())
    shift = float((refitted - judged).mean()) / unit if unit > 0 else float("nan")
    return Agreement(float(rank), shift)


def evidence(
    scores: pd.DataFrame,
    quality: Table,
    config: Config,
    slices: Table | None = None,
    comparison: Comparison = NO_CHAMPION,
    seed: int = 0,
) -> Evidence:
    """Gather what the checks look at from the judged scores and the tables made of them."""
    y = scores[config.target].dropna()
    beside = [b for b in BASELINES if b in scores and scores[b].notna().any()]
    gains = {
        b: metrics.paired_difference(
            config.headline,
            scores[config.target],
            scores["score"],
            scores[b],
            days(scores, config),
            config.review.draws,
            seed,
        )
        for b in beside
    }
    classes = {str(k): int((y == k).sum()) for k in (0, 1)} if config.task == "binary" else {}
    baselines = {
        b: metrics.value(config.headline, scores[config.target], scores[b]) for b in beside
    }
    agreed = agreement(scores, config) if config.train.refit and "refitted" in scores else None
    return Evidence(
        config,
        len(y),
        classes,
        quality.intervals(),
        baselines,
        gains,
        slices,
        agreed,
        comparison.gain,
        comparison.how,
        config.sample,
    )
