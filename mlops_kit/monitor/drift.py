"""Drift: has a column moved by more than the noise, and by more than a practical floor?

Two gates, both needed for an alert: the effect, less what it shows when nothing moved, is over a
floor; and its p-value survives Benjamini and Hochberg's correction over the columns. With many rows
the first gate binds, with few the second, so that size alone never alerts. What cannot be tested (a
constant, an all-missing column, dates, names of rows) gets a word of its own, never an exception.

To add a drift test: 1. a function ``(reference, current) -> Measured`` over two series without
missing values, 2. ``@drift_test("name", "kind", …)`` above it with the kinds of column it is for;
the contract tests then hold it to "same sample: no alert; shifted: alert" at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mlops_kit import config as configs
from mlops_kit import features as feature_store
from mlops_kit.late import np, pd, stats
from mlops_kit.registry import Registry
from mlops_kit.results import Table, Verdict, number, percent

COLUMNS = [
    "column",
    "kind",
    "statistic",
    "effect",
    "limit",
    "p_value",
    "adjusted_p",
    "missing_reference",
    "missing_current",
    "word",
    "why",
]
SEEN = ("column", "word", "why", "effect", "adjusted_p", "missing_reference", "missing_current")
MOST_ROWS = 100_000  # a side; more rows move neither gate's answer, only the time it takes
CODES = 10  # whole numbers with at most so many values are codes, compared as categories
LEVELS = 50  # categories told apart; the rest is one
SCORE = "score"


class Measured(NamedTuple):
    """What a drift test says: its statistic, the effect less its bias, the p-value."""

    statistic: float
    effect: float
    p_value: float


Test = Callable[[Any, Any], Measured]


class DriftTest(NamedTuple):
    """A test and the kinds of column it is for."""

    kinds: tuple[str, ...]
    function: Test


DRIFT_TESTS: Registry[DriftTest] = Registry("drift test")


def drift_test(name: str, *kinds: str) -> Callable[[Test], Test]:
    """Register the decorated function for these kinds of column."""
    return lambda function: DRIFT_TESTS.register(name)(DriftTest(kinds, function)).function


@drift_test("ks", "number")
def kolmogorov_smirnov(reference: Any, current: Any) -> Measured:
    """Largest distance D of the two distribution functions, less its second moment under no drift.

    effect = sqrt(max(0, D² − π²/12 · (1/n₁ + 1/n₂))); π²/12 is the second moment of Kolmogorov's
    distribution (Marsaglia, Tsang & Wang 2003, J. Stat. Softw. 8(18)), and the correction is to D²
    what Bergsma's is to V². The p-value is scipy's asymptotic one (conservative with ties).
    """
    first, second = np.asarray(reference, dtype=float), np.asarray(current, dtype=float)
    found = stats.ks_2samp(first, second, method="asymp")
    bias = math.pi**2 / 12 * (1 / len(first) + 1 / len(second))
    return Measured(
        float(found.statistic),
        math.sqrt(max(0.0, float(found.statistic) ** 2 - bias)),
        float(found.pvalue),
    )


@drift_test("cramers_v", "category", "code", "boolean")
def cramers_v(reference: Any, current: Any) -> Measured:
    """Cramér's V of side and category, bias-corrected (Bergsma 2013, J. Korean Stat. Soc. 42), with chi-square's p.

    V² = max(0, φ² − (k−1)/(n−1)) / (r−1) with r = 2 − 1/(n−1) for the two sides. Both sides weigh the
    same (n = 4 n₁ n₂ / (n₁ + n₂)), so that V does not shrink when the window is short; for sides of one
    size this is Bergsma's formula as printed. Categories expected fewer than five times are pooled.
    """
    counts = pooled(counted(reference, current))
    if counts.shape[1] < 2:
        return Measured(0.0, 0.0, 1.0)
    chi2 = stats.chi2_contingency(counts, correction=False)
    sizes = counts.sum(axis=1)
    shares = counts / sizes[:, None]
    phi2 = float((np.diff(shares, axis=0)[0] ** 2 / shares.sum(axis=0)).sum() / 2)
    n = 4 * sizes[0] * sizes[1] / sizes.sum()
    corrected = max(0.0, phi2 - (counts.shape[1] - 1) / (n - 1)) / (1 - 1 / (n - 1))
    return Measured(math.sqrt(phi2), min(1.0, math.sqrt(corrected)), float(chi2.pvalue))


def counted(reference: Any, current: Any) -> np.ndarray:
    """Counts of the reference's commonest categories and of all others together, a row a side.

    A category the reference has not seen counts among the others.
    """
    first, second = (
        pd.Series(texts(reference)).value_counts(),
        pd.Series(texts(current)).value_counts(),
    )
    top = sorted(first.index, key=lambda v: (-first[v], v))[:LEVELS]
    return np.vstack(
        [
            np.append(side.reindex(top, fill_value=0).to_numpy(), side[~side.index.isin(top)].sum())
            for side in (first, second)
        ]
    ).astype(float)


def texts(values: Any) -> list[str]:
    """Categories as text; 1, 1.0 and True are the same one."""
    return [
        str(int(v)) if isinstance(v, bool) or (isinstance(v, float) and v.is_integer()) else str(v)
        for v in getattr(values, "tolist", lambda: values)()
    ]


def pooled(both: np.ndarray) -> np.ndarray:
    """A table of two rows in which no category is expected fewer than five times (Cochran's rule), but the pool."""
    expected = both.sum(axis=0) * both.sum(axis=1).min() / both.sum()
    table = np.hstack([both[:, expected >= 5], both[:, expected < 5].sum(axis=1, keepdims=True)])
    return table[:, table.sum(axis=0) > 0]


def kind(values: pd.Series) -> str:
    """The kind of a column: number, code, boolean, category, date, or empty.

    >>> import pandas as pd
    >>> [kind(pd.Series(v)) for v in ([1.5, 2.5], [1, 2, 2], [True, None], ["a", "b"], [None, None])]
    ['number', 'code', 'boolean', 'category', 'empty']
    """
    known = values.dropna()
    if known.empty:
        return "empty"
    if pd.api.types.is_datetime64_any_dtype(known) or pd.api.types.is_timedelta64_dtype(known):
        return "date"
    if pd.api.types.is_bool_dtype(known) or (
        known.dtype == object and known.map(lambda v: isinstance(v, (bool, np.bool_))).all()
    ):
        return "boolean"
    if pd.api.types.is_numeric_dtype(known) and not isinstance(known.dtype, pd.CategoricalDtype):
        return (
            "code"
            if known.nunique() <= CODES
            and np.array_equal(np.rint(plain := known.to_numpy(dtype=float)), plain)
            and np.isfinite(plain).all()
            else "number"
        )
    return "category"


def sides(
    config: configs.Config, table: pd.DataFrame, judged: pd.DataFrame, scored: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The two sides to compare: the rows the model was judged on, and those it has scored since.

    Parameters
    ----------
    table : DataFrame
        The feature table with ``part``; its part ``test`` is the reference.
    judged, scored : DataFrame
        The judged model's scores of the test rows, and the scores of the period.

    Returns
    -------
    reference, current : DataFrame
        The features and ``score``, nothing else.
    """
    names = [c for c in feature_store.names(config, table) if c != SCORE]
    keys = config.id or ["row_id"]
    reference = table.loc[table["part"] == "test", list(dict.fromkeys([*keys, *names]))].merge(
        judged[[*keys, SCORE]], on=keys, how="left"
    )
    own = {
        *keys,
        config.time,
        config.target,
        "prediction_id",
        "decision",
        "model_version",
        "day",
    } - set(names)
    return reference[[*names, SCORE]], scored[[c for c in scored.columns if c not in own]]


def compare(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Iterable[str],
    limits: configs.Monitor,
    seed: int = 0,
) -> Table:
    """Hold each column of the current rows against the reference.

    Returns
    -------
    Table
        A row a column: the test's statistic, the effect less its bias, its floor, the p-value as it is
        and adjusted over the columns, the shares missing, the word, and why. No rows in: no rows out.
    """
    if current.empty or reference.empty:
        return Table(
            "Drift by column",
            "Not applicable: there are no scored rows to compare.",
            pd.DataFrame(columns=COLUMNS),
        )
    rows = [measured(c, reference, current, limits, seed) for c in dict.fromkeys(columns)]
    tested = [r for r in rows if not math.isnan(r["p_value"])]
    for row, adjusted in zip(
        tested,
        stats.false_discovery_control([r["p_value"] for r in tested]) if tested else [],
        strict=True,
    ):
        row["adjusted_p"] = float(adjusted)
        row["word"], row["why"] = judged_by(row, limits)
    rows.sort(
        key=lambda r: (
            r["word"] != "alert",
            r["word"] != "watch",
            -(r["effect"] if r["effect"] == r["effect"] else -1.0),
        )
    )
    data = pd.DataFrame([{c: r[c] for c in COLUMNS} for r in rows], columns=COLUMNS)
    notes = (
        f"An alert needs an effect of at least {limits.effect_alert:g} and an adjusted p below {limits.alpha:g}, or {percent(limits.missing)} more missing.",
        "p-values take rows as independent; rows of one day rarely are, which is why the effect has a floor.",
    )
    return Table("Drift by column", said(data), data, notes=notes, shown=SEEN)


def said(data: pd.DataFrame) -> str:
    """The take-away of a drift table."""
    alerts = data[data["word"] == "alert"]
    unknown = int((data["word"] == "cannot tell").sum())
    tail = f"; of {unknown} one cannot tell" if unknown else ""
    if unknown == len(data):
        return (
            f"Cannot tell: {data['why'].iloc[0]}."
            if unknown
            else "Not applicable: there are no columns to compare."
        )
    if alerts.empty:
        return f"None of {len(data)} columns alerts{tail}."
    return f"{alerts['column'].iloc[0]} drifted most ({alerts['why'].iloc[0]}); {len(alerts)} of {len(data)} columns {'alert' if len(alerts) > 1 else 'alerts'}{tail}."


def measured(
    name: str, reference: pd.DataFrame, current: pd.DataFrame, limits: configs.Monitor, seed: int
) -> dict[str, Any]:
    """One column's row, before the p-values are adjusted."""
    row: dict[str, Any] = {
        **dict.fromkeys(COLUMNS, math.nan),
        "column": name,
        "kind": "absent",
        "limit": limits.effect_alert,
        "word": "absent",
        "why": "a side has no such column",
        "fresh": "",
    }
    if name not in reference or name not in current:
        return row
    before, now = reference[name], current[name]
    kinds = {kind(before), kind(now)} - {"empty"}
    row["missing_reference"], row["missing_current"] = (
        float(before.isna().mean()),
        float(now.isna().mean()),
    )
    row["kind"] = (
        "number"
        if kinds == {"number", "code"}
        else "category"
        if kinds == {"boolean", "code"}
        else "/".join(sorted(kinds)) or "empty"
    )
    row["word"], row["why"] = untested(row, before, now, limits)
    if row["word"]:
        return row
    test = next(t for t in DRIFT_TESTS.values() if row["kind"] in t.kinds)
    first, second = capped(before.dropna(), seed), capped(now.dropna(), seed + 1)
    row["statistic"], row["effect"], row["p_value"] = test.function(first, second)
    row["fresh"] = news(row["kind"], before.dropna(), now.dropna())
    return row


def untested(
    row: dict[str, Any], before: pd.Series, now: pd.Series, limits: configs.Monitor
) -> tuple[str, str]:
    """The word for a column that no test can or need look at, and why; empty if one should."""
    if (few := min(len(before), len(now))) < limits.rows:
        return "cannot tell", f"{few} rows on one side, fewer than {limits.rows}"
    if row["kind"] == "empty":
        return "all missing", "no value on either side"
    if row["missing_current"] - row["missing_reference"] > limits.missing:
        return (
            "alert",
            f"missing rose from {percent(row['missing_reference'])} to {percent(row['missing_current'])}",
        )
    filled = min(int(before.notna().sum()), int(now.notna().sum()))
    if filled < limits.rows:
        return "cannot tell", f"{filled} values on one side, fewer than {limits.rows}"
    if "/" in row["kind"]:
        return "type changed", f"{kind(before)} in the reference, {kind(now)} now"
    if row["kind"] == "date":
        return "not compared", "dates move on by themselves"
    if row["kind"] == "category" and before.dropna().astype(str).nunique() > max(
        LEVELS, before.notna().sum() / 2
    ):
        return "not compared", "most values occur once: it names rows"
    if before.dropna().astype(str).nunique() == 1 and set(before.dropna().astype(str)) == set(
        now.dropna().astype(str)
    ):
        return "constant", "one value, the same on both sides"
    return "", ""


def judged_by(row: dict[str, Any], limits: configs.Monitor) -> tuple[str, str]:
    """The word of the two gates, and why."""
    effect, significant = f"effect {number(row['effect'])}", row["adjusted_p"] < limits.alpha
    if row["effect"] >= limits.effect_alert and significant:
        return "alert", f"{effect}, limit {limits.effect_alert:g}" + (
            f"; {row['fresh']}" if row["fresh"] else ""
        )
    if row["fresh"]:
        return ("new category" if row["kind"] != "number" else "infinite"), row["fresh"]
    if row["effect"] >= limits.effect_warn and significant:
        return "watch", f"{effect}, worth a look from {limits.effect_warn:g}"
    return (
        "no drift",
        f"{effect}, within the noise" if not significant else f"{effect}, too small to matter",
    )


def news(kind: str, before: pd.Series, now: pd.Series) -> str:
    """What the current rows hold that the reference never had: a category, or an infinity."""
    if kind == "number":
        infinite = int(np.isinf(now.to_numpy(dtype=float)).sum())
        return (
            f"{infinite} infinite values"
            if infinite and not np.isinf(before.to_numpy(dtype=float)).any()
            else ""
        )
    known, seen = set(texts(before)), texts(now)
    fresh = [v for v in seen if v not in known]
    return (
        f"new: {', '.join(sorted(set(fresh))[:3])} in {percent(len(fresh) / len(seen))} of rows"
        if fresh
        else ""
    )


def capped(values: pd.Series, seed: int) -> pd.Series:
    """At most ``MOST_ROWS`` of the values, drawn without replacement."""
    return values if len(values) <= MOST_ROWS else values.sample(MOST_ROWS, random_state=seed)


def schema(reference: pd.DataFrame, current: pd.DataFrame) -> Verdict:
    """Whether the current rows have the reference's columns, and each still its type."""
    title, cure = (
        "The columns are those the model was judged on",
        "find out what changed upstream; do not retrain on such rows",
    )
    if current.empty:
        return Verdict(
            "schema",
            title,
            "not applicable",
            "blocks",
            "There are no scored rows whose columns could differ.",
        )
    missing = [c for c in reference.columns if c not in current.columns]
    added = [c for c in current.columns if c not in reference.columns]
    pairs = {
        c: (family(reference[c]), family(current[c])) for c in reference.columns if c not in missing
    }
    changed = [
        f"{c} ({a} → {b})" for c, (a, b) in pairs.items() if a != b and "empty" not in (a, b)
    ]
    parts = [
        f"{word}: {', '.join(map(str, names))}"
        for word, names in (("missing", missing), ("type changed", changed), ("added", added))
        if names
    ]
    found = {"missing": missing, "added": added, "changed": changed}
    broken, tail = (
        bool(missing or changed),
        f" {len(added)} were added, which no model reads." if added else "",
    )
    sentence = (
        f"The columns changed; {'; '.join(parts)}."
        if broken
        else f"All {len(reference.columns)} columns are there with their types.{tail}"
    )
    return Verdict(
        "schema",
        title,
        "failed" if broken else "passed",
        "blocks",
        sentence,
        "; ".join(parts),
        "none missing, no type changed",
        cure if broken else "",
        found,
    )


def family(values: pd.Series) -> str:
    """Kinds that may stand for one another: whole and broken numbers, codes, booleans."""
    return {"code": "number", "boolean": "number"}.get(found := kind(values), found)
