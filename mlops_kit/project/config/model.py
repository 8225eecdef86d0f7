"""Settings of the training, the decision costs and the review."""

from __future__ import annotations

from pydantic import Field

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.training_rows import (
    RowSelection,
    TrainingRows,
    TrainingRowsSetting,
)
from mlops_kit.project.config.value_types import NameList, OptionalTimestamp, Share

MODEL_FAMILY_NAMES = ("linear", "boosting", "lightgbm", "forest")


class TrainConfig(ConfigSection):
    """The budget and the search space of the hyperparameter search."""

    trials: int = Field(16, ge=1, description="Number of trials of the search")
    max_seconds: float = Field(
        300,
        gt=0,
        description="Maximum duration of the search in seconds; a safety net, as 'trials' is the "
        "intended limit. The fit of a fold is not interrupted",
    )
    families: NameList = Field(
        default_factory=list,
        description="Model families to search; empty: all that support the task",
    )
    metric: str = Field(
        "",
        description="Metric to optimize; empty: log_loss (binary), multiclass_log_loss or rmse",
    )
    refit: bool = Field(
        True, description="Refit the chosen recipe on all labeled rows; that final model serves"
    )
    rows: TrainingRowsSetting = Field(
        TrainingRows(RowSelection.AUTO),
        description="Rows that models are fitted on, for a table with timestamps: all, "
        "recent(90d) (those of the newest 90 days), weighted(60d) (a row that is 60 days older "
        "counts half), since(2013-09-01), or auto: all, unless a window or weighting is clearly "
        "better on the newest training rows",
    )
    change_point: OptionalTimestamp = Field(
        None,
        description="Since when the target is suspected to depend on the features in another way. "
        "The held-out set is then only as large as a verdict needs, so that newer rows train the "
        "model. mlops watch finds it in the realized losses and sets it for a retraining",
    )
    reference_refits: int = Field(
        3,
        ge=0,
        le=20,
        description="Refits of the chosen recipe on fewer training rows, with which the review "
        "compares how the final model differs from the evaluation model",
    )


class CostConfig(ConfigSection):
    """What a wrong decision costs; the decision threshold of a classifier follows from it."""

    false_alarm: float = Field(1, ge=0, description="Cost of a false positive")
    miss: float = Field(1, ge=0, description="Cost of a false negative")
    unit: str = Field("", description="Unit of the costs, such as $")


class ReviewConfig(ConfigSection):
    """Limits of the review's checks; a check whose limit is null does not apply."""

    metric: str = Field(
        "",
        description="The headline metric; empty: roc_auc (binary), accuracy (multiclass) or r2",
    )
    min_metric: float | None = Field(None, description="Minimum of the headline metric")
    margin: float = Field(
        0.005,
        ge=0,
        description="Non-inferiority margin: how much worse than the champion counts as no worse",
    )
    require_gain: bool = Field(
        False,
        description="Whether a version has to be better than the champion, not only no worse, on "
        "rows that are newer than those that either was trained on; mlops watch sets it for a "
        "retraining after a performance drop",
    )
    min_gain_over_baseline: float = Field(
        0.0, description="Minimum gain in the headline metric over the best baseline"
    )
    max_calibration_error: float | None = Field(
        0.05,
        ge=0,
        description="Maximum expected calibration error; of a multiclass task the mean over the "
        "classes",
    )
    slices: NameList = Field(
        default_factory=list,
        description="Columns whose groups are evaluated as slices; empty: categorical columns "
        "with few values",
    )
    max_slice_gap: float | None = Field(
        0.10, ge=0, description="Maximum by which a slice may be worse than all rows"
    )
    min_slice_rows: int = Field(
        200, ge=20, description="Minimum number of rows for a slice to be evaluated"
    )
    max_refit_disagreement: float | None = Field(
        1.0,
        gt=0,
        description="Maximum of 1 - correlation between the scores of the final and the evaluation "
        "model, in multiples of the largest one among the reference refits; beyond it the final "
        "model has to gain at least half as much as the reference refit that gains least",
    )
    min_refit_rank_correlation: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Minimum correlation between these scores, whatever the reference refits show; "
        "null: no fixed limit",
    )
    max_refit_shift: float | None = Field(
        None,
        ge=0,
        description="Maximum mean shift between these scores, in probability or, for regression, "
        "in standard deviations of the target; null: no fixed limit",
    )
    leakage_threshold: Share = Field(
        0.98,
        description="A column that alone ranks the target this well (AUC or |rho|) is reported "
        "as leakage",
    )
    confirmed_features: NameList = Field(
        default_factory=list,
        description="Features of which somebody has confirmed that they are known when a "
        "prediction is made: they are not reported as leakage",
    )
    draws: int = Field(500, ge=100, description="Bootstrap draws per confidence interval")
