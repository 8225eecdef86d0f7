"""Projects that run the whole chain once by the command line, for tests of their columns' roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from fastapi.testclient import TestClient

from mlops_kit.project import loader, run_folder
from mlops_kit.serving import app
from tests.support.commands import RunMlops
from tests.support.mlflow_stores import write_empty_store

# A short run of a table with the key ``k``.
_SETTINGS = """\
source: rows.csv
id: k
approval: automatic
train: {trials: 2, families: [linear]}
review: {draws: 100}
monitor: {min_rows: 50}
stages: {explore: {params: {profile_rows: 0}}}
"""


def run_project(
    run_mlops: RunMlops, home: Path, settings: str, rows: pd.DataFrame
) -> loader.Project:
    """Create a project of rows and settings, and run it."""
    home.mkdir()
    (home / "mlops.yaml").write_text(settings + _SETTINGS)
    rows.to_csv(home / "rows.csv", index=False)
    write_empty_store(home)
    completed = run_mlops("run", "--project", home)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return loader.load_project(home)


def read_artifact(project: loader.Project, name: str) -> Any:
    """Read an artifact of the project's only run."""
    (run,) = run_folder.list_run_folders(project.reports_folder)
    return run_folder.read_run_artifact(run, name)


def predict_at_endpoint(project: loader.Project, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Ask the endpoint of a project for the predictions of rows."""
    text = rows.to_json(orient="records", double_precision=15, date_format="iso")
    with TestClient(app.build_app(project), base_url="http://localhost:8000") as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        assert service.follower.champion_checked.wait(120)
        response = client.post("/predict", json={"rows": json.loads(text)})
    assert response.status_code == 200, response.text
    answers: list[dict[str, Any]] = response.json()["predictions"]
    return answers
