"""How often the interval of an estimate covers the realized performance, over simulated windows.

    python evidence/coverage.py                        # resumes where it was interrupted
    python evidence/coverage.py --windows 200          # fewer windows for each design
    python evidence/coverage.py --only binary          # one task
    python evidence/coverage.py --again                # forgets stored outcomes

For each task there are two designs: labels of a day are independent, or share a random effect with
a standard deviation of 0.3 (on the logit, or of the error). A window has a reference of its own (of
a regression ten windows share one), on which the model of labels or errors is fitted as
``mlops watch`` does. The interval has to cover the realized value of each registered metric in
93-97% of the windows, and in 94-96% on the mean of a design. Outcomes are stored in
``build/coverage-TASK.json`` until the code that decides them changes.

The metrics of all simulated labels of a window are computed at once here; they are compared with
the registered functions in every chunk.

Exit codes: 0 if all coverages are within the limits, 1 if one is not.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import rankdata
from stored_outcomes import OutcomeStore

from mlops_kit.stages.monitor.error_model import ErrorModel, fit_error_model
from mlops_kit.stages.monitor.label_model import LabelModel, fit_label_model
from mlops_kit.stats.bootstrap import SamplingDesign, compute_prediction_interval
from mlops_kit.stats.calibration import assign_quantile_bins
from mlops_kit.stats.metrics import METRICS, list_task_metrics

_COMMON_PATHS = (
    "evidence/coverage.py",
    "mlops_kit/stats/block_effects.py",
    "mlops_kit/stats/bootstrap.py",
)
_LABEL_PATHS = (
    *_COMMON_PATHS,
    "mlops_kit/stages/monitor/label_model.py",
    "mlops_kit/stats/calibration.py",
    "mlops_kit/stats/weights.py",
)
DECIDING_PATHS = {
    "binary": (*_LABEL_PATHS, "mlops_kit/stats/binary_metrics.py"),
    "multiclass": (*_LABEL_PATHS, "mlops_kit/stats/multiclass_metrics.py"),
    "regression": (*_COMMON_PATHS, "mlops_kit/stages/monitor/error_model.py"),
}
TASKS = tuple(DECIDING_PATHS)
WINDOWS_PER_REFERENCE = {"binary": 1, "multiclass": 1, "regression": 10}
DAY_EFFECTS = (0.0, 0.3)
WINDOWS = 2000
CHUNK_WINDOWS = 100
DRAWS = 200
REFERENCE_DAYS = 40
REFERENCE_ROWS_PER_DAY = 50
WINDOW_DAYS = 7
WINDOW_ROWS_PER_DAY = 140
CLASSES = 3
THRESHOLD = 0.5
EACH_LIMITS = (0.93, 0.97)
MEAN_LIMITS = (0.94, 0.96)


@dataclass(frozen=True)
class Sample:
    """Simulated rows: scores, features, labels and the day of each."""

    scores: np.ndarray
    features: np.ndarray
    labels: np.ndarray
    days: np.ndarray


def make_sample(
    task: str,
    day_effect: float,
    days: int,
    rows_per_day: int,
    rng: np.random.Generator,
) -> Sample:
    """Simulate rows of a model that ranks well and is not calibrated."""
    day_of_row = np.repeat(np.arange(days), rows_per_day)
    rows = len(day_of_row)
    if task == "regression":
        return _make_regression_sample(day_effect, days, day_of_row, rng)
    columns = 1 if task == "binary" else CLASSES
    level = rng.normal(0, 1.2, (rows, columns)) + np.linspace(0.4, -1, columns)
    effects = rng.normal(0, 1, (days, columns))[day_of_row] * day_effect
    if task == "binary":
        probability = 1 / (1 + np.exp(-(level + effects)[:, 0]))
        labels = (rng.random(rows) < probability).astype(float)
        scores = 1 / (1 + np.exp(-(1.4 * level[:, 0] + 0.3)))
        return Sample(scores, level, labels, day_of_row)
    strengths = np.exp(level + effects)
    cumulated = (strengths / strengths.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (rng.random(rows)[:, None] > cumulated).sum(axis=1).clip(max=columns - 1)
    scores = np.exp(1.3 * level + np.linspace(0.2, 0, columns))
    scores /= scores.sum(axis=1, keepdims=True)
    return Sample(scores, level, labels.astype(float), day_of_row)


def _make_regression_sample(
    day_effect: float,
    days: int,
    day_of_row: np.ndarray,
    rng: np.random.Generator,
) -> Sample:
    """Simulate predictions whose error grows with a feature."""
    rows = len(day_of_row)
    features = rng.normal(0, 1, (rows, 3))
    scores = 10 + 2 * features[:, 0]
    spread = np.exp(0.5 * features[:, 1])
    effects = rng.normal(0, 1, days)[day_of_row] * day_effect
    errors = spread * (rng.standard_t(8, rows) + effects)
    return Sample(scores, features, scores + errors, day_of_row)


@lru_cache(maxsize=1)
def fit_reference(task: str, day_effect: float, number: int) -> LabelModel | ErrorModel:
    """Simulate a reference, and fit the model of its labels or errors."""
    rng = np.random.default_rng([number, 0])
    reference = make_sample(task, day_effect, REFERENCE_DAYS, REFERENCE_ROWS_PER_DAY, rng)
    model: LabelModel | ErrorModel | None
    if task == "regression":
        model = fit_error_model(
            reference.scores,
            reference.labels,
            reference.features,
            SamplingDesign(reference.days),
            seed=number,
        )
    else:
        model = fit_label_model(
            reference.scores,
            reference.labels,
            SamplingDesign(reference.days),
            draws=DRAWS,
            seed=number,
        )
    if model is None:
        raise RuntimeError(f"reference {number} of {task} has one class, or no error")
    return model


def simulate_labels(
    model: LabelModel | ErrorModel,
    window: Sample,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    """Simulate labels of the window."""
    if isinstance(model, LabelModel):
        return model.simulate(window.scores, window.days, rng)
    return model.simulate(window.scores, window.features, window.days, DRAWS, rng)


def compute_regression_metrics(y: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the metrics of many label vectors, shape (draws, rows), at once."""
    errors = y - scores
    squares = (errors**2).mean(axis=1)
    return {
        "mae": np.abs(errors).mean(axis=1),
        "rmse": np.sqrt(squares),
        "r2": 1 - squares / y.var(axis=1),
    }


