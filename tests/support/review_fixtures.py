"""Small tables of held-out rows, and the evidence made from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.results import Interval
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import RefitAgreement, ReviewEvidence
from mlops_kit.stats.refit_agreement import ReferenceRefit


@pytest.fixture
def make_config() -> Callable[..., ProjectConfig]:
    """Make a project configuration with some values changed."""

    def make(task: str = "binary", **values: Any) -> ProjectConfig:
        return ProjectConfig(
            **{
                "name": "flights",
                "source": "a.csv",
                "target": "late",
                "task": task,
                "id": ["id"],
                "time": "moment",
                "timezone": "America/New_York",
                **values,
            }
        )

    return make


@pytest.fixture
def make_rows() -> Callable[..., pd.DataFrame]:
    """MakeRows rows over thirty days; in group ``b`` the score says nothing."""

    def make(task: str = "binary", rows: int = 3000) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        group = rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1])
        p = np.where(group == "b", 0.3, rng.beta(1, 2, rows))
        noise = rng.uniform(0, 1, rows)
        y = (noise < p).astype(float) if task == "binary" else 10 * p + noise
        score = (
            np.where(group == "b", rng.beta(1, 2, rows), p)
            if task == "binary"
            else 10 * np.where(group == "b", rng.beta(1, 2, rows), p) + 0.5
        )
        moments = pd.Timestamp("2013-06-01 04:00", tz="UTC") + pd.to_timedelta(
            np.arange(rows) % 30, unit="D"
        )
        return pd.DataFrame(
            {
                "id": np.arange(rows),
                "moment": moments,
                "late": y,
                "score": score,
                "refitted": score,
                "baseline_constant": y.mean(),
                "baseline_linear": y.mean() + 0.2 * (score - score.mean()),
            }
        ).assign(group=group, x=score)

    return make


def make_agreement(correlation: float, mean_gain: float, **values: Any) -> RefitAgreement:
    """Make the agreement of a refit, beside reference refits that correlate by 0.95 to 0.97."""
    references = []
    for reference_correlation, reference_gain in ((0.95, 0.04), (0.96, 0.02), (0.97, 0.03)):
        refit = ReferenceRefit(4000, 1000, reference_correlation, 0.0, 0.5, reference_gain)
        references.append(refit)
    agreement = RefitAgreement(
        correlation=correlation,
        mean_shift=0.01,
        gain=Interval(mean_gain, mean_gain - 0.002, mean_gain + 0.002),
        loss=0.5,
        rows=1000,
        references=tuple(references),
    )
    return agreement._replace(**values)


@pytest.fixture
def make_evidence(make_config: Callable[..., ProjectConfig]) -> Callable[..., ReviewEvidence]:
    """Make evidence that passes every check, with some values changed."""

    def make(
        task: str = "binary",
        review: dict[str, Any] | None = None,
        train: dict[str, Any] | None = None,
        **values: Any,
    ) -> ReviewEvidence:
        config = make_config(task, review=review or {}, train=train or {})
        headline = {
            config.headline_metric: Interval(0.78, 0.77, 0.79),
            "calibration_error": Interval(0.01, 0.008, 0.02),
        }
        gains = {
            "baseline_linear": Interval(0.03, 0.02, 0.04),
            "baseline_constant": Interval(0.28, 0.27, 0.29),
        }
        passing = {
            "labeled_rows": 28000,
            "rows_by_class": {"0": 21000, "1": 7000},
            "metrics": headline,
            "baseline_values": {},
            "baseline_gains": gains,
            "refit_agreement": make_agreement(0.97, 0.03),
        }
        return ReviewEvidence(config=config, **{**passing, **values})

    return make
