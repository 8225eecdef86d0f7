"""Drift tests: measure how far the distribution of a column has changed.

To add a drift test, in the package or in a plugin of a project:

1. Write a function ``(reference, current) -> DriftTestResult`` over two series without missing
   values.
2. Decorate it with ``@register_drift_test("name", kinds...)``, with the kinds of column it is for.
3. Choose it in ``mlops.yaml``: ``monitor: {tests: {number: name}}``. Its effect is compared with
   ``monitor.warning_effect`` and ``monitor.alert_effect``.

The contract tests then require "same sample: no alert; shifted: alert" of it.
"""

from __future__ import annotations

import math
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

MAX_CATEGORIES = 50  # most frequent categories that are compared one by one; the rest is pooled
_MIN_EXPECTED_COUNT = 5  # of a cell of the contingency table (Cochran's rule)


class DriftTestResult(NamedTuple):
    """A drift test's statistic, its effect corrected for bias, and its p-value."""

    statistic: float
    effect: float
    p_value: float


DriftTestFunction = Callable[[Any, Any], DriftTestResult]


class DriftTest(NamedTuple):
    """A drift test and the kinds of column it is for."""

    column_kinds: tuple[str, ...]
    function: DriftTestFunction


DRIFT_TESTS: ExtensionRegistry[DriftTest] = ExtensionRegistry(ExtensionKind.DRIFT_TEST)


def register_drift_test(
    name: str,
    *column_kinds: str,
) -> Callable[[DriftTestFunction], DriftTestFunction]:
    """Register the decorated function as a drift test for these kinds of column.

    Parameters
    ----------
    name : str
        The name in ``monitor.tests``.
    *column_kinds : {"number", "category", "code", "boolean"}
        The kinds of column that it is for.

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
        DRIFT_TESTS.register(name, applies_to=column_kinds)(DriftTest(column_kinds, function))
        return function

    return register


def run_drift_test(
    name: str,
    reference: Any,
    current: Any,
) -> DriftTestResult:
    """Run a registered test, and check what it returns.

    Raises
    ------
    RunFailedError
        If it fails, or returns an effect that is negative or unknown, or no p-value.
    """
    with name_failing_extension(ExtensionKind.DRIFT_TEST, name):
        statistic, effect, p_value = DRIFT_TESTS[name].function(reference, current)
        result = DriftTestResult(float(statistic), float(effect), float(p_value))
    if not (result.effect >= 0 and 0 <= result.p_value <= 1):
        raise RunFailedError(
            f"the drift test {name!r} returned the effect {result.effect:g} and the p-value "
            f"{result.p_value:g}",
            "an effect of at least 0, and a p-value from 0 to 1",
            "correct the drift test, or choose another one in monitor.tests",
        )
    return result


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


@register_drift_test("ks", StatisticalKind.NUMBER)
def run_ks_test(reference: Any, current: Any) -> DriftTestResult:
    """Run the two-sample Kolmogorov-Smirnov test; the effect is D less its bias.

    Notes
    -----
    effect = sqrt(max(0, D² − π²/12 · (1/n₁ + 1/n₂))); π²/12 is the second moment of Kolmogorov's
    distribution (Marsaglia, Tsang & Wang 2003, J. Stat. Softw. 8(18)), and the correction is to D²
    what Bergsma's is to V². The p-value is scipy's asymptotic one (conservative with ties).
    """
    reference_values = np.asarray(reference, dtype=float)
    current_values = np.asarray(current, dtype=float)
    result = scipy_stats.ks_2samp(reference_values, current_values, method="asymp")
    statistic = float(result.statistic)
    bias = math.pi**2 / 12 * (1 / len(reference_values) + 1 / len(current_values))
    effect = math.sqrt(max(0.0, statistic**2 - bias))
    return DriftTestResult(statistic, effect, float(result.pvalue))


@register_drift_test(
    "cramers_v",
    StatisticalKind.CATEGORY,
    StatisticalKind.CODE,
    StatisticalKind.BOOLEAN,
)
def run_cramers_v_test(reference: Any, current: Any) -> DriftTestResult:
    """Compute bias-corrected Cramér's V of side and category, with the chi-square p-value.

    Notes
    -----
    V² = max(0, φ² − (k−1)/(n−1)) / (r−1) with r = 2 − 1/(n−1) for the two sides (Bergsma 2013,
    J. Korean Stat. Soc. 42). Both sides have the same weight (n = 4 n₁ n₂ / (n₁ + n₂)), so that V
    does not shrink for a short window; for sides of equal size this is Bergsma's formula as
    published. Categories with an expected count below five are pooled.
    """
    counts = _pool_rare_categories(_count_categories(reference, current))
    categories = counts.shape[1]
    if categories < 2:
        return DriftTestResult(0.0, 0.0, 1.0)
    chi2 = scipy_stats.chi2_contingency(counts, correction=False)
    sizes = counts.sum(axis=1)
    shares = counts / sizes[:, None]
    share_differences = np.diff(shares, axis=0)[0]
    phi2 = float((share_differences**2 / shares.sum(axis=0)).sum() / 2)
    n = 4 * sizes[0] * sizes[1] / sizes.sum()
    corrected = max(0.0, phi2 - (categories - 1) / (n - 1)) / (1 - 1 / (n - 1))
    effect = min(1.0, math.sqrt(corrected))
    return DriftTestResult(math.sqrt(phi2), effect, float(chi2.pvalue))


def _count_categories(reference: Any, current: Any) -> np.ndarray:
    """Count the reference's most frequent categories, and all others together, per side.

    A category that the reference does not have counts among the others.
    """
    counts_by_side = [
        pd.Series(format_categories(values)).value_counts() for values in (reference, current)
    ]
    reference_counts = counts_by_side[0]
    ordered = sorted(
        reference_counts.index,
        key=lambda category: (-reference_counts[category], category),
    )
    top = ordered[:MAX_CATEGORIES]
    rows = []
    for counts in counts_by_side:
        others = counts[~counts.index.isin(top)].sum()
        rows.append(np.append(counts.reindex(top, fill_value=0).to_numpy(), others))
    return np.vstack(rows).astype(float)


def format_categories(values: Any) -> list[str]:
    """Return categories as text; 1, 1.0 and True are the same one."""
    as_list = values.tolist() if hasattr(values, "tolist") else values
    texts = []
    for value in as_list:
        is_whole = isinstance(value, bool) or (isinstance(value, float) and value.is_integer())
        texts.append(str(int(value)) if is_whole else str(value))
    return texts


def _pool_rare_categories(counts: np.ndarray) -> np.ndarray:
    """Pool the categories whose expected count is below five on the smaller side."""
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    is_frequent = expected >= _MIN_EXPECTED_COUNT
    pool = counts[:, ~is_frequent].sum(axis=1, keepdims=True)
    table = np.hstack([counts[:, is_frequent], pool])
    return table[:, table.sum(axis=0) > 0]
