"""Count false alarms of arrivals, and how soon a feed that stops or loses rows is told of.

    python evidence/arrival_alarms.py                 # 16 years per kind of feed; resumes
    python evidence/arrival_alarms.py --years 4       # fewer
    python evidence/arrival_alarms.py --again         # forgets stored outcomes

A feed has 300 rows per day, a weekly pattern, and days that vary by a tenth or a fifth (standard
deviation), independently or with an autocorrelation of a half. Each year is watched by daily
passes; then, from day 200 on, every second row is missing, or the rows stop for a day. Outcomes are
stored in ``build/arrival_alarms.json`` until a tracked file changes.

Exit codes: 0 if there is at most one false alarm in ten years and a day without rows always shows,
1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from stored_outcomes import ROOT, OutcomeStore

sys.path.insert(0, str(ROOT))

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.watch.arrivals import (
    ArrivalBatch,
    ArrivalLog,
    detect_few_rows,
    detect_missing_rows,
)

DECIDING_PATHS = (
    "mlops_kit/project/config/monitoring.py",
    "mlops_kit/watch/arrivals.py",
    "mlops_kit/stats/arrivals.py",
    "evidence/arrival_alarms.py",
)
DEFAULT_YEARS = 16
MAX_ALARMS_PER_YEAR = 0.1
DAYS = 365
FIRST_PASS = 15
FAULT_DAY = 200
ROWS_PER_DAY = 300
WEEK = (1.0, 1.05, 1.0, 0.95, 1.1, 0.6, 0.5)
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
HISTORY_DAYS = 64
CONFIG = ProjectConfig(name="t", source="t.csv", target="y", task="binary", time="at")


def draw_normal(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Draw effects of days that are normally distributed."""
    return np.maximum(0.02, 1 + deviation * rng.normal(size=DAYS))


def draw_lognormal(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Draw effects of days whose logarithms are normally distributed."""
    scale = np.sqrt(np.log1p(deviation**2))
    return np.exp(scale * rng.normal(size=DAYS) - scale**2 / 2)


def draw_autocorrelated(rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Draw effects whose logarithms have an autocorrelation of a half."""
    scale = np.sqrt(np.log1p(deviation**2))
    noise = rng.normal(size=DAYS)
    for day in range(1, DAYS):
        noise[day] = 0.5 * noise[day - 1] + np.sqrt(0.75) * noise[day]
    return np.exp(scale * noise - scale**2 / 2)


FEEDS: dict[str, tuple[Callable[[np.random.Generator, float], np.ndarray], float]] = {
    "a tenth, normal": (draw_normal, 0.1),
    "a fifth, normal": (draw_normal, 0.2),
    "a fifth, lognormal": (draw_lognormal, 0.2),
    "a fifth, autocorrelated": (draw_autocorrelated, 0.2),
}


def has_alarm(counts: np.ndarray, day: int) -> bool:
    """Whether the pass at the end of so many days tells of missing or of few rows."""
    as_of = START + day * DAY
    first_day = max(0, day - HISTORY_DAYS)
    batches = []
    for index in range(first_day, day):
        if counts[index]:
            noon = START + index * DAY + DAY / 2
            scored_at = START + (index + 1) * DAY
            batches.append(ArrivalBatch(noon, scored_at, int(counts[index])))
    newest = batches[-1].hour + DAY / 2 - timedelta(minutes=1)
    log = ArrivalLog(batches, START + first_day * DAY, newest, CONFIG)
    return bool(detect_missing_rows(log, as_of) or detect_few_rows(log, as_of))


def watch_year(feed: str, seed: int) -> dict[str, Any]:
    """Watch a year of a feed, and the same year with faults."""
    rng = np.random.default_rng(seed)
    draw_effects, deviation = FEEDS[feed]
    pattern = np.resize(WEEK, DAYS)
    counts = rng.poisson(ROWS_PER_DAY * pattern * draw_effects(rng, deviation))
    alarms = [has_alarm(counts, day) for day in range(FIRST_PASS, DAYS)]
    openings = sum(alarms[i] and not alarms[i - 1] for i in range(1, len(alarms))) + alarms[0]
    halved = counts.copy()
    halved[FAULT_DAY:] = rng.binomial(halved[FAULT_DAY:], 0.5)
    days_until_told = None
    for days in range(1, 15):
        if has_alarm(halved, FAULT_DAY + days):
            days_until_told = days
            break
    stopped = counts.copy()
    stopped[FAULT_DAY] = 0
    return {
        "false_alarms": int(openings),
        "days_until_half_is_told": days_until_told,
        "stop_is_told": has_alarm(stopped, FAULT_DAY + 1),
    }


def summarize(feed: str, years: list[dict[str, Any]]) -> bool:
    """Print what came out of a kind of feed; return whether it is good enough."""
    alarms = sum(year["false_alarms"] for year in years)
    stops = sum(year["stop_is_told"] for year in years)
    delays = [year["days_until_half_is_told"] for year in years]
    shares = []
    for limit in (1, 3, 7, 14):
        told = sum(delay is not None and delay <= limit for delay in delays)
        shares.append(f"{told}/{len(years)} by day {limit}")
    print(
        f"days vary by {feed}: {alarms} false alarms in {len(years)} years; half of the rows told "
        f"of {', '.join(shares)}; a day without rows {stops}/{len(years)}"
    )
    return stops == len(years)


def main() -> int:
    """Watch, count, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--years", type=int, default=DEFAULT_YEARS)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    store = OutcomeStore("arrival_alarms", DECIDING_PATHS, arguments.again)
    are_stops_told = True
    total_alarms = 0
    for feed in FEEDS:
        years = []
        for seed in range(arguments.years):
            name = f"{feed} {seed}"
            if name not in store.outcomes:
                store.outcomes[name] = watch_year(feed, seed)
                store.save()
            years.append(store.outcomes[name])
        are_stops_told = summarize(feed, years) and are_stops_told
        total_alarms += sum(year["false_alarms"] for year in years)
    alarms_per_year = total_alarms / (arguments.years * len(FEEDS))
    print(f"{alarms_per_year:.3f} false alarms per year; at most {MAX_ALARMS_PER_YEAR} are allowed")
    return 0 if are_stops_told and alarms_per_year <= MAX_ALARMS_PER_YEAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