def compute_binary_metrics(y: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the metrics of many label vectors, shape (draws, rows), at once."""
    rows = len(scores)
    positives = y.sum(axis=1)
    flagged = (scores >= THRESHOLD).astype(float)
    hits = y @ flagged
    log_probability = np.log(scores)
    log_complement = np.log1p(-scores)
    descending = np.argsort(-scores)
    sorted_labels = y[:, descending]
    precision_at = sorted_labels.cumsum(axis=1) / np.arange(1, rows + 1)
    return {
        "roc_auc": _compute_areas(y, scores),
        "average_precision": (precision_at * sorted_labels).sum(axis=1) / positives,
        "log_loss": -(y @ (log_probability - log_complement) + log_complement.sum()) / rows,
        "brier": (y @ (1 - 2 * scores) + (scores**2).sum()) / rows,
        "calibration_error": _compute_calibration_errors(y, scores),
        "f1": 2 * hits / (positives + flagged.sum()),
        "precision": hits / flagged.sum(),
        "recall": hits / positives,
        "accuracy": (2 * hits - positives - flagged.sum() + rows) / rows,
    }


def _compute_areas(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the ROC-AUC from the ranks of the positives (Mann-Whitney)."""
    positives = y.sum(axis=1)
    rank_sums = y @ rankdata(scores)
    pairs = positives * (len(scores) - positives)
    return np.asarray((rank_sums - positives * (positives + 1) / 2) / pairs)


def _compute_calibration_errors(y: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the expected calibration error over ten quantile bins."""
    is_in_bin = np.eye(10)[assign_quantile_bins(scores, 10)]
    return np.asarray(np.abs(y @ is_in_bin - scores @ is_in_bin).sum(axis=1) / len(scores))


def compute_multiclass_metrics(y: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the metrics of many label vectors, shape (draws, rows), at once."""
    rows, classes = scores.shape
    is_predicted = np.eye(classes)[scores.argmax(axis=1)]
    confusion = np.empty((len(y), classes, classes))
    areas = np.empty((len(y), classes))
    calibration_errors = np.empty((len(y), classes))
    log_loss = np.zeros(len(y))
    for code in range(classes):
        is_class = (y == code).astype(float)
        confusion[:, code] = is_class @ is_predicted
        areas[:, code] = _compute_areas(is_class, scores[:, code])
        calibration_errors[:, code] = _compute_calibration_errors(is_class, scores[:, code])
        log_loss -= is_class @ np.log(scores[:, code]) / rows
    right = np.diagonal(confusion, axis1=1, axis2=2)
    occurring = confusion.sum(axis=2)
    predicted = confusion.sum(axis=1)
    recall = (right / occurring).mean(axis=1)
    return {
        "accuracy": right.sum(axis=1) / rows,
        "balanced_accuracy": recall,
        "recall_macro": recall,
        "precision_macro": (right / predicted).mean(axis=1),
        "f1_macro": (2 * right / (occurring + predicted)).mean(axis=1),
        "multiclass_log_loss": log_loss,
        "roc_auc_ovr": areas.mean(axis=1),
        "classwise_calibration_error": calibration_errors.mean(axis=1),
    }


COMPUTE_BY_TASK: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]] = {
    "binary": compute_binary_metrics,
    "multiclass": compute_multiclass_metrics,
    "regression": compute_regression_metrics,
}


