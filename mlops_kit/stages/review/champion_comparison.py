"""Is the model better than the champion? Both answer for the same rows, and the difference has an interval.

A verdict is read off that interval against a margin set beforehand: ``better`` if all of it lies above
nothing, ``no worse`` if all of it lies above minus the margin, ``worse`` if it lies below; else one
cannot tell, and the table says how many rows would decide. A difference is positive where this model
is the better one, whichever way the metric points.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlops_kit.core.formatting import capitalize_first, format_money, format_number, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data.columns import get_row_days
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.review.evidence import NO_CHAMPION, ChampionComparison
from mlops_kit.stages.review.slices import get_group_labels
from mlops_kit.stats import bootstrap, metrics, thresholds

_CHALLENGER_NAME = "this version"
_RELATIVE_MARGIN = 0.01  # how much worse cost, log loss and RMSE may be, as a share of the champion's; review.margin is for the rest
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
_DIFFERENCE_OUTCOMES = ("better", "no worse", "cannot tell", "worse")


class ScoredModel(NamedTuple):
    """A model on the judged rows: its name in sentences, its scores, its threshold, the model itself.

    One without scores cannot be compared; ``how`` says why, or how the scores came about.
    """

    name: str
    scores: np.ndarray | None = None
    threshold: float | None = None
    model: Any = None
    feature_names: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return self.note


def make_challenger(rows: pd.DataFrame, recipe: Mapping[str, Any], model: Any) -> ScoredModel:
    """The model under review, with the scores that training handed on."""
    return ScoredModel(
        _CHALLENGER_NAME,
        rows["score"].to_numpy(dtype=float),
        recipe["threshold"],
        model,
        tuple(recipe["features"]),
    )


def score_champion(
    champion: ModelVersion | None,
    opponent: tuple[Any, list[str], str],
    rows: pd.DataFrame,
    config: ProjectConfig,
) -> ScoredModel:
    """The champion, answering for the same rows.

    Parameters
    ----------
    champion : ModelVersion or None
        The champion as the registry describes it.
    opponent : model or None, list of str, str
        Who answers for it, from which columns, and how that came about (``comparison.load_comparison_model``).
    """
    model, columns, how = opponent
    name = f"version {champion.version}" if champion else ""
    if champion is None or model is None:
        return ScoredModel(name, note=how)
    return ScoredModel(
        name,
        predict_scores(model, rows[columns], config),
        champion.threshold,
        model,
        tuple(columns),
        how,
    )


def has_decision_cost(config: ProjectConfig, threshold: float | None) -> bool:
    """Whether a decision has a cost: there is a threshold, and somebody has said what a mistake costs."""
    return threshold is not None and bool(config.cost.model_fields_set)


def compare_with_champion(
    rows: pd.DataFrame,
    mine: ScoredModel,
    other: ScoredModel,
    slices: Table,
    config: ProjectConfig,
    seed: int = 0,
) -> Table:
    """How much better this model is than the champion, line by line, with a verdict each.

    Cost a row is taken at each model's own threshold. The worst slice is the one in which this model is
    weakest, which favours the champion: where the two are equally good, it is somewhat its better half.

    Parameters
    ----------
    slices : Table
        Of ``by_slice``.

    Returns
    -------
    Table
        A row a metric: metric, title, difference, low, high (95 %), margin, verdict, text, rows.
    """
    title = f"Better than {other.name or 'the champion'}?"
    if other.scores is None:
        return Table(title, other.note, pd.DataFrame(columns=list(COMPARISON_COLUMNS)))
    held = _select_comparable_rows(rows, mine, other, config)
    data = pd.DataFrame(
        [
            *_compare_decision_cost(held, mine, other, config, seed),
            *_compare_metrics(held, config, other, seed),
            *_compare_weakest_slice(held, slices, config, seed),
        ],
        columns=list(COMPARISON_COLUMNS),
    )
    data[["difference", "low", "high", "margin"]] = data[
        ["difference", "low", "high", "margin"]
    ].astype(float)
    open_ = [
        f"{r['title']}: {describe_rows_needed(_get_difference_interval(r), r['margin'], r['rows'])}."
        for r in data[data["verdict"] == "cannot tell"].to_dict("records")
    ]
    notes = (other.note, _describe_margins(data, other, config), *open_)
    return Table(
        title,
        _summarize_comparison(held, data, config),
        data,
        {"difference": "positive is better"},
        notes,
        _SHOWN_COLUMNS,
    )


def _select_comparable_rows(
    rows: pd.DataFrame, mine: ScoredModel, other: ScoredModel, config: ProjectConfig
) -> pd.DataFrame:
    """The rows with a label and a score of both, the scores in ``mine`` and ``other``."""
    found = rows.assign(mine=mine.scores, other=other.scores)
    return found[found[[config.target, "mine", "other"]].notna().all(axis=1)]


def _make_comparison_row(
    metric: str, title: str, gain: Interval, margin: float, rows: int, text: str
) -> dict[str, Any]:
    """One line of the table."""
    return dict(
        zip(
            COMPARISON_COLUMNS,
            (
                metric,
                title,
                gain.value,
                gain.low,
                gain.high,
                margin,
                classify_difference(gain, margin),
                text,
                rows,
            ),
            strict=True,
        )
    )


def _compare_decision_cost(
    held: pd.DataFrame, mine: ScoredModel, other: ScoredModel, config: ProjectConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """The line of what a row's decision costs, where that is known."""
    if (
        mine.threshold is None
        or other.threshold is None
        or not has_decision_cost(config, mine.threshold)
    ):
        return
    cost, y = config.cost, held[config.target]
    own, theirs = (
        thresholds.compute_row_costs(y, held[n], t, cost.false_alarm, cost.miss)
        for n, t in (("mine", mine.threshold), ("other", other.threshold))
    )
    gain = bootstrap.compute_ratio_interval(
        theirs - own, np.ones(len(held)), get_row_days(held, config), config.review.draws, seed
    )
    margin = _RELATIVE_MARGIN * float(theirs.mean()) if len(held) else math.nan
    yield _make_comparison_row(
        "cost",
        f"Cost a {config.row_name}",
        gain,
        margin,
        len(held),
        describe_reduction(gain.value, lambda v: format_money(v, cost.unit)),
    )


