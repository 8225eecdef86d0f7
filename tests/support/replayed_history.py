"""A history to replay without a source: one feature, a target of zero, labels after two days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_kit.project import loader
from mlops_kit.watch.policy_replay.history import ReplayHistory

START = datetime(2024, 1, 1, tzinfo=UTC)
YAML = """
name: tiny
source: t.csv
target: y
task: regression
time: at
label_delay: 2d
review: {metric: mae}
"""


def make_history(folder: Path, days: int, rows_per_day: int, settings: str = "") -> ReplayHistory:
    """Make a history from 1 January 2024 on, with further settings of the project."""
    (folder / "mlops.yaml").write_text(YAML + settings)
    count = days * rows_per_day
    hours = np.arange(count) * (24 / rows_per_day)
    times = pd.Series(pd.Timestamp(START) + pd.to_timedelta(hours, unit="h"))
    return ReplayHistory(
        project=loader.load_project(folder),
        table=pd.DataFrame({"at": times, "x": 1.0, "y": 0.0}),
        label_times=times + pd.Timedelta(days=2),
        rejected=np.zeros(count, dtype=bool),
        classes=(),
        start=START,
        end=START + timedelta(days=days),
        digest="d",
    )
