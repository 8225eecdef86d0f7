"""All of ``mlops.yaml``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from mlops_kit.core.errors import suggest_names
from mlops_kit.core.extensions import ExtensionKind, list_declared
from mlops_kit.core.tasks import TASKS
from mlops_kit.project.config.alerts import ALERT_SINK_NAMES, AlertsConfig
from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.data import (
    ColumnDescription,
    ContractConfig,
    LabelsConfig,
    TableSource,
    ValidationConfig,
)
from mlops_kit.project.config.legacy import move_split_settings
from mlops_kit.project.config.model import MODEL_FAMILY_NAMES, CostConfig, ReviewConfig, TrainConfig
from mlops_kit.project.config.monitoring import (
    DRIFT_TESTS_BY_KIND,
    RETRAINING_REASON_NAMES,
    MonitorConfig,
    RetrainConfig,
    WatchConfig,
)
from mlops_kit.project.config.pipeline import (
    DEFAULT_STAGES,
    RetentionConfig,
    RunConfig,
    StageConfig,
    check_written_names,
    order_stages,
)
from mlops_kit.project.config.reserved_names import rename_roles
from mlops_kit.project.config.services import DashboardConfig, PeopleConfig, ServeConfig
from mlops_kit.project.config.training_rows import RowSelection
from mlops_kit.project.config.value_types import Duration, NameList, OptionalTimestamp
from mlops_kit.stats import metrics


class ProjectConfig(ConfigSection):
    """All settings of a project."""

    name: str = Field(
        description="Name of the project and of its model", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"
    )
    source: TableSource = Field(
        description="File, folder or glob (text, Parquet, Excel, JSON Lines), dataset:NAME, "
        "{file, separator, decimal, thousands, encoding, header, skip_rows, missing, dates, sheet} "
        "or {sql, url}"
    )
    target: str = Field(description="Column to predict")
    task: Literal["binary", "multiclass", "regression"] = Field(
        description="Kind of prediction: one of two classes, one of several classes, or a number"
    )
    positive: bool | int | float | str | None = Field(
        None,
        description="Positive class of a binary task, which costs, threshold and flags are about; "
        "null: 1, true, yes or y",
    )
    id: NameList = Field(
        default_factory=list,
        description="Columns that identify a row; empty: the position in the source",
    )
    columns: dict[str, ColumnDescription] = Field(
        default_factory=dict,
        description="What columns are called for readers: {NAME: {label, unit, description}}; also "
        "in the data contract and in the section Columns of a feature view's docstring",
    )
    event: str = Field(
        "",
        description="What the positive class of a binary task, or the target of a regression, is "
        "called in sentences, such as late flight",
    )
    package: str = Field(
        "",
        description="Where exported workflows install mlops-kit from: the path of a wheel in the "
        "project, mlops-kit[all] @ git+https://…, or mlops-kit[all]==VERSION of an index; empty: "
        "the project's own requirements list it",
    )
    row_name: str = Field(
        "row", description="What a row is called in sentences, such as flight or patient"
    )
    time: str | None = Field(
        None, description="Column with the prediction time; null: the table has no timestamps"
    )
    timezone: str = Field("UTC", description="Time zone in which timestamps are read and shown")
    label_delay: Duration = Field(
        timedelta(0), description="How long after the prediction time a label is known"
    )
    weight: str | None = Field(
        None,
        description="Column with the weight of each row in fits, metrics and drift, at least 0; "
        "it is not a feature, and rows are scored without it. null: all rows count the same",
    )
    clock_skew: Duration = Field(
        timedelta(days=1),
        description="How much later than the time of reading a row's time may be; rows that are "
        "later are quarantined and never determine as_of",
    )
    excluded_columns: NameList = Field(
        default_factory=list, description="Columns that are not used as features"
    )
    known_later: dict[str, str] = Field(
        default_factory=dict,
        description="Columns known only after the prediction time, each with a delay (1d) or the "
        "column with the time from which it is known",
    )
    features: NameList = Field(
        default_factory=list, description="Python files with the project's feature views"
    )
    lookback: Duration | None = Field(
        None,
        description="How far back the features look, including the label delay; null: over the "
        "whole history. A short one makes scoring fast",
    )
    labels: LabelsConfig | None = Field(
        None,
        description="Table from which labels are imported: {source, key, time, value}; null: the "
        "source has the labels",
    )
    as_of: OptionalTimestamp = Field(
        None,
        description="Cut-off of explore, prepare, train and review: they use only what was known "
        "then; null: after the newest row",
    )
    until: OptionalTimestamp = Field(
        None,
        description="Cut-off of deploy, monitor and retrain: they use only what was known then; "
        "null: as_of",
    )
    plugins: NameList = Field(
        default_factory=list,
        description="Python modules, of the project or installed, that register metrics, checks "
        "and other extensions",
    )
    seed: int = Field(0, ge=0, description="Random seed")
    sample: int = Field(
        0,
        ge=0,
        description="Number of rows for a quick trial run, which is never promoted; 0: all rows",
    )
    branch: str = Field(
        "",
        description="Name of a branch, set where the chain runs once per parameter combination; "
        "a branch is never promoted",
    )
    notebooks: str = Field(
        "",
        description="Folder of the project's own notebooks; empty: notebooks/. A notebook that is "
        "not there comes from the package",
    )
    reports: str = Field("reports", description="Folder of the runs")
    tracking: str = Field("sqlite:///.mlops/mlflow.db", description="MLflow store or server")
    database: str = Field(
        "sqlite:///.mlops/mlops.db",
        description="SQLAlchemy URL of the database of approvals and predictions; ${NAME} is "
        "replaced by the environment variable NAME",
    )
    approval: Literal["manual", "automatic"] = Field(
        "manual", description="Whether a person approves a reviewed version"
    )
    secrets: NameList = Field(
        default_factory=list,
        description="Environment variables whose values are never shown; tokens and passwords in "
        "URLs are hidden anyway",
    )
    validation: ValidationConfig = ValidationConfig()
    train: TrainConfig = TrainConfig()
    cost: CostConfig = CostConfig()
    contract: ContractConfig = ContractConfig()
    review: ReviewConfig = ReviewConfig()
    monitor: MonitorConfig = MonitorConfig()
    retrain: RetrainConfig = RetrainConfig()
    serve: ServeConfig = ServeConfig()
    dashboard: DashboardConfig = DashboardConfig()
    watch: WatchConfig = WatchConfig()
    alerts: AlertsConfig = AlertsConfig()
    people: PeopleConfig = PeopleConfig()
    retention: RetentionConfig = RetentionConfig()
    run: RunConfig = RunConfig()
    stages: dict[str, StageConfig] = Field(
        default_factory=dict,
        description="Changes to the default stages, and own stages. If each has its own notebook, "
        "none needs a default stage, and the project's notebooks folder has none of the default "
        "notebooks, the chain has only the stages listed here",
    )

    @model_validator(mode="before")
    @classmethod
    def add_default_stages(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Use the default stages if none is listed."""
        return {**data, "stages": data.get("stages") or DEFAULT_STAGES}

    @model_validator(mode="before")
    @classmethod
    def accept_split_section(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Accept ``split``, the earlier name of ``validation.test`` and ``validation.folds``."""
        return move_split_settings(data)

    @model_validator(mode="before")
    @classmethod
    def rename_reserved_roles(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Give roles the names that their columns get beside the columns of the chain."""
        return rename_roles(data)

    @model_validator(mode="after")
    def check_consistency(self) -> ProjectConfig:
        """Refuse combinations of settings that contradict each other."""
        self._check_task()
        self._check_times()
        self._check_validation()
        self._check_names()
        self._check_stages()
        self._check_people()
        return self

    def _check_task(self) -> None:
        if self.task == "binary":
            return
        if self.positive is not None:
            raise ValueError(f"positive: {self.positive!r} needs task: binary, got {self.task}")
        if self.task == "multiclass" and self.cost.model_fields_set:
            raise ValueError(
                "cost: a multiclass task predicts the most probable class, without costs; "
                "expected task: binary, or no cost"
            )

    def _check_times(self) -> None:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known; expected a name such as Europe/Berlin"
            ) from error
        if self.time is None and (self.as_of or self.until):
            raise ValueError(
                "as_of and until need a time column: name it in 'time', or remove them"
            )
        if self.as_of and self.until and self.to_utc(self.until) < self.to_utc(self.as_of):
            raise ValueError(
                f"until {self.until:%Y-%m-%d} is before as_of {self.as_of:%Y-%m-%d}; "
                "expected the same time or a later one"
            )
        selection = self.train.rows.selection
        if self.time is None and selection not in {RowSelection.AUTO, RowSelection.ALL}:
            raise ValueError(
                f"train.rows: {self.train.rows} but the table has no time column; expected all"
            )
        if self.time is None and self.train.change_point:
            raise ValueError(
                "train.change_point needs a time column: name it in 'time', or remove it"
            )
        if isinstance(self.validation.test, timedelta) and self.time is None:
            raise ValueError(
                "validation.test is a duration but the table has no time column; "
                "expected a share such as 0.2"
            )

    def _check_validation(self) -> None:
        validation = self.validation
        if self.time is None and validation.excluded_days:
            raise ValueError(
                "validation.excluded_days needs a time column: name it in 'time', or remove it"
            )
        if self.time and validation.stratify:
            raise ValueError(
                f"validation.stratify: true contradicts time: {self.time}; rows with timestamps "
                "are split in time, not drawn at random. Remove one of the two"
            )
        if self.time and validation.repeats > 1:
            raise ValueError(
                f"validation.repeats: {validation.repeats} contradicts time: {self.time}; folds in "
                "time order can only be formed once. Remove one of the two"
            )
        if validation.group:
            self._check_role_of_column("validation.group", validation.group)
        if self.weight:
            self._check_role_of_column("weight", self.weight)
        if self.weight and self.weight in {*self.id, validation.group}:
            raise ValueError(
                f"weight: the column {self.weight!r} identifies rows or groups; "
                "expected a column of numbers"
            )

    def _check_role_of_column(self, setting: str, column: str) -> None:
        """Refuse a column that already has a role in which it cannot serve for this setting."""
        if column in self.known_later:
            raise ValueError(
                f"{setting}: the column {column!r} is listed under known_later; "
                "expected a column that is known at prediction time"
            )
        for role, name in (("target", self.target), ("time", self.time)):
            if column == name:
                raise ValueError(
                    f"{setting}: the column {column!r} is the {role} column; "
                    "expected another column"
                )

    def _check_names(self) -> None:
        # What plugins register counts, but no plugin is imported for its name.
        task_metrics = metrics.METRICS.list_names(self.task)
        families = [
            *MODEL_FAMILY_NAMES,
            *list_declared(ExtensionKind.MODEL_FAMILY, self.task),
        ]
        choices = [
            ("train.metric", self.train.metric, task_metrics),
            ("review.metric", self.review.metric, task_metrics),
        ]
        for family in self.train.families:
            choices.append(("train.families", family, families))
        for setting, value, known_names in choices:
            if value and value not in known_names:
                raise ValueError(
                    f"{setting}: {value!r} is not known for the task {self.task}; "
                    f"expected {suggest_names(value, known_names)}"
                )
        for kind, test in self.monitor.tests.items():
            known_tests = [
                *DRIFT_TESTS_BY_KIND[kind],
                *list_declared(ExtensionKind.DRIFT_TEST, kind),
            ]
            if test not in known_tests:
                raise ValueError(
                    f"monitor.tests.{kind}: {test!r} is not known for this kind of column; "
                    f"expected {suggest_names(test, known_tests)}"
                )
        known_reasons = [
            *RETRAINING_REASON_NAMES,
            *list_declared(ExtensionKind.RETRAINING_RULE),
        ]
        for reason in self.retrain.when.reason_names:
            if reason not in known_reasons:
                raise ValueError(
                    f"retrain.when: the reason {reason!r} is not known; "
                    f"expected {suggest_names(reason, known_reasons)}"
                )
        known_sinks = [*ALERT_SINK_NAMES, *list_declared(ExtensionKind.ALERT_SINK)]
        for name, sink in self.alerts.sinks.items():
            if not sink.url_env and name not in known_sinks:
                raise ValueError(
                    f"alerts.sinks: {name!r} is not known; "
                    f"expected {suggest_names(name, known_sinks)}, or a url_env"
                )

    def _check_stages(self) -> None:
        for name, stage in self.stages.items():
            if not stage.notebook:
                raise ValueError(
                    f"unknown stage {name!r}; expected {suggest_names(name, DEFAULT_STAGES)}, "
                    f"or a notebook of your own under stages.{name}.notebook"
                )
            for needed in stage.needs:
                if needed not in self.stages:
                    raise ValueError(
                        f"stages.{name}.needs names the unknown stage {needed!r}; "
                        f"expected {suggest_names(needed, self.stages)}"
                    )
        check_written_names(self.stages)
        order_stages(self.stages)

    def _check_people(self) -> None:
        if self.people.tokens and self.dashboard.token_env:
            raise ValueError(
                "dashboard.token_env has no effect with people.identity: token, since each person "
                "has a token; expected one of the two"
            )

    def to_utc(self, timestamp: datetime) -> datetime:
        """Convert a timestamp to UTC; without a zone it is in the project's time zone."""
        if timestamp.tzinfo is None:
            timestamp = timestamp.replace(tzinfo=ZoneInfo(self.timezone))
        return timestamp.astimezone(UTC)

    @property
    def search_metric(self) -> str:
        """The metric that the search optimizes."""
        return self.train.metric or TASKS[self.task].search_metric

    @property
    def headline_metric(self) -> str:
        """The metric that the review, monitoring and the pages report first."""
        return self.review.metric or TASKS[self.task].headline_metric

    @property
    def role_columns(self) -> set[str]:
        """Columns with a role: target, id, time, group and weight."""
        columns = {self.target, *self.id, self.time, self.validation.group, self.weight}
        return {column for column in columns if column}

    @property
    def non_feature_columns(self) -> set[str]:
        """Columns that are never features: target, id, time, group, weight, excluded, later."""
        columns = {self.target, *self.id, *self.excluded_columns, *self.known_later}
        for column in (self.time, self.validation.group, self.weight):
            if column:
                columns.add(column)
        return columns
