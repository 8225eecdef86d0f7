"""Estimated performance and drift on a public data set whose answers are known.

    python bench/estimate.py FOLDER

FOLDER contains the synthetic car loan data of NannyML 0.13.1 (``pip download nannyml==0.13.1
--no-deps``, then unzip ``nannyml/datasets/data/synthetic_car_loan_*.csv`` from the wheel). Prints
for each chunk of 5,000 rows the ROC-AUC as estimated here, as NannyML's CBPE estimates it, and as
realized; then how many of the columns that drift raise an alert.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift, estimate
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
SCORE_COLUMN = "y_pred_proba"


def split_chunks(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Split rows into chunks of equal size."""
    starts = range(0, len(rows) - CHUNK_ROWS + 1, CHUNK_ROWS)
    return [rows.iloc[start : start + CHUNK_ROWS] for start in starts]


def print_estimates(
    reference: pd.DataFrame,
    chunks: list[pd.DataFrame],
    config: ProjectConfig,
) -> None:
    """Print estimated and realized performance by chunk."""
    calibrator = estimate.fit_calibrator(reference[SCORE_COLUMN], reference["repaid"])
    print("chunk  estimated [95%]            NannyML   realized  estimated - realized")
    for number, chunk in enumerate(chunks):
        days = chunk["timestamp"].str[:10]
        estimated = estimate.estimate_performance(chunk[SCORE_COLUMN], days, calibrator, config)
        realized = compute_metric("roc_auc", chunk["repaid"], chunk[SCORE_COLUMN])
        print(
            f"{number:>5}  {estimated.value:.6f} [{estimated.low:.4f}, {estimated.high:.4f}]  "
            f"{NANNYML_ESTIMATES[number]:.6f}  {realized:.6f}  {estimated.value - realized:+.4f}"
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


def main(folder: Path) -> None:
    """Print both tables."""
    reference = pd.read_csv(folder / "synthetic_car_loan_reference.csv")
    targets = pd.read_csv(folder / "synthetic_car_loan_analysis_target.csv")
    current = pd.read_csv(folder / "synthetic_car_loan_analysis.csv")
    chunks = split_chunks(current.merge(targets[["id", "repaid"]], on="id"))
    config = ProjectConfig(name="loans", source="none.csv", target="repaid", task="binary")
    print_estimates(reference, chunks, config)
    print_drift(reference, chunks, config)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
