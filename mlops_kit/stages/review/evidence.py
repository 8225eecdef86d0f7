"""What the review checks look at: performance, gains over the baselines, refit agreement.

This module measures and decides nothing; ``checks`` turns the evidence into verdicts. Rows of the
same day are correlated, so every interval is bootstrapped by day (in the project's time zone)
where the table has a time column, and by group where the project's validation is grouped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import capitalize_first, format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.core.tasks import TASKS, to_score_array
from mlops_kit.data.columns import ROW_ID
from mlops_kit.data.splitters import (
    describe_resampling_blocks,
    get_sampling_design,
    get_validation_scheme,
)
from mlops_kit.project.config.pipeline import format_rerun_command
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review.calibration import compute_calibration_curve, find_bins_outside
from mlops_kit.stats import bootstrap, metrics
from mlops_kit.stats.refit_agreement import (
    ReferenceRefit,
    compute_mean_shift,
    compute_relative_gain,
    compute_score_correlation,
    compute_score_unit,
)

_MAX_LISTED_CLASSES = 5
_CODES_AS_NAMES = ("0", "1")
BASELINE_TITLES = {"baseline_linear": "a linear model", "baseline_constant": "a constant"}


class RefitAgreement(NamedTuple):
    """How closely the final model agrees with the evaluation model on the held-out rows.

    Attributes
    ----------
    correlation : float
        See ``compute_score_correlation``; NaN if one of the scores is constant.
    mean_shift : float
        Mean difference of the scores: a probability for a classifier (of the class whose
        probability changed most), standard deviations of the target for a regression.
    gain : Interval or None
        By which share of its loss the final model, which was fitted on these rows, fits them better
        than the evaluation model, which was not.
    loss, rows : float, int
        The loss of the evaluation model on the held-out rows, and how many there are.
    references : tuple of ReferenceRefit
        The same for refits of the recipe on training rows; empty if the training made none.
    """

    correlation: float
    mean_shift: float
    gain: Interval | None = None
    loss: float = math.nan
    rows: int = 0
    references: tuple[ReferenceRefit, ...] = ()


class ChampionComparison(NamedTuple):
    """The paired gain over the champion, or None, and how it was measured or why it was not."""

    gain: Interval | None
    note: str
    version: str = ""


NO_CHAMPION = ChampionComparison(None, "There was no champion to compare with.")


class CalibrationBins(NamedTuple):
    """The bins of the calibration curve, and in how many the prediction is outside the interval.

    Examples
    --------
    >>> bins = CalibrationBins(outside=6, total=10)
    >>> bins.outside / bins.total
    0.6
    """

    outside: int
    total: int


class ReviewEvidence(NamedTuple):
    """Everything that a check may look at; made by `gather_evidence`.

    Attributes
    ----------
    config : ProjectConfig
        The project's settings.
    labeled_rows : int
        Held-out rows with a label.
    rows_by_class : dict
        Labeled rows by the code of the class, such as ``"1"``; empty for a regression.
    classes : tuple of str
        The names of these classes in the order of the codes; of a binary task the positive one is
        last.
    metrics : dict of str to Interval
        Metrics of the evaluation model on the held-out rows, by name, those of plugins included.
    baseline_values : dict
        The headline metric of each baseline.
    baseline_gains : dict
        The paired gain in the headline metric over each baseline. A positive gain is an
        improvement, whatever the direction of the metric.
    champion_gain : Interval or None
        The same over the champion; ``champion_note`` says how it was measured or why it was not,
        ``champion_version`` which version it is.
    slices : Table or None
        Performance by slice; its ``data`` has a row per slice with ``column``, ``group``, ``rows``,
        ``gap`` and others (`evaluate_slices`).
    refit_agreement : RefitAgreement or None
        How closely the final model agrees with the evaluation model; None if it was not refitted.
    sample_rows : int
        Rows of the sample that the run was made from; 0 for all rows.
    family : str
        The model family of the evaluation model; empty if it is not known.
    calibration_bins : CalibrationBins or None
        How many bins of the calibration curve are off; None for a regression.
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
    champion_version: str = NO_CHAMPION.version
    sample_rows: int = 0
    classes: tuple[str, ...] = _CODES_AS_NAMES
    family: str = ""
    calibration_bins: CalibrationBins | None = None


def join_scores_to_features(
    scores: pd.DataFrame, table: pd.DataFrame, config: ProjectConfig
) -> pd.DataFrame:
    """Join the held-out scores to the features of their rows, in the order of the scores.

    Raises
    ------
    KitError
        If a scored row is not in the table, or if an id names more than one row.
    """
    scores = to_pandas(scores)
    table = to_pandas(table)
    keys = config.id or [ROW_ID]
    _check_unique_ids("held_out_scores", scores, keys)
    _check_unique_ids("features", table, keys)
    feature_columns = [c for c in table.columns if c in keys or c not in scores.columns]
    joined = scores.merge(table[feature_columns], on=keys, how="left", indicator=True)
    missing_rows = int((joined["_merge"] != "both").sum())
    if missing_rows:
        raise KitError(
            f"{missing_rows:,} scored rows are not in the feature table",
            "scores of rows of this feature table",
            format_rerun_command(config.stages, "held_out_scores"),
        )
    return joined.drop(columns="_merge")


