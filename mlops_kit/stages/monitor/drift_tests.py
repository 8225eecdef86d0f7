"""Drift tests: measure how far the distribution of a column has changed.

To add a drift test, in the package or in a plugin of a project:

1. Write a function ``(reference, current) -> DriftTestResult`` over two series without missing
   values.
2. Decorate it with ``@register_drift_test("name", kinds...)``, with the kinds of column it is for.
3. Choose it in ``mlops.yaml``: ``monitor: {tests: {number: name}}``. Its effect is compared with
   ``monitor.warning_effect`` and ``monitor.alert_effect``.

The contract tests then require "same sample: no alert; shifted: alert" of it. A test that takes
row weights is registered with ``takes_weights=True``; its function has a third argument, the
``SideWeights``, which is None where all rows count the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    name_failing_extension,
)
from mlops_kit.core.lazy import np, pd, scipy_stats
from mlops_kit.data.column_kinds import StatisticalKind
from mlops_kit.project.config.monitoring import DRIFT_TESTS_BY_KIND
from mlops_kit.stages.monitor.binned_tests import (
    BinnedResult,
    CountedColumn,
    correct_ks_distance,
    count_series,
    measure_cramers_v,
    measure_ks,
    measure_ranks,
)
from mlops_kit.stats.weights import compute_effective_rows


class DriftTestResult(NamedTuple):
    """A drift test's statistic, its effect corrected for bias, and its p-value."""

    statistic: float
    effect: float
    p_value: float


DriftTestFunction = Callable[..., DriftTestResult]


class SideWeights(NamedTuple):
    """The weights of the reference's and of the current rows."""

    reference: np.ndarray
    current: np.ndarray


def make_side_weights(
    reference: np.ndarray | None, current: np.ndarray | None
) -> SideWeights | None:
    """Combine the weights of both sides; None if one of them is not known."""
    if reference is None or current is None:
        return None
    return SideWeights(reference, current)


CountTestFunction = Callable[[CountedColumn], BinnedResult]


class DriftTest(NamedTuple):
    """A drift test, the kinds of column it is for, and whether it takes weights.

    With ``count_function`` it needs no rows, only the counts by day and bin, and accounts for days.
    """

    column_kinds: tuple[str, ...]
    function: DriftTestFunction
    takes_weights: bool = False
    count_function: CountTestFunction | None = None


DRIFT_TESTS: ExtensionRegistry[DriftTest] = ExtensionRegistry(ExtensionKind.DRIFT_TEST)


def register_drift_test(
    name: str,
    *column_kinds: str,
    takes_weights: bool = False,
    count_function: CountTestFunction | None = None,
) -> Callable[[DriftTestFunction], DriftTestFunction]:
    """Register the decorated function as a drift test for these kinds of column.

    Parameters
    ----------
    name : str
        The name in ``monitor.tests``.
    *column_kinds : {"number", "category", "code", "boolean"}
        The kinds of column that it is for.
    takes_weights : bool
        Whether the function has a third argument, the weights of both sides or None.
    count_function : callable, optional
        The same test on a ``CountedColumn``: the rows of each day in each bin of the reference.
        Drift of many rows is then measured without reading them again, and days are accounted for.

    Examples
    --------
    >>> @register_drift_test("mean_shift", "number")
    ... def run_mean_shift_test(reference, current):
    ...     result = scipy_stats.ttest_ind(reference, current, equal_var=False)
    ...     shift = abs(current.mean() - reference.mean()) / reference.std()
    ...     return DriftTestResult(float(result.statistic), float(shift), float(result.pvalue))
    >>> find_drift_test("number", {"number": "mean_shift"})
    'mean_shift'
    >>> del DRIFT_TESTS["mean_shift"]
    """

    def register(function: DriftTestFunction) -> DriftTestFunction:
        drift_test = DriftTest(column_kinds, function, takes_weights, count_function)
        DRIFT_TESTS.register(name, applies_to=column_kinds)(drift_test)
        return function

    return register