def check_window(task: str, day_effect: float, seed: int, checks_metrics: bool) -> dict[str, bool]:
    """Simulate one window; return by metric whether the interval covers the realized value."""
    model = fit_reference(task, day_effect, seed // WINDOWS_PER_REFERENCE[task])
    rng = np.random.default_rng([seed, 1])
    window = make_sample(task, day_effect, WINDOW_DAYS, WINDOW_ROWS_PER_DAY, rng)
    simulated = np.stack(list(simulate_labels(model, window, rng)))
    compute = COMPUTE_BY_TASK[task]
    drawn_values = compute(simulated, window.scores)
    realized = compute(window.labels[None, :], window.scores)
    if checks_metrics:
        for name in list_task_metrics(task):
            registered = METRICS[name].function(window.labels, window.scores)
            if not np.isclose(realized[name][0], registered):
                raise RuntimeError(f"{name}: {realized[name][0]}, registered {registered}")
    covers = {}
    for name, values in drawn_values.items():
        low, high = compute_prediction_interval(values)
        covers[name] = bool(low <= realized[name][0] <= high)
    return covers


def name_chunk(task: str, day_effect: float, start: int) -> str:
    """Name the windows of a design from a number on."""
    return f"{task}, day effect {day_effect:g}, from window {start}"


def run_design(task: str, day_effect: float, windows: int, store: OutcomeStore) -> None:
    """Simulate the windows of a design in chunks, and store each chunk when it is done."""
    for start in range(0, windows, CHUNK_WINDOWS):
        key = name_chunk(task, day_effect, start)
        if key in store.outcomes:
            continue
        counts: dict[str, int] = {}
        for number in range(CHUNK_WINDOWS):
            covers = check_window(task, day_effect, start + number, checks_metrics=number == 0)
            for name, is_covered in covers.items():
                counts[name] = counts.get(name, 0) + is_covered
        store.outcomes[key] = counts
        store.save()


def report_design(task: str, day_effect: float, windows: int, store: OutcomeStore) -> bool:
    """Print the coverage of each metric; return whether all are within the limits."""
    chunks = []
    for start in range(0, windows, CHUNK_WINDOWS):
        chunks.append(store.outcomes[name_chunk(task, day_effect, start)])
    total = len(chunks) * CHUNK_WINDOWS
    coverage = {name: sum(chunk[name] for chunk in chunks) / total for name in chunks[0]}
    mean = float(np.mean(list(coverage.values())))
    is_good = MEAN_LIMITS[0] <= mean <= MEAN_LIMITS[1]
    print(f"\n{task}, day effect {day_effect:g}, {total:,} windows: mean coverage {mean:.1%}")
    for name, share in sorted(coverage.items()):
        is_within = EACH_LIMITS[0] <= share <= EACH_LIMITS[1]
        is_good = is_good and is_within
        print(f"  {name:<28} {share:.1%}{'' if is_within else '  outside 93-97%'}")
    return is_good


def main() -> int:
    """Run the designs that are asked for, and print their coverage."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=TASKS, nargs="*", default=TASKS, help="some tasks")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="windows of each design")
    parser.add_argument("--again", action="store_true", help="forget stored outcomes")
    arguments = parser.parse_args()
    windows = -(-arguments.windows // CHUNK_WINDOWS) * CHUNK_WINDOWS
    outcomes = []
    for task in arguments.only:
        store = OutcomeStore(f"coverage-{task}", DECIDING_PATHS[task], arguments.again)
        for day_effect in DAY_EFFECTS:
            started = time.monotonic()
            run_design(task, day_effect, windows, store)
            outcomes.append(report_design(task, day_effect, windows, store))
            print(f"  {time.monotonic() - started:.0f} s")
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