def _check_unique_ids(name: str, frame: pd.DataFrame, keys: list[str]) -> None:
    duplicated_rows = int(frame.duplicated(keys).sum())
    if duplicated_rows:
        raise KitError(
            f"{name}: {duplicated_rows:,} rows have a duplicate {', '.join(keys)}",
            "ids that name one row each",
            "name more columns under id in mlops.yaml",
        )


def evaluate_performance(
    scores: pd.DataFrame, config: ProjectConfig, draws: int = 500, seed: int = 0
) -> Table:
    """Compute every metric of the task on the held-out rows, with intervals and baselines.

    Returns
    -------
    Table
        One row per metric, the headline metric first: metric, value, low, high (95 %), and the
        value of each baseline.
    """
    scores = to_pandas(scores)
    other_metrics = [
        name for name in metrics.list_task_metrics(config.task) if name != config.headline_metric
    ]
    labels = scores[config.target]
    design = get_sampling_design(scores, config)
    intervals = bootstrap.compute_metric_intervals(
        [config.headline_metric, *other_metrics],
        labels,
        scores["score"],
        design,
        draws,
        seed,
    )
    rows = []
    for name, interval in intervals.items():
        row = {
            "metric": name,
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
        }
        for baseline in BASELINE_TITLES:
            row[baseline] = (
                metrics.compute_metric(name, labels, scores[baseline], weights=design.weights)
                if baseline in scores
                else None
            )
        rows.append(row)
    number_columns = ("value", "low", "high", *BASELINE_TITLES)
    data = pd.DataFrame(rows).astype(dict.fromkeys(number_columns, float))
    resampled = describe_resampling_blocks(config)
    scheme = get_validation_scheme(config)
    notes = [
        f"Intervals: 95%, bootstrap with {draws:,} draws of {resampled}.",
        scheme.describe(),
        describe_metric_threshold(config),
    ]
    return Table(
        "Performance on held-out rows",
        _summarize_performance(
            intervals[config.headline_metric], data, config, int(labels.notna().sum())
        ),
        data,
        notes=tuple(note for note in notes if note),
    )


def describe_metric_threshold(config: ProjectConfig) -> str:
    """Say which rows count as predicted positive in metrics; empty if the task has no threshold."""
    if config.task != "binary":
        return ""
    return (
        f"F1, precision, recall and accuracy count scores from {metrics.DEFAULT_THRESHOLD:g} on as "
        "positive, not from the decision threshold of the model."
    )


def _summarize_performance(
    interval: Interval, data: pd.DataFrame, config: ProjectConfig, labeled_rows: int
) -> str:
    """Word the headline metric, the rows it was measured on, and the linear baseline."""
    title = capitalize_first(metrics.METRICS[config.headline_metric].title)
    rows = f"the newest {labeled_rows:,}" if config.time else f"{labeled_rows:,} held-out"
    is_headline = data["metric"] == config.headline_metric
    linear_value = float(data.loc[is_headline, "baseline_linear"].iloc[0])
    if pd.isna(linear_value):
        return f"{title} {interval} on {rows} rows."
    return f"{title} {interval} on {rows} rows; a linear model has {format_number(linear_value)}."


def measure_refit_agreement(
    scores: pd.DataFrame, config: ProjectConfig, seed: int = 0
) -> RefitAgreement:
    """Compare the scores of the final model (``refitted``) with those of the evaluation model."""
    scores = to_pandas(scores)
    labels = scores[config.target]
    evaluation_scores = to_score_array(scores["score"])
    final_scores = to_score_array(scores["refitted"])
    unit = compute_score_unit(labels, config.task)
    design = get_sampling_design(scores, config)
    loss_name = TASKS[config.task].loss_metric
    loss = metrics.compute_metric(loss_name, labels, evaluation_scores, weights=design.weights)
    gain = None
    if evaluation_scores.shape == final_scores.shape:
        score_pair = (final_scores, evaluation_scores)
        gain = bootstrap.compute_paired_difference(
            loss_name, labels, score_pair, design, config.review.draws, seed
        )
    return RefitAgreement(
        correlation=compute_score_correlation(evaluation_scores, final_scores),
        mean_shift=compute_mean_shift(evaluation_scores, final_scores, unit),
        gain=_divide_by_loss(gain, loss),
        loss=loss,
        rows=len(scores),
    )


