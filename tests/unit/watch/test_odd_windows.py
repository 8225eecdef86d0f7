"""Windows whose values have odd types are analyzed and reported, never a traceback."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.results import CheckOutcome
from mlops_kit.project.loader import Project, load_project
from mlops_kit.stages.monitor.column_bins import make_column_bins
from mlops_kit.stages.monitor.performance_estimate import fit_outcome_model
from mlops_kit.stages.monitor.profile_records import (
    ReferenceProfile,
    profile_from_json,
    profile_to_json,
)
from mlops_kit.stages.monitor.profiles import profile_rows
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.watch.records import WindowMonitoring
from mlops_kit.watch.reference_data import ReferenceData
from mlops_kit.watch.windows import analyze_unlabeled_window, profile_window

pytestmark = pytest.mark.slow  # each test fits the classifier of a window

FEATURES = ["number", "name", "price"]
KINDS = {"number": "number", "name": "category", "price": "number", "score": "number"}
YAML = """
name: odd
source: t.csv
target: y
task: binary
time: at
review: {draws: 100, slices: [name]}
"""


def make_rows(seed: int, days: int, rows_per_day: int = 100) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = days * rows_per_day
    score = rng.uniform(0.05, 0.95, rows)
    return pd.DataFrame(
        {
            "at": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(rows) * 86_400 / 100, "s"),
            "number": rng.normal(size=rows),
            "name": pd.Categorical(rng.choice(["x", "y"], rows)),
            "price": [Decimal(str(round(value, 2))) for value in rng.random(rows)],
            "score": score,
            "y": (rng.random(rows) < score).astype(float),
        }
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder: Path = tmp_path_factory.mktemp("odd")
    (folder / "mlops.yaml").write_text(YAML)
    return load_project(folder)


@pytest.fixture(scope="module")
def reference(project: Project) -> ReferenceData:
    rows = make_rows(0, 12)
    bins = {name: make_column_bins(rows[name], kind) for name, kind in KINDS.items()}
    days = rows["at"].dt.strftime("%Y-%m-%d").to_numpy()
    return ReferenceData(
        feature_names=FEATURES,
        rows=rows,
        performance=ReferencePerformance(0.75, 0.7, 0.8),
        outcomes=fit_outcome_model(rows, FEATURES, project.config),
        profile=ReferenceProfile(bins, profile_rows(rows, bins, days), None),
        classes=(0, 1),
    )


def analyze(project: Project, reference: ReferenceData, rows: pd.DataFrame) -> WindowMonitoring:
    """Analyze a window, store its records and read them again."""
    predictions = pd.DataFrame({"score": rows["score"], "decision": 1.0}, index=rows.index)
    sampling = pd.DataFrame({"at": rows["at"]}, index=rows.index)
    inputs = rows[[name for name in FEATURES if name in rows]]
    analyzed = analyze_unlabeled_window(
        project, reference, predictions, inputs, {"1": len(rows)}, sampling
    )
    profile = profile_window(reference, predictions, inputs, sampling, project.config)
    assert profile is not None
    assert profile_from_json(profile_to_json(profile)).row_count == len(rows)
    return WindowMonitoring.from_json(analyzed.to_json())


def get_statuses(monitoring: WindowMonitoring) -> dict[str, Any]:
    return monitoring.drift.data.set_index("column")["status"].to_dict()


def test_category_decimals_and_naive_times_are_compared(
    project: Project, reference: ReferenceData
) -> None:
    monitoring = analyze(project, reference, make_rows(1, 7))
    assert set(get_statuses(monitoring).values()) == {"none"}
    assert monitoring.estimated.value is not None
    assert monitoring.joint_drift is not None
    assert monitoring.joint_drift.status == "none"
    assert monitoring.slices is not None
    assert monitoring.slices.data["slice"].tolist() == ["name = x", "name = y"]


def test_number_that_became_text_is_named_and_the_rest_is_compared(
    project: Project, reference: ReferenceData
) -> None:
    rows = make_rows(2, 7)
    rows["number"] = "n/a"
    monitoring = analyze(project, reference, rows.astype({"name": object}))
    assert get_statuses(monitoring)["number"] == "not_tested"
    assert get_statuses(monitoring)["name"] == "none"
    (schema,) = [verdict for verdict in monitoring.verdicts if verdict.check == "schema"]
    assert schema.outcome is CheckOutcome.FAILED
    assert "number" in schema.sentence


def test_missing_scores_features_and_repeated_labels_are_no_error(
    project: Project, reference: ReferenceData
) -> None:
    rows = make_rows(3, 7).drop(columns="price")
    rows.loc[rows.index[:50], "score"] = np.nan
    rows.index = pd.Index(np.zeros(len(rows), dtype=int))
    monitoring = analyze(project, reference, rows)
    assert get_statuses(monitoring)["price"] == "not_tested"
    assert monitoring.rows == len(rows)
    assert monitoring.estimated.value is not None


def test_window_without_rows_has_no_drift(project: Project, reference: ReferenceData) -> None:
    monitoring = analyze(project, reference, make_rows(4, 1).head(0))
    assert monitoring.drift.data.empty
    assert monitoring.joint_drift is not None
    assert monitoring.joint_drift.status == "not_tested"
