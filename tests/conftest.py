"""What all tests share: no setting of the caller's reaches them, and none of them reaches the caller's store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the caller's settings out; a stray MLflow call lands in the test's own folder."""
    for name in [n for n in os.environ if n.startswith(("MLOPS_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
