"""Performance estimated without labels, and drift, on a public case whose answers are known.

    python bench/estimate.py FOLDER

FOLDER holds the synthetic car loan set of NannyML 0.13.1 (``pip download nannyml==0.13.1 --no-deps``, then
unzip ``nannyml/datasets/data/synthetic_car_loan_*.csv`` of the wheel). Prints for each chunk of 5,000 rows
ROC-AUC as estimated here, as NannyML's CBPE estimates it, and as realised; then the columns that drift.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from mlops_kit.project.config import root
from mlops_kit.stages.monitor import drift, estimate
from mlops_kit.stats.metrics import compute_metric

CBPE = [
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
MOVED = {"car_value", "salary_range", "loan_length", "repaid_loan_on_prev_car"}  # from chunk 5 on
STILL = {"debt_to_income_ratio", "size_of_downpayment", "driver_tenure"}
CHUNK, SCORE = 5_000, "y_pred_proba"


def main(folder: Path) -> None:
    """Print the two tables."""
    reference = pd.read_csv(folder / "synthetic_car_loan_reference.csv")
    current = pd.read_csv(folder / "synthetic_car_loan_analysis.csv").merge(
        pd.read_csv(folder / "synthetic_car_loan_analysis_target.csv")[["id", "repaid"]], on="id"
    )
    settings = root.ProjectConfig(name="loans", source="none.csv", target="repaid", task="binary")
    calibrated = estimate.fit_calibrator(reference[SCORE], reference["repaid"])
    print("chunk  estimated [95 %]           NannyML   realised  estimated less realised")
    for i in range(len(current) // CHUNK):
        part = current.iloc[i * CHUNK : (i + 1) * CHUNK]
        found = estimate.estimate_performance(
            part[SCORE], part["timestamp"].str[:10], calibrated, settings
        )
        true = compute_metric("roc_auc", part["repaid"], part[SCORE])
        print(
            f"{i:>5}  {found.value:.6f} [{found.low:.4f}, {found.high:.4f}]  {CBPE[i]:.6f}  {true:.6f}  {found.value - true:+.4f}"
        )
    columns, alarms = sorted(MOVED | STILL), []
    for i in range(len(current) // CHUNK):
        table = drift.measure_drift(
            reference[columns],
            current.iloc[i * CHUNK : (i + 1) * CHUNK][columns],
            columns,
            settings.monitor,
        ).data
        alarms.append(set(table.loc[table["status"] == "alert", "column"]))
    right, wrong = (
        sum(len(a & MOVED) for a in alarms[5:]),
        sum(len(a) for a in alarms[:5]) + sum(len(a & STILL) for a in alarms[5:]),
    )
    print(
        f"drift: {right} of {len(MOVED) * 5} column-chunks that drifted alert; {wrong} of {len(columns) * 5 + len(STILL) * 5} that did not"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
