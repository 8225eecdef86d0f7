"""Is the model better than the champion? Both answer for the same rows, and the difference has an interval.

A verdict is read off that interval against a margin set beforehand: ``better`` if all of it lies above
nothing, ``no worse`` if all of it lies above minus the margin, ``worse`` if it lies below; else one
cannot tell, and the table says how many rows would decide. A difference is positive where this model
is the better one, whichever way the metric points.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlops_kit import metrics
from mlops_kit.config import Config
from mlops_kit.late import np, pd
from mlops_kit.results import Interval, Table, money, number, percent, plain
from mlops_kit.review.evidence import NO_CHAMPION, Comparison, days
from mlops_kit.review.slices import grouped
from mlops_kit.tracking import answers

THIS = "this version"
SHARE = 0.01  # how much worse cost, log loss and RMSE may be, as a share of the champion's; review.margin is for the rest
COLUMNS = ("metric", "title", "difference", "low", "high", "margin", "verdict", "text", "rows")
SEEN = ("title", "text", "difference", "low", "high", "margin", "verdict", "rows")
VERDICTS = ("better", "no worse", "cannot tell", "worse")


class Contender(NamedTuple):
    """A model on the judged rows: its name in sentences, its scores, its threshold, the model itself.

    One without scores cannot be compared; ``how`` says why, or how the scores came about.
    """

    name: str
    scores: np.ndarray | None = None
    threshold: float | None = None
    model: Any = None
    columns: tuple[str, ...] = ()
    how: str = ""

    def __str__(self) -> str:
        return self.how


def contender(rows: pd.DataFrame, recipe: Mapping[str, Any], model: Any) -> Contender:
    """The model under review, with the scores that training handed on."""
    return Contender(
        THIS,
        rows["score"].to_numpy(dtype=float),
        recipe["threshold"],
        model,
        tuple(recipe["features"]),
    )


def rival(
    champion: Mapping[str, Any] | None,
    opponent: tuple[Any, list[str], str],
    rows: pd.DataFrame,
    config: Config,
) -> Contender:
    """The champion, answering for the same rows.

    Parameters
    ----------
    champion : mapping or None
        What the registry holds of the version that serves (``tracking.champion``).
    opponent : model or None, list of str, str
        Who answers for it, from which columns, and how that came about (``tracking.opponent``).
    """
    model, columns, how = opponent
    name = f"version {champion['version']}" if champion else ""
    if champion is None or model is None:
        return Contender(name, how=how)
    return Contender(
        name,
        answers(model, rows[columns], config),
        json.loads(champion["threshold"]),
        model,
        tuple(columns),
        how,
    )


def priced(config: Config, threshold: float | None) -> bool:
    """Whether a decision has a cost: there is a threshold, and somebody has said what a mistake costs."""
    return threshold is not None and bool(config.cost.model_fields_set)


def against(
    rows: pd.DataFrame,
    mine: Contender,
    other: Contender,
    slices: Table,
    config: Config,
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
        return Table(title, other.how, pd.DataFrame(columns=list(COLUMNS)))
    held = labelled(rows, mine, other, config)
    data = pd.DataFrame(
        [
            *costs(held, mine, other, config, seed),
            *measured(held, config, other, seed),
            *weakest(held, slices, config, seed),
        ],
        columns=list(COLUMNS),
    )
    data[["difference", "low", "high", "margin"]] = data[
        ["difference", "low", "high", "margin"]
    ].astype(float)
    open_ = [
        f"{r['title']}: {needed(interval(r), r['margin'], r['rows'])}."
        for r in data[data["verdict"] == "cannot tell"].to_dict("records")
    ]
    notes = (other.how, margins(data, other, config), *open_)
    return Table(
        title, sentence(held, data, config), data, {"difference": "positive is better"}, notes, SEEN
    )


def labelled(rows: pd.DataFrame, mine: Contender, other: Contender, config: Config) -> pd.DataFrame:
    """The rows with a label and a score of both, the scores in ``mine`` and ``other``."""
    found = rows.assign(mine=mine.scores, other=other.scores)
    return found[found[[config.target, "mine", "other"]].notna().all(axis=1)]


def line(
    metric: str, title: str, gain: Interval, margin: float, rows: int, text: str
) -> dict[str, Any]:
    """One line of the table."""
    return dict(
        zip(
            COLUMNS,
            (
                metric,
                title,
                gain.value,
                gain.low,
                gain.high,
                margin,
                stands(gain, margin),
                text,
                rows,
            ),
            strict=True,
        )
    )


def costs(
    held: pd.DataFrame, mine: Contender, other: Contender, config: Config, seed: int
) -> Iterator[dict[str, Any]]:
    """The line of what a row's decision costs, where that is known."""
    if mine.threshold is None or other.threshold is None or not priced(config, mine.threshold):
        return
    cost, y = config.cost, held[config.target]
    own, theirs = (
        metrics.row_costs(y, held[n], t, cost.false_alarm, cost.miss)
        for n, t in (("mine", mine.threshold), ("other", other.threshold))
    )
    gain = metrics.ratio(
        theirs - own, np.ones(len(held)), days(held, config), config.review.draws, seed
    )
    margin = SHARE * float(theirs.mean()) if len(held) else math.nan
    yield line(
        "cost",
        f"Cost a {config.row}",
        gain,
        margin,
        len(held),
        less(gain.value, lambda v: money(v, cost.unit)),
    )


