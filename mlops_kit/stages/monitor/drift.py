"""Drift of columns: changes larger than noise and larger than a practical limit.

An alert needs both: the effect, corrected for its bias, is over a limit; and its p-value survives
Benjamini and Hochberg's correction over the columns. With many rows the first condition decides,
with few the second, so that size alone never alerts. Small shares (missing values, rare categories,
extreme values) are compared by their ratio to the reference. What cannot be tested (a constant, an
all-missing column, dates, identifiers) has a status and a reason, never an exception.

Rows become counts by day and bin first (``column_bins``, ``profiles``); the tests (``drift_tests``,
``rate_changes``) need no more, and ``drift_classification`` says what they amount to. The test of a
plugin that has no ``count_function`` is given rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.column_kinds import StatisticalKind, infer_statistical_kind
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.binned_tests import BinnedResult, CountedColumn
from mlops_kit.stages.monitor.column_bins import COUNTED_KINDS, ColumnBins, make_column_bins
from mlops_kit.stages.monitor.drift_classification import (
    DRIFT_COLUMNS,
    Classification,
    ColumnDrift,
    classify_columns,
    describe_new_categories,
    make_not_tested,
    make_too_few,
)
from mlops_kit.stages.monitor.drift_sides import DriftDesign, DriftSides, make_drift_sides
from mlops_kit.stages.monitor.drift_tests import (
    DRIFT_TESTS,
    SideWeights,
    find_drift_test,
    run_count_test,
    run_drift_test,
)
from mlops_kit.stages.monitor.profiles import DriftProfile, combine_sides, profile_rows
from mlops_kit.stages.monitor.rate_changes import (
    measure_extreme_change,
    measure_missing_change,
    measure_rare_change,
)
from mlops_kit.stats.monitoring_tables import DriftReason, DriftStatus
from mlops_kit.stats.weights import compute_effective_rows

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
MAX_ROWS_PER_SIDE = 100_000  # that are given to the test of a plugin
_ABSENT_KIND = "absent"
_MIN_IDENTIFIERS = 50  # distinct categories, below which a column does not identify rows


def measure_drift(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    columns: Iterable[str],
    limits: MonitorConfig,
    seed: int = 0,
    design: DriftDesign | SideWeights | None = None,
) -> Table:
    """Compare each column of the current rows with the reference.

    Parameters
    ----------
    columns : iterable of str
        The columns to compare.
    limits : MonitorConfig
        The project's limits of effect, significance and missing values.
    seed : int
        Seed of the sample that the test of a plugin is given of a side with very many rows.
    design : DriftDesign or SideWeights, optional
        The days and the weights of the rows of both sides, see ``get_drift_design``. Without days,
        rows count as independent of one another.

    Returns
    -------
    Table
        One row per column: the test's statistic, the effect and its limit, the p-value as it is and
        adjusted over the columns, the shares missing, the status, its reason, an explanation and
        the effective number of rows. Without rows on one side it has no rows.
    """
    sides = make_drift_sides(reference, current, design)
    if sides.current.empty or sides.reference.empty:
        return _make_empty_table()
    measured = []
    profiles = _profile_sides(sides, list(dict.fromkeys(columns)))
    for name, kind in profiles.kinds.items():
        row = ColumnDrift(
            column=name,
            kind=kind,
            limit=limits.alert_effect,
        )
        measured.append(row)
        if name not in profiles.bins:
            _classify_uncounted(row, sides, limits)
            continue
        _measure_column(row, profiles, limits, _make_row_test(row, sides, seed))
    classify_columns(measured, limits, sides.other_tests)
    return make_drift_table(measured, limits, sides.weights is not None, sides.days is not None)


def compare_profiles(
    bins: Mapping[str, ColumnBins],
    reference: DriftProfile,
    current: DriftProfile,
    limits: MonitorConfig,
) -> Table:
    """Compare two profiles with the same bins; no row is read.

    A column whose test is that of a plugin without ``count_function`` is compared with the default
    test of its kind.

    Parameters
    ----------
    bins : mapping of str to ColumnBins
        The bins of the columns to compare.
    limits : MonitorConfig
        The project's limits.

    Returns
    -------
    Table
        As of ``measure_drift``.
    """
    if not reference.row_count or not current.row_count:
        return _make_empty_table()
    limits = _select_count_tests(limits)
    kinds = {name: column.kind for name, column in bins.items()}
    profiles = ProfiledSides(kinds, dict(bins), reference, current)
    measured = []
    for name, kind in kinds.items():
        row = ColumnDrift(
            column=name,
            kind=kind,
            limit=limits.alert_effect,
        )
        _measure_column(row, profiles, limits)
        measured.append(row)
    classify_columns(measured, limits)
    return make_drift_table(measured, limits, has_weights=False, has_days=True)


def _select_count_tests(limits: MonitorConfig) -> MonitorConfig:
    """Return the limits without the chosen tests that need rows, so that defaults replace them."""
    count_tests = {
        kind: name
        for kind, name in limits.tests.items()
        if DRIFT_TESTS[name].count_function is not None
    }
    return limits.model_copy(update={"tests": count_tests})


@dataclass(frozen=True)
class ProfiledSides:
    """Both sides as counts: the kind of each column, and the bins of those that have some."""

    kinds: dict[str, str]
    bins: dict[str, ColumnBins]
    reference: DriftProfile
    current: DriftProfile


def _make_empty_table() -> Table:
    return Table(
        _TITLE,
        "Not applicable: there are no scored rows to compare.",
        pd.DataFrame(columns=DRIFT_COLUMNS),
    )


def _profile_sides(sides: DriftSides, columns: list[str]) -> ProfiledSides:
    """Count the rows of both sides, in the columns that can be compared."""
    kinds = {}
    bins = {}
    for name in columns:
        kinds[name] = _ABSENT_KIND
        if name not in sides.reference or name not in sides.current:
            continue
        kinds[name] = _combine_kinds(sides.reference[name], sides.current[name])
        if kinds[name] in COUNTED_KINDS:
            bins[name] = make_column_bins(sides.reference[name], kinds[name])
    reference_days, current_days = sides.days or (None, None)
    reference_weights, current_weights = sides.weights or (None, None)
    return ProfiledSides(
        kinds,
        bins,
        profile_rows(sides.reference, bins, reference_days, reference_weights),
        profile_rows(sides.current, bins, current_days, current_weights),
    )


def make_drift_table(
    measured: list[ColumnDrift],
    limits: MonitorConfig,
    has_weights: bool,
    has_days: bool,
) -> Table:
    """Make the table of classified columns, the most severe first."""
    measured = sorted(measured, key=lambda row: row.order)
    data = pd.DataFrame([row.to_row() for row in measured], columns=DRIFT_COLUMNS)
    notes = [
        f"An alert needs an effect of at least {limits.alert_effect:g} and an adjusted p-value "
        f"below {limits.alpha:g}, or {format_percent(limits.max_missing_increase)} more missing "
        "values. Missing values, rare categories and extreme values are also compared by their "
        f"ratio to the reference (a warning from {limits.warning_ratio:g}, an alert from "
        f"{limits.alert_ratio:g}).",
    ]
    if has_days:
        notes.append("p-values account for rows of one day that resemble one another.")
    else:
        notes.append(
            "p-values treat rows as independent; rows of one day rarely are, which is why the "
            "effect has a limit."
        )
    notes += _describe_row_tests(measured, limits, has_weights, has_days)
    return Table(
        _TITLE,
        _summarize_drift(data),
        data,
        notes=tuple(notes),
        visible_columns=_SHOWN_COLUMNS,
    )


def _describe_row_tests(
    measured: list[ColumnDrift],
    limits: MonitorConfig,
    has_weights: bool,
    has_days: bool,
) -> list[str]:
    """Say that rows are weighted, and which tests of plugins leave out weights or days."""
    names = {find_drift_test(row.kind, limits.tests) for row in measured if row.is_tested}
    row_tests = sorted(name for name in names if DRIFT_TESTS[name].count_function is None)
    notes = []
    if has_days and row_tests:
        notes.append(f"These tests treat rows as independent: {', '.join(row_tests)}.")
    if has_weights:
        note = "Rows count with their weights; tests rest on the effective number of rows."
        unweighted = [name for name in row_tests if not DRIFT_TESTS[name].takes_weights]
        if unweighted:
            note += f" These tests take no weights: {', '.join(unweighted)}."
        notes.append(note)
    return notes


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


def _make_row_test(
    row: ColumnDrift,
    sides: DriftSides,
    seed: int,
) -> Callable[[str], BinnedResult]:
    """Make the function that gives rows to a test that takes no counts."""

    def run_row_test(test: str) -> BinnedResult:
        before = limit_rows(sides.reference[row.column].dropna(), seed)
        now = limit_rows(sides.current[row.column].dropna(), seed + 1)
        weights = None
        if sides.weights is not None:
            weights = SideWeights(
                sides.weights.reference[before.index],
                sides.weights.current[now.index],
            )
        result = run_drift_test(test, before, now, weights)
        effective_rows = float(min(len(before), len(now)))
        if weights is not None and DRIFT_TESTS[test].takes_weights:
            effective_rows = min(compute_effective_rows(side) for side in weights)
        return BinnedResult(
            statistic=result.statistic,
            effect=result.effect,
            p_value=result.p_value,
            effective_rows=effective_rows,
        )

    return run_row_test


def _combine_kinds(before: pd.Series, now: pd.Series) -> str:
    """Return the kind under which both sides are compared; ``a/b`` if they differ."""
    kinds = {infer_statistical_kind(before), infer_statistical_kind(now)} - {StatisticalKind.EMPTY}
    if kinds == {StatisticalKind.NUMBER, StatisticalKind.CODE}:
        return str(StatisticalKind.NUMBER)
    if kinds == {StatisticalKind.BOOLEAN, StatisticalKind.CODE}:
        return str(StatisticalKind.CATEGORY)
    return "/".join(sorted(kinds)) or str(StatisticalKind.EMPTY)


def _classify_uncounted(
    row: ColumnDrift,
    sides: DriftSides,
    limits: MonitorConfig,
) -> None:
    """Classify a column whose values have no bins."""
    if row.kind == _ABSENT_KIND:
        return
    before = sides.reference[row.column]
    now = sides.current[row.column]
    row.missing_reference = float(before.isna().mean())
    row.missing_current = float(now.isna().mean())
    rows = min(len(before), len(now))
    if rows < limits.min_rows:
        row.classify(make_too_few(f"{rows} rows", limits))
    elif row.kind == StatisticalKind.EMPTY:
        row.classify(make_not_tested(DriftReason.ALL_MISSING, "no value on either side"))
    elif row.kind == StatisticalKind.DATE:
        row.classify(make_not_tested(DriftReason.NOT_COMPARABLE, "dates always advance"))
    else:
        kinds = f"{infer_statistical_kind(before)} before, {infer_statistical_kind(now)} now"
        row.classify(make_not_tested(DriftReason.TYPE_CHANGED, kinds))


def _measure_column(
    row: ColumnDrift,
    profiles: ProfiledSides,
    limits: MonitorConfig,
    run_row_test: Callable[[str], BinnedResult] | None = None,
) -> None:
    """Measure one column, before the p-values are adjusted over the columns."""
    column = combine_sides(
        row.column, profiles.bins[row.column], profiles.reference, profiles.current
    )
    missing = measure_missing_change(column)
    row.missing_reference = missing.reference_share
    row.missing_current = missing.current_share
    row.reference_rows = profiles.reference.row_count
    rows = min(profiles.reference.row_count, profiles.current.row_count)
    if rows < limits.min_rows:
        row.classify(make_too_few(f"{rows} rows", limits))
        return
    row.missing = missing
    untested = _explain_not_tested(row, column, profiles, limits)
    if untested is not None:
        row.classify(untested)
        return
    test = find_drift_test(row.kind, limits.tests)
    if run_row_test is not None and DRIFT_TESTS[test].count_function is None:
        result = run_row_test(test)
    else:
        result = run_count_test(test, column)
    row.statistic = result.statistic
    row.effect = result.effect
    row.p_value = result.p_value
    row.effective_rows = result.effective_rows
    row.rare = measure_rare_change(column)
    row.extreme = measure_extreme_change(column)
    row.new_values = _describe_new_values(column, profiles.current.unseen_names[row.column])


def _explain_not_tested(
    row: ColumnDrift,
    column: CountedColumn,
    profiles: ProfiledSides,
    limits: MonitorConfig,
) -> Classification | None:
    """Classify a column that no test can or need decide; None if one should."""
    known_values = min(
        round(profiles.reference.row_count * (1 - row.missing_reference)),
        round(profiles.current.row_count * (1 - row.missing_current)),
    )
    if known_values < limits.min_rows:
        return make_too_few(f"{known_values} values", limits)
    distinct = column.bins.distinct
    is_identifier = distinct > max(_MIN_IDENTIFIERS, profiles.reference.row_count / 2)
    if row.kind == StatisticalKind.CATEGORY and is_identifier:
        explanation = "most values occur once: they identify rows"
        return make_not_tested(DriftReason.NOT_COMPARABLE, explanation)
    values = column.select_values()
    used_bins = (values.reference.sum(axis=0) > 0) | (values.current.sum(axis=0) > 0)
    if distinct == 1 and used_bins.sum() == 1:
        return make_not_tested(DriftReason.CONSTANT, "one value, the same on both sides")
    return None


def _describe_new_values(column: CountedColumn, unseen_names: tuple[str, ...]) -> str:
    """Describe what the reference does not have: a category, or an infinity; else empty."""
    values = column.select_values()
    reference = values.reference.sum(axis=0)
    current = values.current.sum(axis=0)
    if column.bins.is_number:
        last = column.bins.value_bins - 1
        infinite = current[0] + current[last]
        if not infinite or reference[0] + reference[last]:
            return ""
        return f"{infinite:.0f} infinite values"
    unseen = current[column.bins.unseen_bin]
    if column.bins.has_others or not unseen:
        return ""
    return describe_new_categories(unseen_names, unseen / current.sum())


def limit_rows(values: pd.Series, seed: int) -> pd.Series:
    """Return at most ``MAX_ROWS_PER_SIDE`` of the values, drawn without replacement."""
    if len(values) <= MAX_ROWS_PER_SIDE:
        return values
    return values.sample(MAX_ROWS_PER_SIDE, random_state=seed)
