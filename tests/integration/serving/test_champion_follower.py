"""The champion follower with the run that trained the served version."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.project import loader
from mlops_kit.serving import champion_follower


def test_reference_performance_is_read_from_the_run(run: Path) -> None:
    project = loader.load_project(run.parent.parent)
    metrics = champion_follower.read_reference_performance(project, run.name)
    assert metrics
    for metric in metrics:
        assert set(metric) == {"metric", "value", "low", "high"}
        assert metric["low"] <= metric["value"] <= metric["high"]
