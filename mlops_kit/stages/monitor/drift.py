"""Drift of columns: changes larger than noise and larger than a practical limit.

An alert needs both: the effect, corrected for its bias, is over a limit; and its p-value survives
Benjamini and Hochberg's correction over the columns. With many rows the first condition decides,
with few the second, so that size alone never alerts. What cannot be tested (a constant, an
all-missing column, dates, identifiers) has a status and a reason, never an exception.

The tests themselves are in ``drift_tests``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd, scipy_stats
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import is_finite_score, predict_codes, to_score_array
from mlops_kit.data.column_kinds import StatisticalKind, infer_statistical_kind
from mlops_kit.data.columns import PART_COLUMN, ROW_ID, list_feature_columns
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.drift_tests import (
    DRIFT_TESTS,
    MAX_CATEGORIES,
    SideWeights,
    find_drift_test,
    format_categories,
    make_side_weights,
    run_drift_test,
)
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus
from mlops_kit.stats.weights import compute_weighted_mean

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
    "status",
    "reason",
    "explanation",
]
_SHOWN_COLUMNS = (
    "column",
    "status",
    "explanation",
    "effect",
    "adjusted_p",
    "missing_reference",
    "missing_current",
)
_TITLE = "Drift by feature"
MAX_ROWS_PER_SIDE = 100_000  # more rows change the result of neither condition, only the time
SCORE_COLUMN = "score"
# Columns of scored rows that are neither features nor the score.
_SCORING_COLUMNS = {"prediction_id", "decision", "model_version", "day"}
_ABSENT_KIND = "absent"
_MAX_LISTED_CATEGORIES = 3


class _Classification(NamedTuple):
    """A drift status, what it rests on, and a phrase that explains it."""

    status: DriftStatus
    reason: DriftReason
    explanation: str


@dataclass
class _ColumnDrift:
    """The row of one column; the numbers are NaN where the column was not tested."""

    column: str
    kind: str
    limit: float
    statistic: float = math.nan
    effect: float = math.nan
    p_value: float = math.nan
    adjusted_p: float = math.nan
    missing_reference: float = math.nan
    missing_current: float = math.nan
    new_values: str = ""
    status: DriftStatus = DriftStatus.NOT_TESTED
    reason: DriftReason = DriftReason.COLUMN_ABSENT
    explanation: str = "a side has no such column"

    @property
    def is_tested(self) -> bool:
        """Whether a drift test has run."""
        return not math.isnan(self.p_value)

    @property
    def order(self) -> tuple[bool, bool, float]:
        """Sort key: alerts, then warnings for an effect, then by effect."""
        is_effect_warning = self.status is DriftStatus.WARNING and self.reason is DriftReason.EFFECT
        effect = -1.0 if math.isnan(self.effect) else self.effect
        return self.status is not DriftStatus.ALERT, not is_effect_warning, -effect

    def classify(self, classification: _Classification) -> None:
        """Set the status, its reason and the explanation."""
        self.status = classification.status
        self.reason = classification.reason
        self.explanation = classification.explanation

    def to_row(self) -> list[object]:
        """Return the values of ``DRIFT_COLUMNS``."""
        values: list[object] = []
        for name in DRIFT_COLUMNS:
            value = getattr(self, name)
            values.append(str(value) if isinstance(value, str) else value)
        return values


def select_reference_and_current(
    config: ProjectConfig,
    table: pd.DataFrame,
    held_out: pd.DataFrame,
    scored: pd.DataFrame,
    classes: Sequence[Any] = (),
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Select the two sides to compare: the held-out rows, and the rows scored since.

    Instead of class probabilities, the predicted classes are compared.

    Parameters
    ----------
    table : DataFrame
        The feature table with ``part``; its part ``test`` is the reference.
    held_out, scored : DataFrame
        The evaluation model's scores of the test rows, and the scores of the period.
    classes : sequence
        The names of the classes of a multiclass task, in the order of their codes.

    Returns
    -------
    reference, current : DataFrame
        The features and ``score``, nothing else.
    """
    table = to_pandas(table)
    held_out = to_pandas(held_out)
    scored = to_pandas(scored)
    feature_columns = [
        column for column in list_feature_columns(config, table) if column != SCORE_COLUMN
    ]
    keys = config.id or [ROW_ID]
    test_columns = list(dict.fromkeys([*keys, *feature_columns]))
    test_rows = table.loc[table[PART_COLUMN] == "test", test_columns]
    reference = test_rows.merge(held_out[[*keys, SCORE_COLUMN]], on=keys, how="left")
    roles = {config.time, config.validation.group, config.weight, config.target}
    other_columns = {*keys, *roles, *_SCORING_COLUMNS} - set(feature_columns)
    current_columns = [column for column in scored.columns if column not in other_columns]
    reference = replace_class_probabilities(reference[[*feature_columns, SCORE_COLUMN]], classes)
    return reference, replace_class_probabilities(scored[current_columns], classes)


