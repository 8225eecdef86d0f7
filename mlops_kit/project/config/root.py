"""Root."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    Field,
    model_validator,
)

from mlops_kit.core.errors import suggest_names
from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.data import ContractConfig, LabelsConfig, QuerySource, SplitConfig
from mlops_kit.project.config.model import MODEL_FAMILY_NAMES, CostConfig, ReviewConfig, TrainConfig
from mlops_kit.project.config.monitoring import MonitorConfig, RetrainConfig, WatchConfig
from mlops_kit.project.config.pipeline import (
    DEFAULT_STAGES,
    RetentionConfig,
    RunConfig,
    StageConfig,
    order_stages,
)
from mlops_kit.project.config.services import DashboardConfig, PeopleConfig, ServeConfig
from mlops_kit.project.config.value_types import Duration, NameList, OptionalTimestamp
from mlops_kit.stats import metrics


class ProjectConfig(ConfigSection):
    """All of ``mlops.yaml``."""

    name: str = Field(
        description="Name of the project and of its model", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"
    )
    source: str | QuerySource = Field(
        description="File, folder or glob (CSV, Parquet, Excel), dataset:NAME, or {sql, url}"
    )
    target: str = Field(description="Column to predict")
    task: Literal["binary", "regression"] = Field(description="What kind of prediction")
    id: NameList = Field(
        default_factory=list, description="Columns that name a row; empty: its position"
    )
    row_name: str = Field(
        "row", description="What a row is called in sentences, such as flight or patient"
    )
    time: str | None = Field(
        None, description="Column with the moment of prediction; null: the table has no time"
    )
    timezone: str = Field("UTC", description="Zone in which moments are read and shown")
    label_delay: Duration = Field(
        timedelta(0), description="How long after its moment a row's label is known"
    )
    excluded_columns: NameList = Field(
        default_factory=list, description="Columns that no model sees"
    )
    known_later: dict[str, str] = Field(
        default_factory=dict,
        description="Columns known only after the moment of prediction: a delay (1d), or the column that says when",
    )
    features: NameList = Field(default_factory=list, description="The project's own feature files")
    lookback: Duration | None = Field(
        None,
        description="How far back the features look, with the delay of labels; null: over all the history. A shorter one makes scoring quick",
    )
    labels: LabelsConfig | None = Field(
        None,
        description="A table in which labels arrive: {source, key, time, value}; null: they stand in the source",
    )
    as_of: OptionalTimestamp = Field(
        None,
        description="What was not known then, stages 1 to 4 do not see; null: after the newest row",
    )
    until: OptionalTimestamp = Field(
        None,
        description="Deploy scores, and monitor and retrain see, what is known by then; null: as_of",
    )
    seed: int = Field(0, ge=0, description="Seed of all that is random")
    sample: int = Field(
        0, ge=0, description="Rows of a quick trial run; 0: all. Nothing made from it is promoted"
    )
    branch: str = Field(
        "",
        description="Name of a branch, set where the chain runs once for each of several values; nothing made from one is promoted",
    )
    notebooks: str = Field(
        "",
        description="Folder of the notebooks; empty: notebooks/, or those that ship with the package",
    )
    reports: str = Field("reports", description="Folder of the runs")
    tracking: str = Field("sqlite:///.mlops/mlflow.db", description="MLflow's store or server")
    database: str = Field(
        "sqlite:///.mlops/mlops.db",
        description="Database of the decisions, a SQLAlchemy URL; ${NAME} is taken from the environment",
    )
    approval: Literal["manual", "automatic"] = Field(
        "manual", description="Who approves a reviewed model"
    )
    secrets: NameList = Field(
        default_factory=list,
        description="Environment variables whose values are never shown; tokens and the passwords of URLs are known without being listed",
    )
    split: SplitConfig = SplitConfig()
    train: TrainConfig = TrainConfig()
    cost: CostConfig = CostConfig()
    contract: ContractConfig = ContractConfig()
    review: ReviewConfig = ReviewConfig()
    monitor: MonitorConfig = MonitorConfig()
    retrain: RetrainConfig = RetrainConfig()
    serve: ServeConfig = ServeConfig()
    dashboard: DashboardConfig = DashboardConfig()
    watch: WatchConfig = WatchConfig()
    people: PeopleConfig = PeopleConfig()
    retention: RetentionConfig = RetentionConfig()
    run: RunConfig = RunConfig()
    seven: bool = Field(
        True,
        description="Whether the seven stages belong to the chain; false, as where the project's notebooks have none of them: only the stages named here",
    )
    stages: dict[str, StageConfig] = Field(
        default_factory=dict, description="Changes to a stage, or a stage of one's own"
    )

    @model_validator(mode="before")
    @classmethod
    def add_default_stages(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Lay the project's stages over the seven."""
        given = data.get("stages") or {}
        if not isinstance(given, dict):
            return data
        if data.get("seven") is False:
            return {"source": "", "target": "", "task": "regression", **data}
        merged = {
            k: {**v, **own} if isinstance(own := given.get(k) or {}, dict) else own
            for k, v in DEFAULT_STAGES.items()
        }
        return {**data, "stages": {**DEFAULT_STAGES, **given, **merged}}

    @model_validator(mode="after")
    def check_consistency(self) -> ProjectConfig:
        """Refuse what each field allows but the whole does not."""
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known; expected a name such as Europe/Berlin"
            ) from error
        if self.time is None and (self.as_of or self.until):
            raise ValueError(
                "as_of and until need a time column: name it in 'time', or take them out"
            )
        if self.as_of and self.until and self.to_utc(self.until) < self.to_utc(self.as_of):
            raise ValueError(
                f"until {self.until:%Y-%m-%d} lies before as_of {self.as_of:%Y-%m-%d}; expected the same moment or a later one"
            )
        if isinstance(self.split.test, timedelta) and self.time is None:
            raise ValueError(
                "split.test is a duration but the table has no time column; expected a share such as 0.2"
            )
        fit = metrics.list_task_metrics(self.task)
        for key, value, known in [
            ("train.metric", self.train.metric, fit),
            ("review.metric", self.review.metric, fit),
            *(("train.families", f, [*MODEL_FAMILY_NAMES]) for f in self.train.families),
        ]:
            if value and value not in known:
                raise ValueError(
                    f"{key}: {value!r} is not known for the task {self.task}; expected {suggest_names(value, known)}"
                )
        for name, stage in self.stages.items():
            if not stage.notebook:
                raise ValueError(
                    f"unknown stage {name!r}; expected {suggest_names(name, DEFAULT_STAGES)}, or a notebook of your own under stages.{name}.notebook"
                )
            for need in stage.needs:
                if need not in self.stages:
                    raise ValueError(
                        f"stages.{name}.needs names the unknown stage {need!r}; expected {suggest_names(need, self.stages)}"
                    )
        order_stages(self.stages)
        return self

    def to_utc(self, when: datetime) -> datetime:
        """A moment in UTC, read in the project's zone if it has none of its own."""
        return (when if when.tzinfo else when.replace(tzinfo=ZoneInfo(self.timezone))).astimezone(
            UTC
        )

    @property
    def search_metric(self) -> str:
        """The metric that the search improves."""
        return self.train.metric or ("log_loss" if self.task == "binary" else "rmse")

    @property
    def headline_metric(self) -> str:
        """The metric that review, monitoring and pages speak of."""
        return self.review.metric or ("roc_auc" if self.task == "binary" else "r2")

    @property
    def non_feature_columns(self) -> set[str]:
        """Columns that are never a feature: target, id, time, left out, known later."""
        return {
            self.target,
            *self.id,
            *([self.time] if self.time else []),
            *self.excluded_columns,
            *self.known_later,
        }
