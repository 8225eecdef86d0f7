"""What the checks look at: the judged scores, put into numbers once.

Nothing here passes judgement; ``checks`` does. Rows of a day go together, so every interval is
resampled by the day of the project's zone where rows have a moment.
"""

from __future__ import annotations

from typing import NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data.columns import get_row_days
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats import bootstrap, metrics

BASELINE_TITLES = {"baseline_linear": "a linear model", "baseline_constant": "a constant"}


class RefitAgreement(NamedTuple):
    """How far the refitted model answers like the judged one, on the same rows."""

    rank_correlation: float
    mean_shift: float


class ChampionComparison(NamedTuple):
    """The paired gain over the champion, or None; and how it was compared, or why not."""

    gain: Interval | None
    note: str


NO_CHAMPION = ChampionComparison(None, "There is no champion yet.")


class ReviewEvidence(NamedTuple):
    """All that a check may look at; made by ``evidence``.

    ``gains`` holds the paired gain in the headline metric over each baseline, ``comparison`` the one
    over the champion, and ``champion`` how that came about; a positive gain is better whichever way
    the metric points.
    """

    config: ProjectConfig
    labeled_rows: int
    rows_by_class: dict[str, int]
    metrics: dict[str, Interval]
    baseline_values: dict[str, float]
    baseline_gains: dict[str, Interval]
    slices: Table | None = None
    refit_agreement: RefitAgreement | None = None
    champion_gain: Interval | None = None
    champion_note: str = NO_CHAMPION.note
    sample_rows: int = 0


def join_scores_to_features(
    scores: pd.DataFrame, table: pd.DataFrame, config: ProjectConfig
) -> pd.DataFrame:
    """The judged scores with the features of their rows, in the scores' order.

    Raises
    ------
    KitError
        If a judged row is not in the table, or the ids name a row twice.
    """
    keys = config.id or ["row_id"]
    for name, frame in (("held_out_scores", scores), ("features", table)):
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


def evaluate_performance(
    scores: pd.DataFrame, config: ProjectConfig, draws: int = 500, seed: int = 0
) -> Table:
    """Every metric of the task on the rows put aside, with its interval and the baselines beside it."""
    names = [
        config.headline_metric,
        *(n for n in metrics.list_task_metrics(config.task) if n != config.headline_metric),
    ]
    y = scores[config.target]
    found = bootstrap.compute_metric_intervals(
        names, y, scores["score"], get_row_days(scores, config), draws, seed
    )
    rows = [
        {
            "metric": n,
            "value": i.value,
            "low": i.low,
            "high": i.high,
            **{
                b: metrics.compute_metric(n, y, scores[b]) if b in scores else None
                for b in BASELINE_TITLES
            },
        }
        for n, i in found.items()
    ]
    data = pd.DataFrame(rows).astype({c: float for c in ("value", "low", "high", *BASELINE_TITLES)})
    notes = (
        f"Intervals: 95 %, bootstrap of {draws:,} draws of {'whole days' if config.time else 'rows'}.",
    )
    return Table(
        "How good is it on rows it has never seen?",
        _summarize_performance(found[config.headline_metric], data, config, int(y.notna().sum())),
        data,
        notes=notes,
    )


def _summarize_performance(
    interval: Interval, data: pd.DataFrame, config: ProjectConfig, rows: int
) -> str:
    """The one sentence about quality: the headline metric, its rows, and what a linear model has."""
    title = metrics.METRICS[config.headline_metric].title
    where = f"on the newest {rows:,} rows" if config.time else f"on {rows:,} rows put aside"
    linear = data.loc[data["metric"] == config.headline_metric, "baseline_linear"].iloc[0]
    beside = f"; a linear model has {format_number(float(linear))}" if linear == linear else ""
    return f"{title[0].upper()}{title[1:]} {interval} {where}{beside}."


def measure_refit_agreement(scores: pd.DataFrame, config: ProjectConfig) -> RefitAgreement:
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
    return RefitAgreement(float(rank), shift)


def gather_evidence(
    scores: pd.DataFrame,
    quality: Table,
    config: ProjectConfig,
    slices: Table | None = None,
    comparison: ChampionComparison = NO_CHAMPION,
    seed: int = 0,
) -> ReviewEvidence:
    """Gather what the checks look at from the judged scores and the tables made of them."""
    y = scores[config.target].dropna()
    beside = [b for b in BASELINE_TITLES if b in scores and scores[b].notna().any()]
    gains = {
        b: bootstrap.compute_paired_difference(
            config.headline_metric,
            scores[config.target],
            scores["score"],
            scores[b],
            get_row_days(scores, config),
            config.review.draws,
            seed,
        )
        for b in beside
    }
    classes = {str(k): int((y == k).sum()) for k in (0, 1)} if config.task == "binary" else {}
    baselines = {
        b: metrics.compute_metric(config.headline_metric, scores[config.target], scores[b])
        for b in beside
    }
    agreed = (
        measure_refit_agreement(scores, config)
        if config.train.refit and "refitted" in scores
        else None
    )
    return ReviewEvidence(
        config,
        len(y),
        classes,
        quality.to_intervals(),
        baselines,
        gains,
        slices,
        agreed,
        comparison.gain,
        comparison.note,
        config.sample,
    )