def replace_class_probabilities(rows: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Replace the class probabilities in ``score`` by the name of the predicted class.

    Other scores stay as they are.
    """
    scores = to_score_array(rows[SCORE_COLUMN])
    if scores.ndim == 1:
        return rows
    names = np.array([*map(str, classes or range(scores.shape[1])), None], dtype=object)
    codes = np.full(len(rows), len(names) - 1)  # no score: the last name, which is None
    is_scored = is_finite_score(scores)
    codes[is_scored] = predict_codes(scores[is_scored])
    return rows.assign(**{SCORE_COLUMN: names[codes]})


def get_drift_weights(
    config: ProjectConfig,
    table: pd.DataFrame,
    scored: pd.DataFrame,
) -> SideWeights | None:
    """Return the weights of the rows of ``select_reference_and_current``, in their order.

    None if the project has no weights, or they are not known for one of the sides.
    """
    table = to_pandas(table)
    scored = to_pandas(scored)
    return make_side_weights(
        get_row_weights(table[table[PART_COLUMN] == "test"], config),
        get_row_weights(scored, config),
    )


def measure_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Iterable[str],
    limits: MonitorConfig,
    seed: int = 0,
    weights: SideWeights | None = None,
) -> Table:
    """Compare each column of the current rows with the reference.

    Parameters
    ----------
    columns : iterable of str
        The columns to compare.
    limits : MonitorConfig
        The project's limits of effect, significance and missing values.
    seed : int
        Seed of the sample that is drawn from a side with very many rows.
    weights : SideWeights, optional
        The weights of the rows of both sides, see ``get_drift_weights``.

    Returns
    -------
    Table
        One row per column: the test's statistic, the effect and its limit, the p-value as it is and
        adjusted over the columns, the shares missing, the status, its reason and an explanation.
        Without rows on one side it has no rows.
    """
    reference = to_pandas(reference)
    current = to_pandas(current)
    if weights is not None:
        counts_reference = weights.reference > 0
        counts_current = weights.current > 0
        reference = reference[counts_reference]
        current = current[counts_current]
        weights = SideWeights(weights.reference[counts_reference], weights.current[counts_current])
    if current.empty or reference.empty:
        return Table(
            _TITLE,
            "Not applicable: there are no scored rows to compare.",
            pd.DataFrame(columns=DRIFT_COLUMNS),
        )
    rows = [
        _measure_column(column, _Sides(reference, current, weights), limits, seed)
        for column in dict.fromkeys(columns)
    ]
    tested = [row for row in rows if row.is_tested]
    if tested:
        adjusted = scipy_stats.false_discovery_control([row.p_value for row in tested])
        for row, adjusted_p in zip(tested, adjusted, strict=True):
            row.adjusted_p = float(adjusted_p)
            row.classify(_classify_effect(row, limits))
    rows.sort(key=lambda row: row.order)
    data = pd.DataFrame([row.to_row() for row in rows], columns=DRIFT_COLUMNS)
    notes = [
        f"An alert needs an effect of at least {limits.alert_effect:g} and an adjusted p-value "
        f"below {limits.alpha:g}, or {format_percent(limits.max_missing_increase)} more missing "
        "values.",
        "p-values treat rows as independent; rows of one day rarely are, which is why the effect "
        "has a limit.",
    ]
    if weights is not None:
        notes.append(_describe_weights(rows, limits))
    return Table(
        _TITLE,
        _summarize_drift(data),
        data,
        notes=tuple(notes),
        visible_columns=_SHOWN_COLUMNS,
    )


def _describe_weights(rows: list[_ColumnDrift], limits: MonitorConfig) -> str:
    """Say that rows are weighted, and which tests do not take weights."""
    tests = {find_drift_test(row.kind, limits.tests) for row in rows if row.is_tested}
    unweighted = sorted(test for test in tests if not DRIFT_TESTS[test].takes_weights)
    note = "Rows count with their weights; tests rest on the effective number of rows."
    if unweighted:
        note += f" These tests take no weights: {', '.join(unweighted)}."
    return note


def _summarize_drift(data: pd.DataFrame) -> str:
    """Summarize a drift table in a sentence."""
    if data.empty:
        return "Not applicable: there are no columns to compare."
    undecided = int((data["reason"] == DriftReason.TOO_FEW_ROWS).sum())
    if undecided == len(data):
        return f"Cannot tell: {data['explanation'].iloc[0]}."
    rest = f"; {undecided} could not be tested" if undecided else ""
    alerts = data[data["status"] == DriftStatus.ALERT]
    if alerts.empty:
        return f"None of {len(data)} columns raises an alert{rest}."
    verb = "raise" if len(alerts) > 1 else "raises"
    return (
        f"{alerts['column'].iloc[0]} drifted most: {alerts['explanation'].iloc[0]}; "
        f"{len(alerts)} of {len(data)} columns {verb} an alert{rest}."
    )


class _Sides(NamedTuple):
    """The rows that are compared, and their weights if they have any."""

    reference: pd.DataFrame
    current: pd.DataFrame
    weights: SideWeights | None


def _measure_column(
    column: str,
    sides: _Sides,
    limits: MonitorConfig,
    seed: int,
) -> _ColumnDrift:
    """Measure one column, before the p-values are adjusted."""
    row = _ColumnDrift(column=column, kind=_ABSENT_KIND, limit=limits.alert_effect)
    if column not in sides.reference or column not in sides.current:
        return row
    before = sides.reference[column]
    now = sides.current[column]
    reference_weights, current_weights = sides.weights or (None, None)
    row.kind = _combine_kinds(before, now)
    row.missing_reference = compute_weighted_mean(before.isna(), reference_weights)
    row.missing_current = compute_weighted_mean(now.isna(), current_weights)
    untested = _explain_not_tested(row, before, now, limits)
    if untested is not None:
        row.classify(untested)
        return row
    known_before = before.dropna()
    known_now = now.dropna()
    tested_before = limit_rows(known_before, seed)
    tested_now = limit_rows(known_now, seed + 1)
    tested_weights = None
    if sides.weights is not None:
        tested_weights = SideWeights(
            pd.Series(reference_weights, before.index)[tested_before.index].to_numpy(),
            pd.Series(current_weights, now.index)[tested_now.index].to_numpy(),
        )
    result = run_drift_test(
        find_drift_test(row.kind, limits.tests), tested_before, tested_now, tested_weights
    )
    row.statistic = result.statistic
    row.effect = result.effect
    row.p_value = result.p_value
    row.new_values = _describe_new_values(row.kind, known_before, known_now)
    return row


def _combine_kinds(before: pd.Series, now: pd.Series) -> str:
    """Return the kind under which both sides are compared; ``a/b`` if they differ."""
    kinds = {infer_statistical_kind(before), infer_statistical_kind(now)} - {StatisticalKind.EMPTY}
    if kinds == {StatisticalKind.NUMBER, StatisticalKind.CODE}:
        return str(StatisticalKind.NUMBER)
    if kinds == {StatisticalKind.BOOLEAN, StatisticalKind.CODE}:
        return str(StatisticalKind.CATEGORY)
    return "/".join(sorted(kinds)) or str(StatisticalKind.EMPTY)


def _explain_not_tested(
    row: _ColumnDrift,
    before: pd.Series,
    now: pd.Series,
    limits: MonitorConfig,
) -> _Classification | None:
    """Classify a column that no test can or need decide; None if one should."""
    rows = min(len(before), len(now))
    if rows < limits.min_rows:
        return _make_too_few(f"{rows} rows", limits)
    if row.kind == StatisticalKind.EMPTY:
        return _make_not_tested(DriftReason.ALL_MISSING, "no value on either side")
    if row.missing_current - row.missing_reference > limits.max_missing_increase:
        return _Classification(
            DriftStatus.ALERT,
            DriftReason.MISSING_VALUES,
            f"missing values rose from {format_percent(row.missing_reference)} "
            f"to {format_percent(row.missing_current)}",
        )
    known_values = min(int(before.notna().sum()), int(now.notna().sum()))
    if known_values < limits.min_rows:
        return _make_too_few(f"{known_values} values", limits)
    if "/" in row.kind:
        kinds = f"{infer_statistical_kind(before)} before, {infer_statistical_kind(now)} now"
        return _make_not_tested(DriftReason.TYPE_CHANGED, kinds)
    return _explain_incomparable(row.kind, before.dropna(), now.dropna())


def _explain_incomparable(
    kind: str,
    before: pd.Series,
    now: pd.Series,
) -> _Classification | None:
    """Classify known values that no test compares: dates, identifiers, one constant."""
    if kind == StatisticalKind.DATE:
        return _make_not_tested(DriftReason.NOT_COMPARABLE, "dates always advance")
    distinct = before.astype(str).nunique()
    if kind == StatisticalKind.CATEGORY and distinct > max(MAX_CATEGORIES, len(before) / 2):
        explanation = "most values occur once: they identify rows"
        return _make_not_tested(DriftReason.NOT_COMPARABLE, explanation)
    if distinct == 1 and set(before.astype(str)) == set(now.astype(str)):
        return _make_not_tested(DriftReason.CONSTANT, "one value, the same on both sides")
    return None


def _make_not_tested(reason: DriftReason, explanation: str) -> _Classification:
    return _Classification(DriftStatus.NOT_TESTED, reason, explanation)


def _make_too_few(count: str, limits: MonitorConfig) -> _Classification:
    return _make_not_tested(
        DriftReason.TOO_FEW_ROWS,
        f"{count} on one side, fewer than {limits.min_rows}",
    )


def _classify_effect(row: _ColumnDrift, limits: MonitorConfig) -> _Classification:
    """Classify a tested column by its effect, its significance and its new values."""
    effect = f"effect {format_number(row.effect)}"
    is_significant = row.adjusted_p < limits.alpha
    if is_significant and row.effect >= limits.alert_effect:
        explanation = f"{effect}, limit {limits.alert_effect:g}"
        if row.new_values:
            explanation += f"; {row.new_values}"
        return _Classification(DriftStatus.ALERT, DriftReason.EFFECT, explanation)
    if row.new_values:
        return _Classification(DriftStatus.WARNING, DriftReason.NEW_VALUES, row.new_values)
    if is_significant and row.effect >= limits.warning_effect:
        explanation = f"{effect}, warning limit {limits.warning_effect:g}"
        return _Classification(DriftStatus.WARNING, DriftReason.EFFECT, explanation)
    qualifier = "too small to matter" if is_significant else "not significant"
    return _Classification(DriftStatus.NONE, DriftReason.EFFECT, f"{effect}, {qualifier}")


def _describe_new_values(
    kind: str,
    before: pd.Series,
    now: pd.Series,
) -> str:
    """Describe what the reference does not have: a category, or an infinity; else empty."""
    if kind == StatisticalKind.NUMBER:
        infinite = int(np.isinf(now.to_numpy(dtype=float)).sum())
        if not infinite or np.isinf(before.to_numpy(dtype=float)).any():
            return ""
        return f"{infinite} infinite values"
    known_categories = set(format_categories(before))
    categories = format_categories(now)
    new = [category for category in categories if category not in known_categories]
    if not new:
        return ""
    listed = ", ".join(sorted(set(new))[:_MAX_LISTED_CATEGORIES])
    return f"new categories: {listed} in {format_percent(len(new) / len(categories))} of the rows"


def limit_rows(values: pd.Series, seed: int) -> pd.Series:
    """Return at most ``MAX_ROWS_PER_SIDE`` of the values, drawn without replacement."""
    if len(values) <= MAX_ROWS_PER_SIDE:
        return values
    return values.sample(MAX_ROWS_PER_SIDE, random_state=seed)
