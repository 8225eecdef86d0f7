"""How many rows are usual: prediction intervals of counts that vary more than by chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mlops_kit.core.lazy import np, scipy_stats

_MAD_TO_STANDARD_DEVIATION = 1.4826  # of a normal distribution


class CountInterval(NamedTuple):
    """A prediction interval of a count, and the count that is expected."""

    low: int
    expected: float
    high: int


def estimate_dispersion(counts_by_phase: Sequence[Sequence[int]]) -> float:
    """Estimate by how much counts vary beyond chance, pooled over phases such as weekdays.

    The variance of a count with mean m is modeled as m + d m², that of the negative binomial
    distribution, and d is estimated from the median absolute deviation, so that a holiday or a
    failure among the counts does not matter.

    Parameters
    ----------
    counts_by_phase : sequence of sequence of int
        The counts of each phase.

    Returns
    -------
    float
        The dispersion d, at least 0.

    References
    ----------
    Rousseeuw & Croux, "Alternatives to the median absolute deviation", JASA 88 (1993), for the
    constant; Hilbe, "Negative Binomial Regression" (2011), for the variance.
    """
    residuals: list[float] = []
    means = []
    phase_sizes = []
    for counts in counts_by_phase:
        center = float(np.median(counts)) if len(counts) > 1 else 0.0
        if center <= 0:
            continue
        residuals.extend(abs(count / center - 1) for count in counts)
        means.append(center)
        phase_sizes.append(len(counts))
    if not residuals:
        return 0.0
    # The median of few counts is close to them, which makes their deviations too small.
    size = float(np.mean(phase_sizes))
    correction = size / (size - 1)
    deviation = _MAD_TO_STANDARD_DEVIATION * float(np.median(residuals)) * correction
    chance = float(np.mean(1 / np.asarray(means)))
    return max(0.0, deviation**2 - chance)


def predict_count(counts: Sequence[int], dispersion: float, coverage: float) -> CountInterval:
    """Predict a further count from earlier ones of the same phase.

    The interval is that of a negative binomial distribution around the median, widened because the
    median of few counts is uncertain itself.

    Parameters
    ----------
    counts : sequence of int
        The earlier counts, at least one.
    dispersion : float
        By how much they vary beyond chance, see ``estimate_dispersion``.
    coverage : float
        Probability with which the count is inside of the interval.

    Examples
    --------
    >>> predict_count([100, 100, 100, 100], dispersion=0.0, coverage=0.95)
    CountInterval(low=78, expected=100.0, high=124)
    """
    expected = float(np.median(counts))
    if expected <= 0:
        return CountInterval(0, 0.0, 0)
    # A median's variance is π/2 times that of a mean.
    uncertainty = np.pi / 2 * (dispersion + 1 / expected) / len(counts)
    size = 1 / (dispersion + uncertainty)
    distribution = scipy_stats.nbinom(size, size / (size + expected))
    tail = (1 - coverage) / 2
    return CountInterval(int(distribution.ppf(tail)), expected, int(distribution.ppf(1 - tail)))
