"""Estimated performance and drift on a public data set whose answers are known.

    python bench/estimate.py FOLDER

FOLDER contains the synthetic car loan data of NannyML 0.13.1 (``pip download nannyml==0.13.1
--no-deps``, then unzip ``nannyml/datasets/data/synthetic_car_loan_*.csv`` from the wheel). Prints
for each metric and chunk of 5,000 rows the value as estimated here and as realized, and for ROC-AUC
as NannyML's CBPE estimates it; then how many of the columns that drift raise an alert.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift
from mlops_kit.stages.monitor.performance_estimate import (
    WindowRows,
    estimate_performance,
    fit_outcome_model,
)
from mlops_kit.stats.metrics import compute_metric

NANNYML_ESTIMATES = [
    0.970744,
    0.971011,
    0.971407,
    0.971091,
    0.971123,
    0.961090,
    0.961825,
    0.961073,
    0.962533,
    0.961316,
]
FIRST_DRIFTED_CHUNK = 5
DRIFTED_COLUMNS = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}
STABLE_COLUMNS = {"debt_to_income_ratio", "size_of_downpayment", "driver_tenure"}
CHUNK_ROWS = 5_000
METRIC_NAMES = ("roc_auc", "f1", "accuracy", "precision", "recall", "log_loss", "brier")


def split_chunks(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split rows into chunks of equal size."""
    starts = range(0, len(rows) - CHUNK_ROWS + 1, CHUNK_ROWS)
    return [rows.iloc[start : start + CHUNK_ROWS] for start in starts]


def print_estimates(
    reference: pd.DataFrame,
    chunks: list[pd.DataFrame],
    config: ProjectConfig,
) -> None:
    """Print estimated and realized performance by chunk, and how well they agree."""
    columns = sorted(DRIFTED_COLUMNS | STABLE_COLUMNS)
    threshold = float(reference.loc[reference["y_pred"] == 1, "score"].min())
    print(f"The model predicts the positive class from a score of {threshold:g} on.")
    for metric in METRIC_NAMES:
        print(f"{metric}: chunk, estimated [95%], realized, difference, how")
        metric_config = config.model_copy(
            update={"review": config.review.model_copy(update={"metric": metric})}
        )
        model = fit_outcome_model(reference, columns, metric_config)
        errors = []
        covered = 0
        for number, chunk in enumerate(chunks):
            window = WindowRows(
                chunk["score"],
                chunk[columns],
                get_sampling_design(chunk, metric_config),
                threshold,
            )
            estimated = estimate_performance(model, window)
            interval = estimated.interval
            realized = compute_metric(metric, chunk["repaid"], chunk["score"], threshold)
            error = interval.value - realized
            errors.append(abs(error))
            covered += interval.low <= realized <= interval.high
            print(
                f"{number:>5}  {interval.value:.6f} [{interval.low:.4f}, {interval.high:.4f}]  "
                f"{realized:.6f}  {error:+.4f}  {estimated.note}"
            )
            if metric == "roc_auc":
                print(f"       NannyML's CBPE {NANNYML_ESTIMATES[number]:.6f}")
        print(
            f"{metric}: mean absolute error {sum(errors) / len(errors):.5f}; the interval covers "
            f"{covered} of {len(chunks)} chunks"
        )


def print_drift(
    reference: pd.DataFrame,
    chunks: list[pd.DataFrame],
    config: ProjectConfig,
) -> None:
    """Print how many columns raise an alert, in chunks that drifted and in chunks that did not."""
    columns = sorted(DRIFTED_COLUMNS | STABLE_COLUMNS)
    right_alerts = 0
    false_alerts = 0
    for number, chunk in enumerate(chunks):
        table = drift.measure_drift(reference[columns], chunk[columns], columns, config.monitor)
        is_alert = table.data["status"] == "alert"
        alerts = set(table.data.loc[is_alert, "column"])
        expected = DRIFTED_COLUMNS if number >= FIRST_DRIFTED_CHUNK else set()
        right_alerts += len(alerts & expected)
        false_alerts += len(alerts - expected)
    drifted_cells = len(DRIFTED_COLUMNS) * (len(chunks) - FIRST_DRIFTED_CHUNK)
    stable_cells = len(columns) * len(chunks) - drifted_cells
    print(
        f"drift: {right_alerts} of {drifted_cells} column-chunks that drifted raise an alert; "
        f"{false_alerts} of {stable_cells} that did not"
    )


def read_rows(path: Path) -> pd.DataFrame:
    """Read rows with their scores and timestamps."""
    rows = pd.read_csv(path).rename(columns={"y_pred_proba": "score"})
    rows["timestamp"] = pd.to_datetime(rows["timestamp"], utc=True, format="ISO8601")
    return rows


def main(folder: Path) -> None:
    """Print both tables."""
    reference = read_rows(folder / "synthetic_car_loan_reference.csv")
    targets = pd.read_csv(folder / "synthetic_car_loan_analysis_target.csv")
    current = read_rows(folder / "synthetic_car_loan_analysis.csv")
    chunks = split_chunks(current.merge(targets[["id", "repaid"]], on="id"))
    config = ProjectConfig(
        name="loans",
        source="none.csv",
        target="repaid",
        task="binary",
        time="timestamp",
    )
    print_estimates(reference, chunks, config)
    print_drift(reference, chunks, config)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