def run_drift_test(
    name: str,
    reference: Any,
    current: Any,
    weights: SideWeights | None = None,
) -> DriftTestResult:
    """Run a registered test, and check what it returns.

    Weights are left out by a test that does not take them.

    Raises
    ------
    RunFailedError
        If it fails, or returns an effect that is negative or unknown, or no p-value.
    """
    with name_failing_extension(ExtensionKind.DRIFT_TEST, name):
        drift_test = DRIFT_TESTS[name]
        arguments = (weights,) if drift_test.takes_weights else ()
        statistic, effect, p_value = drift_test.function(reference, current, *arguments)
        result = DriftTestResult(float(statistic), float(effect), float(p_value))
    _check_result(name, result)
    return result


def run_count_test(name: str, column: CountedColumn) -> BinnedResult:
    """Run a registered test on counts, and check what it returns.

    Raises
    ------
    RunFailedError
        If it fails, or returns an effect that is negative or unknown, or no p-value.
    """
    with name_failing_extension(ExtensionKind.DRIFT_TEST, name):
        count_function = DRIFT_TESTS[name].count_function
        if count_function is None:
            raise TypeError("it has no count_function")
        result = count_function(column)
    _check_result(name, DriftTestResult(result.statistic, result.effect, result.p_value))
    return result


def _check_result(name: str, result: DriftTestResult) -> None:
    """Check that a drift test returned an effect and a p-value."""
    if not (result.effect >= 0 and 0 <= result.p_value <= 1):
        raise RunFailedError(
            f"the drift test {name!r} returned the effect {result.effect:g} and the p-value "
            f"{result.p_value:g}",
            "an effect of at least 0, and a p-value from 0 to 1",
            "correct the drift test, or choose another one in monitor.tests",
        )


def find_drift_test(kind: str, chosen: Mapping[Any, str]) -> str:
    """Return the name of the test for a kind of column.

    Parameters
    ----------
    kind : str
        The kind of column.
    chosen : mapping
        The setting ``monitor.tests``: the name of a test by kind.

    Raises
    ------
    KitError
        If the chosen test is not for this kind of column.
    """
    default_tests: Mapping[Any, tuple[str, ...]] = DRIFT_TESTS_BY_KIND
    name = chosen.get(kind) or default_tests[kind][0]
    column_kinds = DRIFT_TESTS[name].column_kinds
    if kind not in column_kinds:
        raise KitError(
            f"monitor.tests.{kind}: the drift test {name!r} is not for columns of this kind",
            f"a test for {kind} columns; it is for {', '.join(column_kinds)}",
            "edit monitor.tests in mlops.yaml",
        )
    return name


@register_drift_test(
    "ranks",
    StatisticalKind.NUMBER,
    takes_weights=True,
    count_function=measure_ranks,
)
def run_rank_test(
    reference: Any,
    current: Any,
    weights: SideWeights | None = None,
) -> DriftTestResult:
    """Test for a shift with van der Waerden's test of ranks, and for other changes with KS.

    Notes
    -----
    The test of a shift compares the means of the normal scores of ranks (van der Waerden, Proc.
    Kon. Ned. Akad. Wet. A 55 (1952)). Its efficiency is at least that of the t test for every
    distribution, and the same for the normal one (Chernoff & Savage, Ann. Math. Stat. 29 (1958)),
    so that a shift of 0.2 standard deviations in 1,000 rows is detected more often than by Mann
    and Whitney's test or by that of Kolmogorov and Smirnov.

    The effect is the larger of the corrected Kolmogorov-Smirnov distance (see ``run_ks_test``) and
    √2 · (P(X < Y) − 1/2) of normal distributions whose shift is the difference of the mean scores,
    less its bias. The p-value is the smaller of those of both tests, divided by their shares of the
    significance level (0.9 and 0.1: a Bonferroni correction with weights, Genovese, Roeder &
    Wasserman, Biometrika 93 (2006)). Ranks are those of the reference's bins.
    """
    return _count_and_measure(
        measure_ranks,
        StatisticalKind.NUMBER,
        reference,
        current,
        weights,
    )