def _divide_by_loss(gain: Interval | None, loss: float) -> Interval | None:
    """Return a gain in loss as a share of the loss."""
    if gain is None:
        return None
    shares: list[float | None] = []
    for bound in (gain.value, gain.low, gain.high):
        shares.append(None if bound is None else compute_relative_gain(bound, loss))
    value, low, high = shares
    return Interval(value, low, high)


def gather_evidence(
    scores: pd.DataFrame,
    quality: Table,
    config: ProjectConfig,
    slices: Table | None = None,
    comparison: ChampionComparison = NO_CHAMPION,
    seed: int = 0,
) -> ReviewEvidence:
    """Gather what the checks look at from the held-out scores and the tables made of them.

    Parameters
    ----------
    quality : Table
        Result of `evaluate_performance`.
    slices : Table or None
        Result of `evaluate_slices`.
    comparison : ChampionComparison
        Result of `extract_champion_gain`.
    """
    scores = to_pandas(scores)
    labels = scores[config.target]
    known_labels = labels.dropna()
    design = get_sampling_design(scores, config)
    baseline_values = {}
    baseline_gains = {}
    for baseline in BASELINE_TITLES:
        if baseline not in scores or scores[baseline].isna().all():
            continue
        baseline_values[baseline] = metrics.compute_metric(
            config.headline_metric, labels, scores[baseline], weights=design.weights
        )
        baseline_gains[baseline] = bootstrap.compute_paired_difference(
            config.headline_metric,
            labels,
            (scores["score"], scores[baseline]),
            design,
            config.review.draws,
            seed,
        )
    rows_by_class = {}
    if config.task == "binary":
        rows_by_class = {str(value): int((known_labels == value).sum()) for value in (0, 1)}
    if config.task == "multiclass":
        class_count = to_score_array(scores["score"]).shape[-1] if len(scores) else 0
        counts = known_labels.value_counts()
        rows_by_class = {str(code): int(counts.get(code, 0)) for code in range(class_count)}
    refit_agreement = None
    if config.train.refit and "refitted" in scores:
        refit_agreement = measure_refit_agreement(scores, config, seed)
    return ReviewEvidence(
        config=config,
        labeled_rows=len(known_labels),
        rows_by_class=rows_by_class,
        metrics=quality.to_intervals(),
        baseline_values=baseline_values,
        baseline_gains=baseline_gains,
        slices=slices,
        refit_agreement=refit_agreement,
        champion_gain=comparison.gain,
        champion_note=comparison.note,
        champion_version=comparison.version,
        sample_rows=config.sample,
        calibration_bins=_count_calibration_bins(scores, config),
    )


def _count_calibration_bins(scores: pd.DataFrame, config: ProjectConfig) -> CalibrationBins | None:
    """Count the bins of the calibration curve in which the prediction is outside the interval."""
    if not TASKS[config.task].has_classes:
        return None
    design = get_sampling_design(scores, config)
    curve = compute_calibration_curve(
        scores[config.target], scores["score"], weights=design.weights, blocks=design.blocks
    )
    bins = curve.to_frame()
    return CalibrationBins(int(find_bins_outside(bins).sum()), len(bins))


def describe_class_rows(evidence: ReviewEvidence, min_rows: int) -> str:
    """Describe the held-out rows by class; of many classes those with fewer than some rows."""
    counts = evidence.rows_by_class
    if evidence.config.task == "binary":
        negative, positive = evidence.classes
        return (
            f"{counts.get('1', 0):,} of the positive class {positive}, {counts.get('0', 0):,} of "
            f"class {negative}"
        )
    has_names = len(evidence.classes) == len(counts)
    names = evidence.classes if has_names else tuple(counts)
    few = []
    for name, count in zip(names, counts.values(), strict=True):
        if count < min_rows:
            few.append(f"{name} ({count:,})")
    if not few:
        return f"at least {min_rows} rows of each of {len(counts)} classes"
    listed = ", ".join(few[:_MAX_LISTED_CLASSES])
    return f"fewer than {min_rows} rows of {len(few)} of {len(counts)} classes: {listed}"


def name_classes(evidence: ReviewEvidence, classes: Sequence[Any]) -> ReviewEvidence:
    """Return the evidence with the names of the classes, as the artifact ``model`` states them."""
    if not classes:
        return evidence
    return evidence._replace(classes=tuple(map(str, classes)))


def name_family(evidence: ReviewEvidence, family: str) -> ReviewEvidence:
    """Return the evidence with the model family, as the artifact ``recipe`` states it."""
    return evidence._replace(family=family)


def get_row_blocks(rows: pd.DataFrame, config: ProjectConfig) -> Any:
    """Return the block of each row, its group or else its day; None if rows are independent."""
    return get_sampling_design(to_pandas(rows), config).blocks
