"""How many rows are usual: prediction intervals of counts that vary more than by chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from mlops_kit.core.lazy import np, scipy_stats

_MAD_TO_STANDARD_DEVIATION = 1.4826  # of a normal distribution
_MAX_DEVIATIONS = 3.5  # robust standard deviations beyond which a count is an outlier
# Of fewer counts, the interval would have no end; feeds are more alike than that.
_MIN_DEGREES_OF_FREEDOM = 4.0


class CountInterval(NamedTuple):
    """A prediction interval of a count, and the count that is expected."""

    low: int
    expected: float
    high: int


class Dispersion(NamedTuple):
    """By how much counts vary beyond chance, and how well that is known.

    The variance of a count with mean m is m + ``value`` · m², that of the negative binomial
    distribution.
    """

    value: float = 0.0
    degrees_of_freedom: float = math.inf


def estimate_dispersion(counts_by_phase: Sequence[Sequence[int]]) -> Dispersion:
    """Estimate by how much counts vary beyond chance, pooled over phases such as weekdays.

    It is the variance of the counts relative to the median of their phase, less the variance by
    chance. Outliers, such as a holiday or a failure, are left out: counts that deviate by more than
    3.5 robust standard deviations.

    Parameters
    ----------
    counts_by_phase : sequence of sequence of int
        The counts of each phase.

    Returns
    -------
    Dispersion
        Its value is at least 0.

    References
    ----------
    Hampel, "The breakdown points of the mean combined with some rejection rules", Technometrics 27
    (1985); Hilbe, "Negative Binomial Regression" (2011), for the variance.
    """
    deviations: list[float] = []
    means = []
    phase_sizes = []
    for counts in counts_by_phase:
        center = float(np.median(counts)) if len(counts) > 1 else 0.0
        if center <= 0:
            continue
        deviations.extend(count / center - 1 for count in counts)
        means.append(center)
        phase_sizes.append(len(counts))
    if not deviations:
        return Dispersion(0.0, _MIN_DEGREES_OF_FREEDOM)
    variance_by_chance = float(np.mean(1 / np.asarray(means)))
    absolute_deviations = np.abs(deviations)
    # The median of few counts is close to them, which makes their deviations too small.
    mean_phase_size = float(np.mean(phase_sizes))
    correction = mean_phase_size / (mean_phase_size - 1)
    median_deviation = float(np.median(absolute_deviations))
    robust_deviation = _MAD_TO_STANDARD_DEVIATION * median_deviation * correction
    max_deviation = _MAX_DEVIATIONS * max(robust_deviation, math.sqrt(variance_by_chance))
    kept = absolute_deviations[absolute_deviations <= max_deviation]
    degrees_of_freedom = max(1, len(kept) - len(means))
    variance = float(np.sum(kept**2)) / degrees_of_freedom
    return Dispersion(
        max(0.0, variance - variance_by_chance),
        max(_MIN_DEGREES_OF_FREEDOM, degrees_of_freedom),
    )


def predict_count(counts: Sequence[int], dispersion: Dispersion, coverage: float) -> CountInterval:
    """Predict a further count from earlier ones of the same phase.

    The interval is that of a negative binomial distribution around the median, widened because the
    median of few counts is uncertain itself, and because the dispersion is: by the ratio of the
    quantiles of Student's t and of the normal distribution.

    Parameters
    ----------
    counts : sequence of int
        The earlier counts, at least one.
    dispersion : Dispersion
        By how much they vary beyond chance, see ``estimate_dispersion``.
    coverage : float
        Probability with which the count is inside of the interval.

    Examples
    --------
    >>> predict_count([100, 100, 100, 100], Dispersion(), coverage=0.95)
    CountInterval(low=78, expected=100.0, high=124)
    """
    expected = float(np.median(counts))
    if expected <= 0:
        return CountInterval(0, 0.0, 0)
    tail = (1 - coverage) / 2
    student_quantile = float(scipy_stats.t.ppf(tail, dispersion.degrees_of_freedom))
    normal_quantile = float(scipy_stats.norm.ppf(tail))
    relative_variance = dispersion.value * (student_quantile / normal_quantile) ** 2
    # A median's variance is π/2 times that of a mean.
    uncertainty = np.pi / 2 * (relative_variance + 1 / expected) / len(counts)
    size = 1 / (relative_variance + uncertainty)
    distribution = scipy_stats.nbinom(size, size / (size + expected))
    low = int(distribution.ppf(tail))
    high = int(distribution.ppf(1 - tail))
    return CountInterval(low, expected, high)
