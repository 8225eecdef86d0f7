"""A project that was created for a small table."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.pipeline.scaffold import create
from mlops_kit.project.loader import Project, load_project

ROWS = 400


def write_visits(folder: Path) -> Path:
    """Write a table of visits, with a target, a key, a constant and a leak."""
    rng = np.random.default_rng(0)
    missed = rng.random(ROWS) < 0.3
    visits = pd.DataFrame(
        {
            "visit_id": range(1000, 1000 + ROWS),
            "age": rng.integers(18, 90, ROWS),
            "clinic": rng.choice(["north", "south"], ROWS),
            "unit": "general",
            "fee": np.where(missed, 40.0, 0.0),
            "missed": np.where(missed, "yes", "no"),
        }
    )
    file = folder / "visits.csv"
    visits.to_csv(file, index=False)
    return file


@pytest.fixture(scope="session")
def created_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project as ``mlops new --yes`` writes it; not to be changed."""
    folder = tmp_path_factory.mktemp("created")
    file = write_visits(folder)
    request = create.ProjectRequest(folder / "visits", [str(file)], "missed")
    return create.write_project(create.draft_project(request)).root


@pytest.fixture
def project(created_project: Path, tmp_path: Path) -> Project:
    """A copy of the project."""
    copy = tmp_path / "visits"
    shutil.copytree(created_project, copy)
    return load_project(copy)
