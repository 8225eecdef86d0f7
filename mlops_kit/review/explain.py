"""What the model goes by, what its scores mean, what it would say otherwise, and what a decision costs.

What it would say of a row if one of its columns held another value is scored at once and filed, so that
a page can answer without a model. Only one column moves at a time, so a made row may be one that never
occurs: it tells of the model, not of the world.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mlops_kit import metrics
from mlops_kit.config import Config
from mlops_kit.late import np, pd, stats
from mlops_kit.results import Table, money, number, percent
from mlops_kit.tracking import answers

REPEATS = 3  # shuffles of each column; the spread between them is shown
NORMAL = 1.959963984540054  # 97.5 % point of the normal distribution
ROWS, COLUMNS, VALUES = (
    12,
    6,
    10,
)  # how many rows are asked about, in which columns, with how many values each
SEEN = ("row", "score", "column", "is", "if", "then")


def permutation_importance(
    model: Any,
    frame: pd.DataFrame,
    features: Sequence[str],
    target: str,
    config: Config,
    seed: int = 0,
    rows: int = 5000,
) -> Table:
    """How much worse the headline metric gets when a column is shuffled (Breiman 2001; scikit-learn).

    Columns that say the same cover for one another, so a small fall need not mean a useless column.

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The judged model.
    frame : DataFrame
        Rows it has not learnt from; those without a label are left out, and at most ``rows`` are drawn.

    Returns
    -------
    Table
        feature, fall (in the metric's unit, positive is worse), spread (sd over the shuffles); largest first.
    """
    from sklearn.inspection import permutation_importance as shuffled

    known = metrics.METRICS[config.headline]
    labelled = frame[frame[target].notna()]
    if len(labelled) > rows:
        labelled = labelled.iloc[
            np.sort(np.random.default_rng(seed).choice(len(labelled), rows, replace=False))
        ]

    def score(fitted: Any, x: pd.DataFrame, y: Any) -> float:
        return known.gain(known.function(y, answers(fitted, x, config)), 0.0)

    names, y = list(features), labelled[target].to_numpy(dtype=float)
    if math.isnan(
        metrics.value(
            config.headline, y, answers(model, labelled[names], config) if len(labelled) else []
        )
    ):
        return Table(
            "What does it go by?",
            f"{known.title} cannot be computed on these rows, so nothing says what the model goes by.",
            pd.DataFrame(columns=["feature", "fall", "spread"]),
        )
    found = shuffled(
        model, labelled[names], y, scoring=score, n_repeats=REPEATS, random_state=seed, n_jobs=1
    )
    data = pd.DataFrame(
        {"feature": names, "fall": found.importances_mean, "spread": found.importances_std}
    )
    data = data.sort_values(["fall", "feature"], ascending=[False, True], ignore_index=True)
    first, idle = data.iloc[0], int((data["fall"] <= data["spread"]).sum())
    sentence = f"{first['feature']} matters most: shuffled, {known.title} worsens by {number(float(first['fall']))}; {idle} of {len(data)} columns make no difference on their own."
    notes = (
        f"{len(labelled):,} rows, each column shuffled {REPEATS} times; columns that say the same cover for one another.",
    )
    return Table("What does it go by?", sentence, data, {"fall": known.title}, notes)


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927); it stays between 0 and 1, also for few rows.

    >>> tuple(round(end, 4) for end in wilson(5, 10))
    (0.2366, 0.7634)
    """
    found = stats.binomtest(hits, rows).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def calibration_table(y: Any, score: Any, bins: int = 10) -> Table:
    """What was said against what was seen, in bins of equally many rows.

    Labels of 0 and 1 get Wilson's intervals; other targets the normal interval of a mean.

    Returns
    -------
    Table
        A row a bin: said (mean score), seen (mean label), low, high, rows, share (of all rows).
    """
    y, score, _ = metrics.arrays(y, score)
    title, columns = "Does it mean what it says?", ["said", "seen", "low", "high", "rows", "share"]
    if len(y) == 0:
        return Table(
            title, "There is no labelled row to compare with.", pd.DataFrame(columns=columns)
        )
    held = np.searchsorted(np.quantile(score, np.linspace(0, 1, bins + 1))[1:-1], score)
    shares, rows = bool(np.isin(y, (0, 1)).all()), []
    for b in np.unique(held):
        inside = y[held == b]
        count, seen = len(inside), float(inside.mean())
        half = NORMAL * float(inside.std(ddof=1)) / math.sqrt(count) if count > 1 else math.nan
        low, high = wilson(int(inside.sum()), count) if shares else (seen - half, seen + half)
        rows.append((float(score[held == b].mean()), seen, low, high, count, count / len(y)))
    data = pd.DataFrame(rows, columns=columns)
    off = data.assign(gap=data["seen"] - data["said"])
    worst = off.iloc[int(off["gap"].abs().to_numpy().argmax())]
    told = percent if shares else number
    outside = int(((data["said"] < data["low"]) | (data["said"] > data["high"])).sum())
    sentence = f"Where it says {told(float(worst['said']))}, {told(float(worst['seen']))} is seen: the largest gap; in {outside} of {len(data)} bins what it says lies outside the interval."
    return Table(title, sentence, data, {"share": "of all rows"})


def calibrations(y: Any, scores: Mapping[str, Any], bins: int = 10) -> Table:
    """The calibration of several models on the same rows, one below the other.

    Parameters
    ----------
    scores : mapping of str to array-like
        By the name of the model; one without scores is left out.

    Returns
    -------
    Table
        A row a model and bin: model, said, seen, low, high, share (of all rows).
    """
    found = {name: calibration_table(y, s, bins) for name, s in scores.items() if s is not None}
    sentence = " ".join(
        f"{name[:1].upper()}{name[1:]}: {t.sentence[0].lower()}{t.sentence[1:]}"
        for name, t in found.items()
    )
    data = pd.concat([t.frame().assign(model=name) for name, t in found.items()], ignore_index=True)
    return Table(
        "Does it mean what it says?",
        sentence,
        data[["model", "said", "seen", "low", "high", "share"]],
        {"share": "of all rows"},
    )


def threshold_table(y: Any, score: Any, threshold: float, config: Config) -> Table:
    """What a decision costs at the model's threshold, beside flagging every row, none, or above a half.

    Returns
    -------
    Table
        A row a rule: threshold, flagged, precision, recall (shares), false_alarms, misses (rows), cost (a row).
    """
    y, score, _ = metrics.arrays(y, score)
    cost, unit = config.cost, config.cost.unit
    rules = {
        "the model's threshold": threshold,
        "flag above a half": 0.5,
        "flag every row": 0.0,
        "flag no row": float(np.nextafter(1.0, 2.0)),
    }
    curve = metrics.cost_curve(y, score, cost.false_alarm, cost.miss, list(rules.values()))
    curve.insert(0, "rule", list(rules))
    first = curve.iloc[0]
    blind = curve.iloc[2:]["cost"].min()
    said = f"At its threshold of {number(float(threshold))} it flags {percent(float(first['flagged']))} of the rows; {percent(float(first['precision']))} of these deserve it, and {percent(float(first['recall']))} of those that deserve it are found."
    sentence = (
        f"{said} A {config.row} costs {money(float(first['cost']), unit)}, without a model {money(float(blind), unit)}."
        if len(y)
        else "There is no labelled row to decide on."
    )
    note = f"A false alarm costs {money(cost.false_alarm, unit)}, a miss {money(cost.miss, unit)}."
    return Table(
        "What does a decision cost?",
        sentence,
        curve,
        {"cost": f"{unit or 'cost'} a {config.row}"},
        (note,),
    )


def error_table(y: Any, score: Any, unit: str = "") -> Table:
    """How far a regression is off: quantiles of the absolute error, in the target's unit."""
    y, score, _ = metrics.arrays(y, score)
    shares = [0.5, 0.8, 0.9, 0.95, 1.0]
    ends = np.quantile(np.abs(y - score), shares) if len(y) else np.full(len(shares), np.nan)
    data = pd.DataFrame({"share of rows": shares, "off by at most": ends})
    sentence = (
        f"Half of the rows are off by at most {number(float(ends[0]))}, nine in ten by at most {number(float(ends[2]))} (in the target's unit)."
        if len(y)
        else "There is no labelled row."
    )
    return Table("How far is it off?", sentence, data, {"off by at most": unit} if unit else {})


def decisions(scores: pd.DataFrame, config: Config, threshold: float | None) -> Table:
    """What hangs on the scores: the cost at the threshold, or how far a regression is off."""
    if config.task == "regression" or threshold is None:
        return error_table(scores[config.target], scores["score"])
    return threshold_table(scores[config.target], scores["score"], threshold, config)


def what_if(
    model: Any, rows: pd.DataFrame, features: Sequence[str], importance: Table, config: Config
) -> Table:
    """The score of some judged rows as they are, and with another value in each of the columns that matter.

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The judged model.
    rows : DataFrame
        Judged rows with their ``score``; those asked about are spread evenly over it.
    importance : Table
        Of ``permutation_importance``; the first columns of it are changed.

    Returns
    -------
    Table
        row (its id), score, column, is, if (values as text), then (the score with that value).
    """
    names, asked = list(features), spread(rows, config)
    columns = [str(c) for c in importance.frame()["feature"][:COLUMNS]] or names[:COLUMNS]
    made = [changed(asked, column, values(rows[column]), config) for column in columns]
    told = pd.concat([m[0] for m in made], ignore_index=True)
    if told.empty:
        return Table(
            "What if?", "There is no judged row to ask about.", pd.DataFrame(columns=list(SEEN))
        )
    told["then"] = answers(model, pd.concat([m[1][names] for m in made], ignore_index=True), config)
    most = told.iloc[int((told["then"] - told["score"]).abs().to_numpy().argmax())]
    sentence = f"Of {len(asked)} rows and {len(columns)} columns, {most['column']} moves one row the most: {most['row']} has {number(float(most['score']))} with {most['is']}, and would have {number(float(most['then']))} with {most['if']}."
    return Table(
        "What if?",
        sentence,
        told[list(SEEN)],
        notes=(
            "Only one column is changed at a time, so a made row may be one that never occurs.",
        ),
    )


def spread(rows: pd.DataFrame, config: Config) -> pd.DataFrame:
    """A few rows, evenly spread over the order of their scores."""
    held = rows[rows["score"].notna()].sort_values(["score", *keys(config)], kind="stable")
    return held.iloc[evenly(len(held), ROWS)]


def evenly(rows: int, count: int) -> np.ndarray:
    """Positions from the first to the last, evenly spaced, each once."""
    return np.unique(np.linspace(0, rows - 1, count).round().astype(int)) if rows else np.arange(0)


def values(column: pd.Series) -> pd.Series:
    """What a column may hold instead: ten quantiles of a number (each a value that occurs), else the commonest."""
    known = column.dropna()
    measured = pd.api.types.is_numeric_dtype(known) or pd.api.types.is_datetime64_any_dtype(known)
    if measured and not pd.api.types.is_bool_dtype(known):
        known = known.sort_values(kind="stable").iloc[evenly(len(known), VALUES + 2)[1:-1]]
        return known[~known.map(text).duplicated()]
    counts = known.astype(str).value_counts()
    commonest = sorted(counts.index, key=lambda v: (-counts[v], v))[:VALUES]
    return (
        known[known.astype(str).isin(commonest)]
        .drop_duplicates()
        .sort_values(key=lambda s: s.astype(str).map(commonest.index))
    )


def changed(
    asked: pd.DataFrame, column: str, instead: pd.Series, config: Config
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each row once for each value: what was changed, and the made rows, with the columns' own types."""
    row, value = (
        np.repeat(np.arange(len(asked)), len(instead)),
        np.tile(np.arange(len(instead)), len(asked)),
    )
    made = asked.iloc[row].reset_index(drop=True)
    names = made[keys(config)].astype(str).agg(" · ".join, axis=1) if len(made) else ""
    told = pd.DataFrame(
        {
            "row": names,
            "score": made["score"],
            "column": column,
            "is": [text(v) for v in made[column]],
            "if": [text(v) for v in instead.iloc[value]],
        }
    )
    made[column] = instead.iloc[value].reset_index(drop=True)
    return told, made


def keys(config: Config) -> list[str]:
    """The columns that name a row."""
    return config.id or ["row_id"]


def text(value: Any) -> str:
    """A value as a reader sees it."""
    if value is None or value != value or str(value) in {"NaT", "<NA>"}:
        return "missing"
    if str(value) in {"True", "False"}:
        return "yes" if str(value) == "True" else "no"
    return number(value) if isinstance(value, float) else str(value)
