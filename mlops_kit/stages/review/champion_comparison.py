"""Champion vs challenger: both models score the same rows, and the difference has an interval.

The outcome compares that interval with a margin set beforehand: ``better`` if all of it is above
zero, ``no worse`` if all of it is above minus the margin, ``worse`` if it is below; otherwise the
rows cannot tell, and the table notes how many would be needed. A difference is positive where the
challenger is the better model, whatever the direction of the metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from mlops_kit.core.formatting import capitalize_first, format_money, format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import CheckOutcome, Interval, Table
from mlops_kit.core.serialization import to_json_value
from mlops_kit.core.tasks import TASKS, to_score_array, to_score_column
from mlops_kit.data.classes import resolve_coding
from mlops_kit.data.columns import get_row_days
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.review.evidence import NO_CHAMPION, ChampionComparison
from mlops_kit.stages.review.slices import get_group_labels
from mlops_kit.stats import bootstrap, metrics, thresholds

_CHALLENGER_NAME = "this version"
# How much worse cost, log loss and RMSE may be, as a share of the champion's value. The other
# metrics have `review.margin`.
_RELATIVE_MARGIN = 0.01
_RELATIVE_MARGIN_METRICS = {"cost", *(task.loss_metric for task in TASKS.values())}
COMPARISON_COLUMNS = (
    "metric",
    "title",
    "difference",
    "low",
    "high",
    "margin",
    "verdict",
    "text",
    "rows",
)
_SHOWN_COLUMNS = ("title", "text", "difference", "low", "high", "margin", "verdict", "rows")
_LONGER_PERIOD_HINT = "evaluate on a longer period"


class DifferenceOutcome(StrEnum):
    """How the challenger compares with the champion, given the interval of the difference."""

    BETTER = "better"
    NO_WORSE = "no worse"
    CANNOT_TELL = "cannot tell"
    WORSE = "worse"


class ScoredModel(NamedTuple):
    """A model with its scores of the held-out rows.

    Attributes
    ----------
    name : str
        How sentences refer to it, for example ``version 7``.
    scores : ndarray or None
        One score per row; None if the model cannot be compared, and ``note`` says why.
    threshold : float or None
        The decision threshold of a classifier.
    note : str
        How the scores were made, or why there are none.
    version : str
        The number of a registered version; empty for the challenger.
    """

    name: str
    scores: np.ndarray | None = None
    threshold: float | None = None
    model: Any = None
    feature_names: tuple[str, ...] = ()
    note: str = ""
    version: str = ""

    def __str__(self) -> str:
        return self.note


class _ComparisonRow(NamedTuple):
    """One row of the comparison table; its fields are `COMPARISON_COLUMNS`."""

    metric: str
    title: str
    difference: float | None
    low: float | None
    high: float | None
    margin: float
    verdict: str
    text: str
    rows: int


def make_challenger(rows: pd.DataFrame, recipe: Mapping[str, Any], model: Any) -> ScoredModel:
    """Make the model under review from the scores that training handed on."""
    rows = to_pandas(rows)
    return ScoredModel(
        name=_CHALLENGER_NAME,
        scores=to_score_array(rows["score"]),
        threshold=recipe["threshold"],
        model=model,
        feature_names=tuple(recipe["features"]),
    )


def score_champion(
    champion: ModelVersion | None,
    opponent: tuple[Any, list[str], str],
    rows: pd.DataFrame,
    config: ProjectConfig,
) -> ScoredModel:
    """Score the same rows with the champion.

    Parameters
    ----------
    champion : ModelVersion or None
        The champion as the registry describes it.
    opponent : tuple of model or None, list of str, str
        The model that scores for the champion, its columns, and a note how it was chosen
        (`registry.comparison.load_comparison_model`).
    """
    rows = to_pandas(rows)
    model, columns, note = opponent
    if champion is None:
        return ScoredModel("", note=note)
    name = f"version {champion.version}"
    if model is None:
        return ScoredModel(name, note=note, version=champion.version)
    scores = predict_scores(model, rows[columns], config)
    if config.review.require_gain and config.time is not None:
        is_older = (rows[config.time] < pd.Timestamp(champion.as_of)).to_numpy()
        scores[is_older] = np.nan
    threshold = champion.threshold
    if _has_other_positive_class(champion, config):
        scores = 1 - scores
        if threshold is not None:
            # At the threshold itself the champion predicts its own positive class.
            threshold = math.nextafter(1 - threshold, math.inf)
        note = f"{note} Its probabilities are converted to those of {config.positive}."
    return ScoredModel(
        name=name,
        scores=scores,
        threshold=threshold,
        model=model,
        feature_names=tuple(columns),
        note=note,
        version=champion.version,
    )


def _has_other_positive_class(champion: ModelVersion, config: ProjectConfig) -> bool:
    """Return whether the positive class of today's project is the champion's negative one."""
    if config.positive is None or len(champion.classes) != 2:
        return False
    coding = resolve_coding(dict.fromkeys(champion.classes, 0), config)
    return bool(coding.positive != champion.classes[-1])


def has_decision_cost(config: ProjectConfig, threshold: float | None) -> bool:
    """Whether decisions have a cost: there is a threshold, and the project states error costs."""
    return threshold is not None and bool(config.cost.model_fields_set)


def compare_with_champion(
    rows: pd.DataFrame,
    challenger: ScoredModel,
    champion: ScoredModel,
    slices: Table,
    config: ProjectConfig,
    seed: int = 0,
) -> Table:
    """Compare the challenger with the champion, metric by metric, each with an outcome.

    The cost is taken at each model's own threshold. The worst slice is the one in which the
    challenger is weakest, which favors the champion: of two equally good models, that slice is
    one where the champion happens to do somewhat better.

    Parameters
    ----------
    slices : Table
        Result of `evaluate_slices`.

    Returns
    -------
    Table
        One row per metric: metric, title, difference, low, high (95%), margin, verdict, text, rows.
    """
    rows = to_pandas(rows)
    title = "Champion vs challenger"
    if champion.scores is None:
        return Table(title, champion.note, pd.DataFrame(columns=list(COMPARISON_COLUMNS)))
    paired_rows = _select_comparable_rows(rows, challenger, champion, config)
    compared = [
        *_compare_decision_cost(paired_rows, challenger, champion, config, seed),
        *_compare_metrics(paired_rows, config, seed),
        *_compare_weakest_slice(paired_rows, slices, config, seed),
    ]
    data = pd.DataFrame(compared, columns=list(COMPARISON_COLUMNS))
    number_columns = ["difference", "low", "high", "margin"]
    data[number_columns] = data[number_columns].astype(float)
    notes = [champion.note, _describe_margins(data, champion, config)]
    for row in data[data["verdict"] == DifferenceOutcome.CANNOT_TELL].to_dict("records"):
        rows_needed = describe_rows_needed(
            _get_difference_interval(row), row["margin"], row["rows"]
        )
        notes.append(f"{row['title']}: {rows_needed}.")
    return Table(
        title=title,
        sentence=_summarize_comparison(paired_rows, data, config),
        data=data,
        units={"difference": "positive is better"},
        notes=tuple(notes),
        visible_columns=_SHOWN_COLUMNS,
    )


def _select_comparable_rows(
    rows: pd.DataFrame, challenger: ScoredModel, champion: ScoredModel, config: ProjectConfig
) -> pd.DataFrame:
    """Select the labeled rows that both models score, with ``challenger`` and ``champion``."""
    scored = rows.assign(
        challenger=to_score_column(np.asarray(challenger.scores)),
        champion=to_score_column(np.asarray(champion.scores)),
    )
    is_complete = scored[[config.target, "challenger", "champion"]].notna().all(axis=1)
    return scored[is_complete]


def _make_comparison_row(
    metric: str, title: str, gain: Interval, margin: float, rows: int, text: str
) -> _ComparisonRow:
    return _ComparisonRow(
        metric=metric,
        title=title,
        difference=gain.value,
        low=gain.low,
        high=gain.high,
        margin=margin,
        verdict=classify_difference(gain, margin).value,
        text=text,
        rows=rows,
    )


def _compare_decision_cost(
    rows: pd.DataFrame,
    challenger: ScoredModel,
    champion: ScoredModel,
    config: ProjectConfig,
    seed: int,
) -> list[_ComparisonRow]:
    """Compare the cost per row, where the project states what errors cost."""
    if challenger.threshold is None or champion.threshold is None:
        return []
    if not has_decision_cost(config, challenger.threshold):
        return []
    cost = config.cost
    labels = rows[config.target]
    challenger_costs = thresholds.compute_row_costs(
        labels, rows["challenger"], challenger.threshold, cost.false_alarm, cost.miss
    )
    champion_costs = thresholds.compute_row_costs(
        labels, rows["champion"], champion.threshold, cost.false_alarm, cost.miss
    )
    design = get_sampling_design(rows, config)
    gain = bootstrap.compute_ratio_interval(
        champion_costs - challenger_costs,
        np.ones(len(rows)),
        design,
        config.review.draws,
        seed,
    )
    margin = math.nan
    if len(rows):
        champion_cost = float(np.average(champion_costs, weights=design.weights))
        margin = _RELATIVE_MARGIN * champion_cost

    def format_cost(amount: float) -> str:
        return format_money(amount, cost.unit)

    text = describe_reduction(gain.value, format_cost)
    title = f"Cost per {config.row_name}"
    return [_make_comparison_row("cost", title, gain, margin, len(rows), text)]


def _compare_metrics(rows: pd.DataFrame, config: ProjectConfig, seed: int) -> list[_ComparisonRow]:
    """Compare the headline metric, the loss that models are fitted to, and the calibration."""
    task = TASKS[config.task]
    names = [config.headline_metric, task.loss_metric]
    if task.calibration_metric:
        names.append(task.calibration_metric)
    labels = rows[config.target]
    design = get_sampling_design(rows, config)
    gains = bootstrap.compute_paired_differences(
        dict.fromkeys(names),
        labels,
        (rows["challenger"], rows["champion"]),
        design,
        config.review.draws,
        seed,
    )
    compared = []
    for name, gain in gains.items():
        if name in {config.headline_metric, task.calibration_metric}:
            margin = config.review.margin
        else:
            champion_value = metrics.compute_metric(
                name, labels, rows["champion"], weights=design.weights
            )
            margin = _RELATIVE_MARGIN * abs(champion_value)
        title = capitalize_first(metrics.METRICS[name].title)
        text = describe_metric_change(name, gain)
        compared.append(_make_comparison_row(name, title, gain, margin, len(rows), text))
    return compared


def _compare_weakest_slice(
    rows: pd.DataFrame, slices: Table, config: ProjectConfig, seed: int
) -> list[_ComparisonRow]:
    """Compare the slice in which the challenger is weakest; small slices are left out."""
    data = slices.to_frame().reindex(columns=["slice", "column", "group", "rows", "gap"])
    data = data.dropna(subset="gap")
    data = data[data["rows"] >= config.review.min_slice_rows]
    if data.empty:
        return []
    weakest = data.sort_values(["gap", "column", "group"]).iloc[0]
    inside = rows[get_group_labels(rows, weakest["column"]) == weakest["group"]]
    gain = bootstrap.compute_paired_difference(
        config.headline_metric,
        inside[config.target],
        (inside["challenger"], inside["champion"]),
        get_sampling_design(inside, config),
        config.review.draws,
        seed,
    )
    title = f"Worst slice: {weakest['slice']}"
    text = describe_metric_change(config.headline_metric, gain)
    return [
        _make_comparison_row("worst_slice", title, gain, config.review.margin, len(inside), text)
    ]


def classify_difference(gain: Interval, margin: float) -> DifferenceOutcome:
    """Classify the interval of a difference: better, no worse, worse or undecided.

    A difference that is certainly negative, and whose value is below minus the margin, counts as
    worse even if the interval reaches above minus the margin.
    """
    if gain.value is None or gain.low is None or gain.high is None:
        return DifferenceOutcome.CANNOT_TELL
    if gain.low > 0:
        return DifferenceOutcome.BETTER
    if gain.low >= -margin:
        return DifferenceOutcome.NO_WORSE
    if gain.high < -margin:
        return DifferenceOutcome.WORSE
    if gain.high < 0 and gain.value < -margin:
        return DifferenceOutcome.WORSE
    return DifferenceOutcome.CANNOT_TELL


def get_promotion_outcome(difference: DifferenceOutcome, must_gain: bool) -> CheckOutcome:
    """Return whether a difference lets a version replace the champion.

    Parameters
    ----------
    must_gain : bool
        Whether it has to be better, not only no worse.
    """
    if must_gain and difference != DifferenceOutcome.BETTER:
        return CheckOutcome.FAILED
    return {
        DifferenceOutcome.BETTER: CheckOutcome.PASSED,
        DifferenceOutcome.NO_WORSE: CheckOutcome.PASSED,
        DifferenceOutcome.WORSE: CheckOutcome.FAILED,
        DifferenceOutcome.CANNOT_TELL: CheckOutcome.CANNOT_TELL,
    }[difference]


def describe_rows_needed(gain: Interval, margin: float, rows: int) -> str:
    """Say about how many rows would decide.

    The width of an interval shrinks with the square root of the number of rows.
    """
    if gain.value is None or gain.low is None or gain.high is None:
        return f"there is no interval; {_LONGER_PERIOD_HINT}"
    if gain.value < -margin:
        distance_to_limit = gain.value
        half_width = gain.high - gain.value
    else:
        distance_to_limit = gain.value + margin
        half_width = gain.value - gain.low
    if distance_to_limit == 0:
        return _LONGER_PERIOD_HINT
    rows_needed = math.ceil(rows * (half_width / distance_to_limit) ** 2)
    if rows_needed <= rows:
        return _LONGER_PERIOD_HINT
    two_digits = float(f"{rows_needed:.1e}")
    return f"about {two_digits:,.0f} rows would decide"


def describe_reduction(value: float | None, format_value: Callable[[float], str]) -> str:
    """Word a difference in something that should be small: positive is less."""
    if value is None or math.isnan(value):
        return "unknown"
    if value == 0:
        return "the same"
    return f"{format_value(abs(value))} {'less' if value > 0 else 'more'}"


def describe_metric_change(name: str, gain: Interval) -> str:
    """Word a difference in a metric."""
    if gain.value is None or gain.value == 0 or not metrics.METRICS[name].greater_is_better:
        return describe_reduction(gain.value, format_number)
    sign = "+" if gain.value > 0 else "−"
    return f"{sign}{format_number(abs(gain.value))}"


def _summarize_comparison(rows: pd.DataFrame, data: pd.DataFrame, config: ProjectConfig) -> str:
    """Word which rows were compared and which metrics had which outcome."""
    days = get_row_days(rows, config)
    period = ""
    if days is not None and len(days):
        period = f" from {min(days)} to {max(days)}"
    if data["difference"].isna().all():
        return f"On the same {len(rows):,} rows{period} nothing could be measured."
    outcome_texts = []
    for outcome in DifferenceOutcome:
        titles = data.loc[data["verdict"] == outcome, "title"]
        if len(titles):
            short_titles = [title.split(":")[0] for title in titles]
            outcome_texts.append(f"{outcome}: {', '.join(short_titles)}")
    outcomes = capitalize_first("; ".join(outcome_texts))
    return f"On the same {len(rows):,} rows{period}, 95% intervals. {outcomes}."


def _describe_margins(data: pd.DataFrame, champion: ScoredModel, config: ProjectConfig) -> str:
    """Say how much worse each metric may be and still counts as no worse."""
    uses_relative_margin = data["metric"].isin(_RELATIVE_MARGIN_METRICS)
    is_headline = data["metric"] == config.headline_metric
    titles = data.loc[uses_relative_margin & ~is_headline, "title"]
    text = f"Differences that still count as no worse: up to {format_number(config.review.margin)}"
    if titles.empty:
        return f"{text}."
    share = format_percent(_RELATIVE_MARGIN)
    return f"{text}; up to {share} of {champion.name}'s value for {', '.join(titles)}."


def _get_difference_interval(row: Mapping[Any, Any]) -> Interval:
    """Get the difference of a table row with its interval; NaN becomes None."""
    value, low, high = (to_json_value(row[column]) for column in ("difference", "low", "high"))
    return Interval(value, low, high)


def extract_champion_gain(
    table: Table, champion: ScoredModel, config: ProjectConfig
) -> ChampionComparison:
    """Extract the gain in the headline metric from the comparison table, for the checks."""
    if not champion.name:
        return NO_CHAMPION
    data = table.to_frame()
    headline_rows = data[data["metric"] == config.headline_metric].to_dict("records")
    gain = _get_difference_interval(headline_rows[0]) if headline_rows else None
    return ChampionComparison(gain, champion.note, champion.version)