def _compare_metrics(
    held: pd.DataFrame, config: ProjectConfig, other: ScoredModel, seed: int
) -> Iterator[dict[str, Any]]:
    """The lines of the headline metric, of the loss that the model was fitted to, and of calibration."""
    wanted = [
        config.headline_metric,
        *(("log_loss", "calibration_error") if config.task == "binary" else ("rmse",)),
    ]
    y = held[config.target]
    found = bootstrap.compute_paired_differences(
        dict.fromkeys(wanted),
        y,
        held["mine"],
        held["other"],
        get_row_days(held, config),
        config.review.draws,
        seed,
    )
    for name, gain in found.items():
        own = name in {config.headline_metric, "calibration_error"}
        margin = (
            config.review.margin
            if own
            else _RELATIVE_MARGIN * abs(metrics.compute_metric(name, y, held["other"]))
        )
        yield _make_comparison_row(
            name,
            capitalize_first(metrics.METRICS[name].title),
            gain,
            margin,
            len(held),
            describe_metric_change(name, gain),
        )


def _compare_weakest_slice(
    held: pd.DataFrame, slices: Table, config: ProjectConfig, seed: int
) -> Iterator[dict[str, Any]]:
    """The line of the slice in which this model is weakest; small slices are left out."""
    data = (
        slices.to_frame()
        .reindex(columns=["slice", "column", "group", "rows", "gap"])
        .dropna(subset="gap")
    )
    for worst in (
        data[data["rows"] >= config.review.min_slice_rows]
        .sort_values(["gap", "column", "group"])
        .head(1)
        .to_dict("records")
    ):
        inside = held[get_group_labels(held, worst["column"]) == worst["group"]]
        gain = bootstrap.compute_paired_difference(
            config.headline_metric,
            inside[config.target],
            inside["mine"],
            inside["other"],
            get_row_days(inside, config),
            config.review.draws,
            seed,
        )
        yield _make_comparison_row(
            "worst_slice",
            f"Worst slice: {worst['slice']}",
            gain,
            config.review.margin,
            len(inside),
            describe_metric_change(config.headline_metric, gain),
        )


