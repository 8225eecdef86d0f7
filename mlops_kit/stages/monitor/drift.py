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

from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import np, pd, scipy_stats
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict
from mlops_kit.data.column_kinds import infer_statistical_kind
from mlops_kit.data.columns import list_feature_columns
from mlops_kit.project.config import monitoring, root

DRIFT_COLUMNS = [
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
_SHOWN_COLUMNS = (
    "column",
    "word",
    "why",
    "effect",
    "adjusted_p",
    "missing_reference",
    "missing_current",
)
MAX_ROWS_PER_SIDE = 100_000  # a side; more rows move neither gate's answer, only the time it takes
_MAX_CATEGORIES = 50  # categories told apart; the rest is one
SCORE_COLUMN = "score"


class DriftTestResult(NamedTuple):
    """What a drift test says: its statistic, the effect less its bias, the p-value."""

    statistic: float
    effect: float
    p_value: float


DriftTestFunction = Callable[[Any, Any], DriftTestResult]


class DriftTest(NamedTuple):
    """A test and the kinds of column it is for."""

    column_kinds: tuple[str, ...]
    function: DriftTestFunction


DRIFT_TESTS: ExtensionRegistry[DriftTest] = ExtensionRegistry("drift test")


def register_drift_test(name: str, *kinds: str) -> Callable[[DriftTestFunction], DriftTestFunction]:
    """Register the decorated function for these kinds of column."""
    return lambda function: DRIFT_TESTS.register(name)(DriftTest(kinds, function)).function


@register_drift_test("ks", "number")
def run_ks_test(reference: Any, current: Any) -> DriftTestResult:
    """Largest distance D of the two distribution functions, less its second moment under no drift.

    effect = sqrt(max(0, D² − π²/12 · (1/n₁ + 1/n₂))); π²/12 is the second moment of Kolmogorov's
    distribution (Marsaglia, Tsang & Wang 2003, J. Stat. Softw. 8(18)), and the correction is to D²
    what Bergsma's is to V². The p-value is scipy's asymptotic one (conservative with ties).
    """
    first, second = np.asarray(reference, dtype=float), np.asarray(current, dtype=float)
    found = scipy_stats.ks_2samp(first, second, method="asymp")
    bias = math.pi**2 / 12 * (1 / len(first) + 1 / len(second))
    return DriftTestResult(
        float(found.statistic),
        math.sqrt(max(0.0, float(found.statistic) ** 2 - bias)),
        float(found.pvalue),
    )


@register_drift_test("cramers_v", "category", "code", "boolean")
def run_cramers_v_test(reference: Any, current: Any) -> DriftTestResult:
    """Cramér's V of side and category, bias-corrected (Bergsma 2013, J. Korean Stat. Soc. 42), with chi-square's p.

    V² = max(0, φ² − (k−1)/(n−1)) / (r−1) with r = 2 − 1/(n−1) for the two sides. Both sides weigh the
    same (n = 4 n₁ n₂ / (n₁ + n₂)), so that V does not shrink when the window is short; for sides of one
    size this is Bergsma's formula as printed. Categories expected fewer than five times are pooled.
    """
    counts = _pool_rare_categories(_count_categories(reference, current))
    if counts.shape[1] < 2:
        return DriftTestResult(0.0, 0.0, 1.0)
    chi2 = scipy_stats.chi2_contingency(counts, correction=False)
    sizes = counts.sum(axis=1)
    shares = counts / sizes[:, None]
    phi2 = float((np.diff(shares, axis=0)[0] ** 2 / shares.sum(axis=0)).sum() / 2)
    n = 4 * sizes[0] * sizes[1] / sizes.sum()
    corrected = max(0.0, phi2 - (counts.shape[1] - 1) / (n - 1)) / (1 - 1 / (n - 1))
    return DriftTestResult(math.sqrt(phi2), min(1.0, math.sqrt(corrected)), float(chi2.pvalue))


def _count_categories(reference: Any, current: Any) -> np.ndarray:
    """Counts of the reference's commonest categories and of all others together, a row a side.

    A category the reference has not seen counts among the others.
    """
    first, second = (
        pd.Series(_format_categories(reference)).value_counts(),
        pd.Series(_format_categories(current)).value_counts(),
    )
    top = sorted(first.index, key=lambda v: (-first[v], v))[:_MAX_CATEGORIES]
    return np.vstack(
        [
            np.append(side.reindex(top, fill_value=0).to_numpy(), side[~side.index.isin(top)].sum())
            for side in (first, second)
        ]
    ).astype(float)


def _format_categories(values: Any) -> list[str]:
    """Categories as text; 1, 1.0 and True are the same one."""
    return [
        str(int(v)) if isinstance(v, bool) or (isinstance(v, float) and v.is_integer()) else str(v)
        for v in getattr(values, "tolist", lambda: values)()
    ]


def _pool_rare_categories(both: np.ndarray) -> np.ndarray:
    """A table of two rows in which no category is expected fewer than five times (Cochran's rule), but the pool."""
    expected = both.sum(axis=0) * both.sum(axis=1).min() / both.sum()
    table = np.hstack([both[:, expected >= 5], both[:, expected < 5].sum(axis=1, keepdims=True)])
    return table[:, table.sum(axis=0) > 0]


def select_reference_and_current(
    config: root.ProjectConfig, table: pd.DataFrame, judged: pd.DataFrame, scored: pd.DataFrame
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
    names = [c for c in list_feature_columns(config, table) if c != SCORE_COLUMN]
    keys = config.id or ["row_id"]
    reference = table.loc[table["part"] == "test", list(dict.fromkeys([*keys, *names]))].merge(
        judged[[*keys, SCORE_COLUMN]], on=keys, how="left"
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
    return reference[[*names, SCORE_COLUMN]], scored[[c for c in scored.columns if c not in own]]


def measure_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Iterable[str],
    limits: monitoring.MonitorConfig,
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
            pd.DataFrame(columns=DRIFT_COLUMNS),
        )
    rows = [_measure_column(c, reference, current, limits, seed) for c in dict.fromkeys(columns)]
    tested = [r for r in rows if not math.isnan(r["p_value"])]
    for row, adjusted in zip(
        tested,
        scipy_stats.false_discovery_control([r["p_value"] for r in tested]) if tested else [],
        strict=True,
    ):
        row["adjusted_p"] = float(adjusted)
        row["word"], row["why"] = _classify_effect(row, limits)
    rows.sort(
        key=lambda r: (
            r["word"] != "alert",
            r["word"] != "watch",
            -(r["effect"] if r["effect"] == r["effect"] else -1.0),
        )
    )
    data = pd.DataFrame([{c: r[c] for c in DRIFT_COLUMNS} for r in rows], columns=DRIFT_COLUMNS)
    notes = (
        f"An alert needs an effect of at least {limits.alert_effect:g} and an adjusted p below {limits.alpha:g}, or {format_percent(limits.max_missing_increase)} more missing.",
        "p-values take rows as independent; rows of one day rarely are, which is why the effect has a floor.",
    )
    return Table(
        "Drift by column", _summarize_drift(data), data, notes=notes, visible_columns=_SHOWN_COLUMNS
    )


def _summarize_drift(data: pd.DataFrame) -> str:
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


def _measure_column(
    name: str,
    reference: pd.DataFrame,
    current: pd.DataFrame,
    limits: monitoring.MonitorConfig,
    seed: int,
) -> dict[str, Any]:
    """One column's row, before the p-values are adjusted."""
    row: dict[str, Any] = {
        **dict.fromkeys(DRIFT_COLUMNS, math.nan),
        "column": name,
        "kind": "absent",
        "limit": limits.alert_effect,
        "word": "absent",
        "why": "a side has no such column",
        "fresh": "",
    }
    if name not in reference or name not in current:
        return row
    before, now = reference[name], current[name]
    kinds = {infer_statistical_kind(before), infer_statistical_kind(now)} - {"empty"}
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
    row["word"], row["why"] = _explain_not_tested(row, before, now, limits)
    if row["word"]:
        return row
    test = next(t for t in DRIFT_TESTS.values() if row["kind"] in t.column_kinds)
    first, second = limit_rows(before.dropna(), seed), limit_rows(now.dropna(), seed + 1)
    row["statistic"], row["effect"], row["p_value"] = test.function(first, second)
    row["fresh"] = _describe_new_values(row["kind"], before.dropna(), now.dropna())
    return row


def _explain_not_tested(
    row: dict[str, Any], before: pd.Series, now: pd.Series, limits: monitoring.MonitorConfig
) -> tuple[str, str]:
    """The word for a column that no test can or need look at, and why; empty if one should."""
    if (few := min(len(before), len(now))) < limits.min_rows:
        return "cannot tell", f"{few} rows on one side, fewer than {limits.min_rows}"
    if row["kind"] == "empty":
        return "all missing", "no value on either side"
    if row["missing_current"] - row["missing_reference"] > limits.max_missing_increase:
        return (
            "alert",
            f"missing rose from {format_percent(row['missing_reference'])} to {format_percent(row['missing_current'])}",
        )
    filled = min(int(before.notna().sum()), int(now.notna().sum()))
    if filled < limits.min_rows:
        return "cannot tell", f"{filled} values on one side, fewer than {limits.min_rows}"
    if "/" in row["kind"]:
        return (
            "type changed",
            f"{infer_statistical_kind(before)} in the reference, {infer_statistical_kind(now)} now",
        )
    if row["kind"] == "date":
        return "not compared", "dates move on by themselves"
    if row["kind"] == "category" and before.dropna().astype(str).nunique() > max(
        _MAX_CATEGORIES, before.notna().sum() / 2
    ):
        return "not compared", "most values occur once: it names rows"
    if before.dropna().astype(str).nunique() == 1 and set(before.dropna().astype(str)) == set(
        now.dropna().astype(str)
    ):
        return "constant", "one value, the same on both sides"
    return "", ""


def _classify_effect(row: dict[str, Any], limits: monitoring.MonitorConfig) -> tuple[str, str]:
    """The word of the two gates, and why."""
    effect, significant = f"effect {format_number(row['effect'])}", row["adjusted_p"] < limits.alpha
    if row["effect"] >= limits.alert_effect and significant:
        return "alert", f"{effect}, limit {limits.alert_effect:g}" + (
            f"; {row['fresh']}" if row["fresh"] else ""
        )
    if row["fresh"]:
        return ("new category" if row["kind"] != "number" else "infinite"), row["fresh"]
    if row["effect"] >= limits.warning_effect and significant:
        return "watch", f"{effect}, worth a look from {limits.warning_effect:g}"
    return (
        "no drift",
        f"{effect}, within the noise" if not significant else f"{effect}, too small to matter",
    )


def _describe_new_values(kind: str, before: pd.Series, now: pd.Series) -> str:
    """What the current rows hold that the reference never had: a category, or an infinity."""
    if kind == "number":
        infinite = int(np.isinf(now.to_numpy(dtype=float)).sum())
        return (
            f"{infinite} infinite values"
            if infinite and not np.isinf(before.to_numpy(dtype=float)).any()
            else ""
        )
    known, seen = set(_format_categories(before)), _format_categories(now)
    fresh = [v for v in seen if v not in known]
    return (
        f"new: {', '.join(sorted(set(fresh))[:3])} in {format_percent(len(fresh) / len(seen))} of rows"
        if fresh
        else ""
    )


def limit_rows(values: pd.Series, seed: int) -> pd.Series:
    """At most ``MOST_ROWS`` of the values, drawn without replacement."""
    return (
        values
        if len(values) <= MAX_ROWS_PER_SIDE
        else values.sample(MAX_ROWS_PER_SIDE, random_state=seed)
    )


def check_schema(reference: pd.DataFrame, current: pd.DataFrame) -> Verdict:
    """Whether the current rows have the reference's columns, and each still its type."""
    title, cure = (
        "The columns are those the model was judged on",
        "find out what changed upstream; do not retrain on such rows",
    )
    if current.empty:
        return Verdict(
            "schema",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.BLOCKS,
            "There are no scored rows whose columns could differ.",
        )
    missing = [c for c in reference.columns if c not in current.columns]
    added = [c for c in current.columns if c not in reference.columns]
    pairs = {
        c: (_get_comparable_kind(reference[c]), _get_comparable_kind(current[c]))
        for c in reference.columns
        if c not in missing
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
        CheckOutcome.FAILED if broken else CheckOutcome.PASSED,
        CheckSeverity.BLOCKS,
        sentence,
        "; ".join(parts),
        "none missing, no type changed",
        cure if broken else "",
        found,
    )


def _get_comparable_kind(values: pd.Series) -> str:
    """Kinds that may stand for one another: whole and broken numbers, codes, booleans."""
    return {"code": "number", "boolean": "number"}.get(
        found := infer_statistical_kind(values), found
    )
