"""Count how often an equal version is rolled back when it is looked at after each of 52 windows.

    python evidence/rollback_looks.py                    # 400 years per case; resumes
    python evidence/rollback_looks.py --years 50         # fewer
    python evidence/rollback_looks.py --again            # forgets stored outcomes

Two versions of equal quality, and one that is worse, score the same rows of 52 weeks. After each
week the gains so far are judged as ``mlops watch`` judges them (``stats.paired_gains``), with a
margin of zero: a margin only makes a rollback rarer. Days vary in how difficult they are for both
versions, and in which of the two suits them better. Outcomes are stored in
``build/rollback_looks.json`` until a tracked file changes.

Exit codes: 0 if at most 5% of the equal versions are rolled back in each case, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from stored_outcomes import ROOT, OutcomeStore

sys.path.insert(0, str(ROOT))

from mlops_kit.stats.bootstrap import SamplingDesign
from mlops_kit.stats.paired_gains import (
    ROLLBACK_ERROR_RATE,
    PairedGain,
    ScoredRows,
    compute_sequential_interval,
    measure_paired_gain,
)

DECIDING_PATHS = (
    "mlops_kit/stats/paired_gains.py",
    "mlops_kit/stats/metrics.py",
    "mlops_kit/stats/binary_metrics.py",
    "mlops_kit/stats/bootstrap.py",
    "evidence/rollback_looks.py",
)
DEFAULT_YEARS = 400
WEEKS = 52
DAYS_PER_WEEK = 7
WORSE_NOISE = 1.6  # standard deviation of a worse version's noise; that of an equal one is 1


@dataclass(frozen=True)
class Case:
    """A task of a certain size.

    Attributes
    ----------
    day_effect : float
        Standard deviation of what suits one version better on a day, in units of its noise.
    """

    metric: str
    rows_per_day: int
    day_effect: float


CASES = {
    "ROC-AUC, 40 rows a day": Case("roc_auc", 40, 0.0),
    "ROC-AUC, 200 rows a day, days vary": Case("roc_auc", 200, 0.3),
    "log loss, 40 rows a day, days vary": Case("log_loss", 40, 0.3),
    "MAE, 40 rows a day, days vary": Case("mae", 40, 0.3),
}


def score_rows(
    rng: np.random.Generator, case: Case, signal: np.ndarray, days: np.ndarray, noise: float
) -> np.ndarray:
    """Score rows with a version that sees their signal with noise, more of it on some days."""
    day_noise = np.exp(case.day_effect * rng.normal(size=DAYS_PER_WEEK))[days]
    return signal + noise * day_noise * rng.normal(size=len(signal))


def measure_week(rng: np.random.Generator, case: Case, noise: float) -> PairedGain | None:
    """Measure the gain of a version over its predecessor in a week."""
    days = np.repeat(np.arange(DAYS_PER_WEEK), case.rows_per_day)
    signal = rng.normal(size=len(days)) + 0.5 * rng.normal(size=DAYS_PER_WEEK)[days]
    scores = score_rows(rng, case, signal, days, noise)
    other_scores = score_rows(rng, case, signal, days, 1.0)
    labels = signal + rng.normal(size=len(days))
    if case.metric != "mae":
        labels = (labels > 0).astype(float)
        scores, other_scores = (1 / (1 + np.exp(-each)) for each in (scores, other_scores))
    return measure_paired_gain(
        case.metric, ScoredRows(labels, scores, other_scores), SamplingDesign(days)
    )


def find_rollback(case: Case, seed: int, noise: float) -> int | None:
    """Find the look at which a version is rolled back; None if it stays for the year."""
    rng = np.random.default_rng(seed)
    gains: list[PairedGain] = []
    for week in range(1, WEEKS + 1):
        gain = measure_week(rng, case, noise)
        if gain is not None:
            gains.append(gain)
        high = compute_sequential_interval(gains).high
        if high is not None and high < 0:
            return week
    return None


def summarize(name: str, outcomes: list[dict[str, Any]]) -> float:
    """Print what came out of a case; return the share of equal versions that were rolled back."""
    equal = [outcome["equal"] for outcome in outcomes if outcome["equal"] is not None]
    worse = [outcome["worse"] for outcome in outcomes if outcome["worse"] is not None]
    share = len(equal) / len(outcomes)
    print(
        f"{name}: {len(equal)} of {len(outcomes)} equal versions rolled back in {WEEKS} looks "
        f"({share:.1%}); {len(worse)} of {len(outcomes)} worse ones, half of them by look "
        f"{np.median(worse):.0f}"
    )
    return share


def main() -> int:
    """Look, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=DEFAULT_YEARS)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    store = OutcomeStore("rollback_looks", DECIDING_PATHS, arguments.again)
    shares = []
    for name, case in CASES.items():
        outcomes = []
        for seed in range(arguments.years):
            key = f"{name}, {seed}"
            if key not in store.outcomes:
                store.outcomes[key] = {
                    "equal": find_rollback(case, seed, 1.0),
                    "worse": find_rollback(case, seed, WORSE_NOISE),
                }
                store.save()
            outcomes.append(store.outcomes[key])
        shares.append(summarize(name, outcomes))
    return 0 if max(shares) <= ROLLBACK_ERROR_RATE else 1


if __name__ == "__main__":
    raise SystemExit(main())