def measured(
    held: pd.DataFrame, config: Config, other: Contender, seed: int
) -> Iterator[dict[str, Any]]:
    """The lines of the headline metric, of the loss that the model was fitted to, and of calibration."""
    wanted = [
        config.headline,
        *(("log_loss", "calibration_error") if config.task == "binary" else ("rmse",)),
    ]
    y = held[config.target]
    found = metrics.paired_differences(
        dict.fromkeys(wanted),
        y,
        held["mine"],
        held["other"],
        days(held, config),
        config.review.draws,
        seed,
    )
    for name, gain in found.items():
        own = name in {config.headline, "calibration_error"}
        margin = config.review.margin if own else SHARE * abs(metrics.value(name, y, held["other"]))
        yield line(
            name, capital(metrics.METRICS[name].title), gain, margin, len(held), change(name, gain)
        )


def weakest(
    held: pd.DataFrame, slices: Table, config: Config, seed: int
) -> Iterator[dict[str, Any]]:
    """The line of the slice in which this model is weakest; small slices are left out."""
    data = (
        slices.frame()
        .reindex(columns=["slice", "column", "group", "rows", "gap"])
        .dropna(subset="gap")
    )
    for worst in (
        data[data["rows"] >= config.review.slice_rows]
        .sort_values(["gap", "column", "group"])
        .head(1)
        .to_dict("records")
    ):
        inside = held[grouped(held, worst["column"]) == worst["group"]]
        gain = metrics.paired_difference(
            config.headline,
            inside[config.target],
            inside["mine"],
            inside["other"],
            days(inside, config),
            config.review.draws,
            seed,
        )
        yield line(
            "worst_slice",
            f"Worst slice: {worst['slice']}",
            gain,
            config.review.margin,
            len(inside),
            change(config.headline, gain),
        )


def stands(gain: Interval, margin: float) -> str:
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


def needed(gain: Interval, margin: float, rows: int) -> str:
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


def less(value: float | None, told: Any) -> str:
    """A difference in what should be small, in words: positive is less."""
    if value is None or math.isnan(value):
        return "unknown"
    return "the same" if value == 0 else f"{told(abs(value))} {'less' if value > 0 else 'more'}"


def change(name: str, gain: Interval) -> str:
    """A difference in a metric, in words."""
    value = gain.value
    if value is None or value == 0 or not metrics.METRICS[name].greater_is_better:
        return less(value, number)
    return f"{'+' if value > 0 else '−'} {number(abs(value))}"


def capital(title: str) -> str:
    """A title as it begins a line."""
    return title[0].upper() + title[1:]


def sentence(held: pd.DataFrame, data: pd.DataFrame, config: Config) -> str:
    """On which rows, of which days, and what came out."""
    named = days(held, config)
    period = f" of {min(named)} to {max(named)}" if named is not None and len(named) else ""
    groups = {
        v: [t.split(":")[0] for t in data.loc[data["verdict"] == v, "title"]] for v in VERDICTS
    }
    said = "; ".join(f"{v}: {', '.join(titles)}" for v, titles in groups.items() if titles)
    return (
        f"On the same {len(held):,} rows{period}, 95 % intervals. {capital(said)}."
        if pd.notna(data["difference"]).any()
        else f"On the same {len(held):,} rows{period} nothing could be measured."
    )


def margins(data: pd.DataFrame, other: Contender, config: Config) -> str:
    """How much worse each may be and still counts as no worse."""
    shared = [
        t
        for m, t in zip(data["metric"], data["title"], strict=True)
        if m in {"cost", "log_loss", "rmse"} and m != config.headline
    ]
    beside = f"; {percent(SHARE)} of {other.name}'s for {', '.join(shared)}" if shared else ""
    return f"How much worse still counts as no worse: {number(config.review.margin)}{beside}."


def interval(row: Mapping[Any, Any]) -> Interval:
    """A line's difference with its interval; what is NaN in the table is None here."""
    return Interval(*(plain(row[k]) for k in ("difference", "low", "high")))


def compared(table: Table, other: Contender, config: Config) -> Comparison:
    """The gain in the headline metric, for the checks; and how it was compared, or why not."""
    found = next(
        (
            interval(row)
            for row in table.frame().to_dict("records")
            if row["metric"] == config.headline
        ),
        None,
    )
    return Comparison(found, other.how) if other.name else NO_CHAMPION