@register_drift_test(
    "ks",
    StatisticalKind.NUMBER,
    takes_weights=True,
    count_function=measure_ks,
)
def run_ks_test(
    reference: Any,
    current: Any,
    weights: SideWeights | None = None,
) -> DriftTestResult:
    """Run the two-sample Kolmogorov-Smirnov test; the effect is D less its bias.

    Notes
    -----
    effect = sqrt(max(0, D² − π²/12 · (1/n₁ + 1/n₂))); π²/12 is the second moment of Kolmogorov's
    distribution (Marsaglia, Tsang & Wang 2003, J. Stat. Softw. 8(18)), and the correction is to D²
    what Bergsma's is to V². The p-value is scipy's asymptotic one (conservative with ties).

    With weights, D is the largest distance of the weighted distribution functions, and n₁ and n₂
    are the effective numbers of rows (Monahan, "Numerical Methods of Statistics", 2nd edition,
    2011, chapter 12).
    """
    reference_values = np.asarray(reference, dtype=float)
    current_values = np.asarray(current, dtype=float)
    if weights is not None:
        return _run_weighted_ks_test(reference_values, current_values, weights)
    result = scipy_stats.ks_2samp(reference_values, current_values, method="asymp")
    statistic = float(result.statistic)
    effect = correct_ks_distance(statistic, len(reference_values), len(current_values))
    return DriftTestResult(statistic, effect, float(result.pvalue))


def _run_weighted_ks_test(
    reference: np.ndarray,
    current: np.ndarray,
    weights: SideWeights,
) -> DriftTestResult:
    """Run the test on weighted values."""
    values = np.union1d(reference, current)
    distribution_functions = []
    for side, side_weights in ((reference, weights.reference), (current, weights.current)):
        totals = np.bincount(np.searchsorted(values, side), side_weights, len(values))
        distribution_functions.append(totals.cumsum() / totals.sum())
    statistic = float(np.abs(distribution_functions[0] - distribution_functions[1]).max())
    reference_rows = compute_effective_rows(weights.reference)
    current_rows = compute_effective_rows(weights.current)
    effective_rows = reference_rows * current_rows / (reference_rows + current_rows)
    p_value = float(scipy_stats.kstwo.sf(statistic, max(1, round(effective_rows))))
    effect = correct_ks_distance(statistic, reference_rows, current_rows)
    return DriftTestResult(statistic, effect, min(1.0, p_value))


@register_drift_test(
    "cramers_v",
    StatisticalKind.CATEGORY,
    StatisticalKind.CODE,
    StatisticalKind.BOOLEAN,
    takes_weights=True,
    count_function=measure_cramers_v,
)
def run_cramers_v_test(
    reference: Any,
    current: Any,
    weights: SideWeights | None = None,
) -> DriftTestResult:
    """Compute bias-corrected Cramér's V of side and category, with the chi-square p-value.

    Notes
    -----
    V² = max(0, φ² − (k−1)/(n−1)) / (r−1) with r = 2 − 1/(n−1) for the two sides (Bergsma 2013,
    J. Korean Stat. Soc. 42). Both sides have the same weight (n = 4 n₁ n₂ / (n₁ + n₂)), so that V
    does not shrink for a short window; for sides of equal size this is Bergsma's formula as
    published. Categories with an expected count below five are pooled.

    With weights, the counts of a side are its weighted shares times its effective number of rows:
    the first-order correction of Rao & Scott, "The analysis of categorical data from complex sample
    surveys", JASA 76 (1981), with Kish's design effect of unequal weights.
    """
    return _count_and_measure(
        measure_cramers_v,
        StatisticalKind.CATEGORY,
        reference,
        current,
        weights,
    )


def _count_and_measure(
    measure: CountTestFunction,
    kind: StatisticalKind,
    reference: Any,
    current: Any,
    weights: SideWeights | None,
) -> DriftTestResult:
    """Count both sides in the reference's bins, and run the test on these counts."""
    column = count_series(
        pd.Series(reference),
        pd.Series(current),
        kind.value,
        weights,
    )
    result = measure(column)
    return DriftTestResult(result.statistic, result.effect, result.p_value)
