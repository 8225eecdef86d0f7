"""Estimate performance without labels, and detect drift, on a public data set with known answers.

    python bench/estimate.py FOLDER

FOLDER has the synthetic car loan data set of NannyML 0.13.1 (``pip download nannyml==0.13.1
--no-deps``, then unzip ``nannyml/datasets/data/synthetic_car_loan_*.csv`` of the wheel). Prints for
each chunk of 5,000 rows ROC-AUC as estimated here, as estimated by NannyML's CBPE, and as realized;
then the columns that drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import drift, estimate
from mlops_kit.stats.metrics import compute_metric

# The estimates of NannyML's CBPE, by chunk.
CBPE_ESTIMATES = [
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
DRIFTING_COLUMNS = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}
STABLE_COLUMNS = {"debt_to_income_ratio", "size_of_downpayment", "driver_tenure"}
FIRST_DRIFTING_CHUNK = 5
CHUNK_ROWS = 5_000
SCORE_COLUMN = "y_pred_proba"
CONFIG = ProjectConfig(name="loans", source="none.csv", target="repaid", task="binary")


def split_chunks(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a table into chunks of equally many rows."""
    starts = range(0, len(frame) - CHUNK_ROWS + 1, CHUNK_ROWS)
    return [frame.iloc[start : start + CHUNK_ROWS] for start in starts]


def print_estimates(reference: pd.DataFrame, chunks: list[pd.DataFrame]) -> None:
    """Print estimated and realized performance by chunk."""
    calibrator = estimate.fit_calibrator(reference[SCORE_COLUMN], reference["repaid"])
    print("chunk  estimated [95%]            NannyML   realized  estimated less realized")
    for number, chunk in enumerate(chunks):
        days = chunk["timestamp"].str[:10]
        estimated = estimate.estimate_performance(chunk[SCORE_COLUMN], days, calibrator, CONFIG)
        realized = compute_metric("roc_auc", chunk["repaid"], chunk[SCORE_COLUMN])
        print(
            f"{number:>5}  {estimated.value:.6f} [{estimated.low:.4f}, {estimated.high:.4f}]  "
            f"{CBPE_ESTIMATES[number]:.6f}  {realized:.6f}  {estimated.value - realized:+.4f}"
        )


def print_drift(reference: pd.DataFrame, chunks: list[pd.DataFrame]) -> None:
    """Print how many drifting and how many stable columns are reported as drifting."""
    columns = sorted(DRIFTING_COLUMNS | STABLE_COLUMNS)
    true_alerts = 0
    false_alerts = 0
    for number, chunk in enumerate(chunks):
        table = drift.measure_drift(reference[columns], chunk[columns], columns, CONFIG.monitor)
        alerts = set(table.data.loc[table.data["status"] == "alert", "column"])
        has_drift = number >= FIRST_DRIFTING_CHUNK
        drifting = DRIFTING_COLUMNS if has_drift else set()
        true_alerts += len(alerts & drifting)
        false_alerts += len(alerts - drifting)
    drifting_chunks = len(chunks) - FIRST_DRIFTING_CHUNK
    drifting_pairs = len(DRIFTING_COLUMNS) * drifting_chunks
    stable_pairs = len(columns) * len(chunks) - drifting_pairs
    print(
        f"drift: {true_alerts} alerts for {drifting_pairs} pairs of column and chunk with drift, "
        f"{false_alerts} for {stable_pairs} without"
    )


def main(folder: Path) -> None:
    """Print the two tables."""
    reference = pd.read_csv(folder / "synthetic_car_loan_reference.csv")
    analysis = pd.read_csv(folder / "synthetic_car_loan_analysis.csv")
    labels = pd.read_csv(folder / "synthetic_car_loan_analysis_target.csv")
    chunks = split_chunks(analysis.merge(labels[["id", "repaid"]], on="id"))
    print_estimates(reference, chunks)
    print_drift(reference, chunks)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
