"""Model."""

from __future__ import annotations

from pydantic import (
    Field,
)

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import NameList, Share


class TrainConfig(ConfigSection):
    """The budget and the choices of the search."""

    trials: int = Field(16, ge=1, description="Trials of the search; they bind")
    max_seconds: float = Field(
        300, gt=0, description="Seconds the search may take at most: the safety net"
    )
    families: NameList = Field(
        default_factory=list, description="Model families to search; empty: all that fit the task"
    )
    metric: str = Field(
        "", description="What the search improves; empty: log_loss (binary) or rmse (regression)"
    )
    refit: bool = Field(True, description="Fit the chosen recipe again on all rows known")


class CostConfig(ConfigSection):
    """What a wrong decision costs; the threshold of a classifier follows from it."""

    false_alarm: float = Field(1, ge=0, description="Cost of a flagged row that did not deserve it")
    miss: float = Field(1, ge=0, description="Cost of a row that should have been flagged")
    unit: str = Field("", description="What the cost is counted in, such as $")


class ReviewConfig(ConfigSection):
    """Limits of the checks; a limit of null takes the check out (not applicable)."""

    metric: str = Field(
        "", description="The headline metric; empty: roc_auc (binary) or r2 (regression)"
    )
    min_metric: float | None = Field(None, description="The headline metric is at least this")
    margin: float = Field(
        0.005, ge=0, description="How much worse than the champion still counts as no worse"
    )
    min_gain_over_baseline: float = Field(
        0.0, description="Least gain in the headline metric over the best baseline"
    )
    max_calibration_error: float | None = Field(
        0.05, ge=0, description="Largest expected calibration error"
    )
    slices: NameList = Field(
        default_factory=list, description="Columns to review by group; empty: the coarse categories"
    )
    max_slice_gap: float | None = Field(
        0.10, ge=0, description="Largest shortfall of a slice below the whole"
    )
    min_slice_rows: int = Field(200, ge=20, description="Fewest rows on which a slice is judged")
    min_refit_rank_correlation: float | None = Field(
        0.90, ge=-1, le=1, description="Least rank correlation of refitted and judged model"
    )
    max_refit_shift: float | None = Field(
        0.05,
        ge=0,
        description="Largest mean shift between them, in the target's unit or share of its sd",
    )
    leakage_threshold: Share = Field(
        0.98,
        description="A column that alone ranks the target this well (AUC or |rho|) looks like a leak",
    )
    draws: int = Field(500, ge=100, description="Bootstrap draws behind each interval")


MODEL_FAMILY_NAMES = ("linear", "boosting", "lightgbm", "forest")