def classify_difference(gain: Interval, margin: float) -> str:
    """Better, no worse, worse or cannot tell, read off the interval of a difference.

    Surely below nothing, and by more than the margin as far as one can see, is worse as well.
    """
    value, low, high = gain.value, gain.low, gain.high
    if value is None or low is None or high is None:
        return "cannot tell"
    if low > 0:
        return "better"
    if low >= -margin:
        return "no worse"
    return "worse" if high < -margin or (high < 0 and value < -margin) else "cannot tell"


def describe_rows_needed(gain: Interval, margin: float, rows: int) -> str:
    """About how many rows would decide: an interval shrinks with the root of their number."""
    value, low, high = gain.value, gain.low, gain.high
    if value is None or low is None or high is None:
        return "there is no interval; judge on a longer period"
    room, half = (value, high - value) if value < -margin else (value + margin, value - low)
    if room == 0:
        return "judge on a longer period"
    wanted = math.ceil(rows * (half / room) ** 2)
    return (
        f"about {float(f'{wanted:.1e}'):,.0f} rows would decide"
        if wanted > rows
        else "judge on a longer period"
    )


def describe_reduction(value: float | None, told: Any) -> str:
    """A difference in what should be small, in words: positive is less."""
    if value is None or math.isnan(value):
        return "unknown"
    return "the same" if value == 0 else f"{told(abs(value))} {'less' if value > 0 else 'more'}"


def describe_metric_change(name: str, gain: Interval) -> str:
    """A difference in a metric, in words."""
    value = gain.value
    if value is None or value == 0 or not metrics.METRICS[name].greater_is_better:
        return describe_reduction(value, format_number)
    return f"{'+' if value > 0 else '−'} {format_number(abs(value))}"


def _summarize_comparison(held: pd.DataFrame, data: pd.DataFrame, config: ProjectConfig) -> str:
    """On which rows, of which days, and what came out."""
    named = get_row_days(held, config)
    period = f" of {min(named)} to {max(named)}" if named is not None and len(named) else ""
    groups = {
        v: [t.split(":")[0] for t in data.loc[data["verdict"] == v, "title"]]
        for v in _DIFFERENCE_OUTCOMES
    }
    said = "; ".join(f"{v}: {', '.join(titles)}" for v, titles in groups.items() if titles)
    return (
        f"On the same {len(held):,} rows{period}, 95 % intervals. {capitalize_first(said)}."
        if pd.notna(data["difference"]).any()
        else f"On the same {len(held):,} rows{period} nothing could be measured."
    )


def _describe_margins(data: pd.DataFrame, other: ScoredModel, config: ProjectConfig) -> str:
    """How much worse each may be and still counts as no worse."""
    shared = [
        t
        for m, t in zip(data["metric"], data["title"], strict=True)
        if m in {"cost", "log_loss", "rmse"} and m != config.headline_metric
    ]
    beside = (
        f"; {format_percent(_RELATIVE_MARGIN)} of {other.name}'s for {', '.join(shared)}"
        if shared
        else ""
    )
    return (
        f"How much worse still counts as no worse: {format_number(config.review.margin)}{beside}."
    )


def _get_difference_interval(row: Mapping[Any, Any]) -> Interval:
    """A line's difference with its interval; what is NaN in the table is None here."""
    return Interval(*(to_json_value(row[k]) for k in ("difference", "low", "high")))


def extract_champion_gain(
    table: Table, other: ScoredModel, config: ProjectConfig
) -> ChampionComparison:
    """The gain in the headline metric, for the checks; and how it was compared, or why not."""
    found = next(
        (
            _get_difference_interval(row)
            for row in table.to_frame().to_dict("records")
            if row["metric"] == config.headline_metric
        ),
        None,
    )
    return ChampionComparison(found, other.note) if other.name else NO_CHAMPION
