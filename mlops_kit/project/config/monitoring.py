"""Settings of monitoring, retraining and ``mlops watch``."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, model_validator

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Day, Drop, Duration, NameList, Share

TestedKind = Literal["number", "category", "code", "boolean"]
# The drift tests of this package by the kind of column they are for, the default first.
DRIFT_TESTS_BY_KIND: dict[TestedKind, tuple[str, ...]] = {
    "number": ("ranks", "ks"),
    "category": ("cramers_v",),
    "code": ("cramers_v",),
    "boolean": ("cramers_v",),
}
RETRAINING_REASON_NAMES = (
    "performance_drop",
    "concept_drift",
    "incomplete_recovery",
    "confirmed_drift",
    "drift",
    "drift_cost",
    "age",
    "data_volume",
)
# Reasons that never apply unless the project states a limit, with the setting that does.
_LIMIT_SETTING_BY_REASON = {
    "drift_cost": "max_drift_cost",
    "age": "max_age",
    "data_volume": "max_new_labels",
}


class MonitorConfig(ConfigSection):
    """When drift is a warning or an alert, and where alerts are written."""

    tests: dict[TestedKind, str] = Field(
        default_factory=dict,
        description="Drift test by kind of column (number, category, code: whole numbers with few "
        "values, boolean); default: ranks for numbers, cramers_v for the others",
    )
    warning_effect: float = Field(
        0.05,
        ge=0,
        description="Effect size from which significant drift is a warning (on the scale "
        "of the KS distance, bias-corrected Cramér's V, or what the test of a plugin returns)",
    )
    alert_effect: float = Field(
        0.075,
        ge=0,
        description="Effect size from which significant drift is an alert; a shift by 0.2 standard "
        "deviations has an effect of 0.08",
    )
    alpha: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="False discovery rate of alerts over all columns (Benjamini-Hochberg)",
    )
    warning_alpha: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="False discovery rate of warnings over all columns",
    )
    warning_ratio: float = Field(
        1.4,
        gt=1,
        description="Ratio to the reference from which a significant change of a rare category, "
        "of missing values or of the share of extreme values is a warning",
    )
    alert_ratio: float = Field(
        3.0,
        gt=1,
        description="Ratio to the reference from which such an increase is an alert, if it is at "
        "least one percentage point",
    )
    max_missing_increase: Share = Field(
        0.05, description="Maximum increase in a column's share of missing values"
    )
    min_rows: int = Field(200, ge=20, description="Minimum number of rows to test for drift")
    max_drop: Drop = Field(
        "10%",
        description="Maximum drop of the headline metric below the reference performance: a "
        "number, or a share of the reference (of a score measured from a model without skill: 0.5 "
        "for ROC-AUC, the share of the most frequent class for accuracy), but at least from the "
        "reference to the worse end of its interval",
    )
    alerts_file: str = Field(
        "reports/alerts.jsonl",
        description="File to which the monitor stage, and the alert sink 'file', append alerts as "
        "JSON lines",
    )


class RetrainReasonsConfig(ConfigSection):
    """Which reasons to retrain count, and how many of them have to apply.

    The reasons are performance_drop, concept_drift, confirmed_drift, drift, drift_cost, age,
    data_volume, and those of plugins.
    """

    any: NameList = Field(
        default_factory=list,
        description="Retrain if any of these reasons applies; empty, like the other lists: those "
        "that the settings of retrain switch on, and those of plugins",
    )
    all: NameList = Field(
        default_factory=list, description="Retrain if all of these reasons apply together"
    )
    at_least: int | None = Field(
        None, ge=1, description="Retrain if so many of the reasons under 'of' apply together"
    )
    of: NameList = Field(
        default_factory=list, description="The reasons of which at_least have to apply"
    )

    @model_validator(mode="after")
    def check_one_combination(self) -> RetrainReasonsConfig:
        """Refuse several combinations, and a number that cannot be reached."""
        if sum(map(bool, (self.any, self.all, self.of))) > 1:
            raise ValueError("retrain.when: expected one of any, all, or at_least with of")
        if (self.at_least is None) != (not self.of):
            raise ValueError("retrain.when: expected at_least and of together")
        if self.at_least is not None and self.at_least > len(self.of):
            raise ValueError(
                f"retrain.when: at_least {self.at_least} of {len(self.of)} reasons cannot be "
                "reached; expected a smaller number or more reasons under 'of'"
            )
        return self

    @property
    def reason_names(self) -> list[str]:
        """The reasons that count; empty: those that other settings switch on."""
        return [*self.any, *self.all, *self.of]

    @property
    def min_reasons(self) -> int:
        """How many of the reasons have to apply."""
        if self.all:
            return len(self.all)
        return self.at_least or 1


class RetrainConfig(ConfigSection):
    """When to retrain."""

    on_performance_drop: bool = Field(
        True, description="Retrain when the realized performance dropped below its limit"
    )
    on_drift: bool = Field(
        False, description="Retrain on drift alone; drift alone rarely costs performance"
    )
    max_drift_cost: float | None = Field(
        None,
        ge=0,
        description="Retrain when the drift of a column is estimated to cost more of the headline "
        "metric than this; null: never because of its cost",
    )
    max_age: Duration | None = Field(
        None, description="Retrain when the model is older; null: never because of its age"
    )
    max_new_labels: int | None = Field(
        None,
        ge=1,
        description="Retrain when so many rows were labeled since the model's cut-off; null: never "
        "because of their number",
    )
    min_labels: int = Field(
        500,
        ge=0,
        description="Minimum number of rows labeled since the model's cut-off for a retraining",
    )
    on_concept_drift: bool = Field(
        True,
        description="Retrain on concept drift: realized performance stays below the estimated "
        "performance for watch.min_drifted_windows windows in a row",
    )
    on_confirmed_drift: bool = Field(
        True,
        description="Retrain when features drifted, the drift is estimated to cost at least "
        "review.margin, and the realized performance is below the reference by as much and by more "
        "than noise, also where the drop is smaller than monitor.max_drop",
    )
    when: RetrainReasonsConfig = Field(
        default_factory=RetrainReasonsConfig,
        description="Which reasons count, and how many of them have to apply",
    )
    cooldown: Duration = Field(
        timedelta(days=14),
        description="Minimum time between two automatic retrainings, unless a proven performance "
        "drop grows, and after a change of the champion before an earlier one is reinstated",
    )
    max_retrainings: int | None = Field(
        None,
        ge=1,
        description="Maximum number of retrainings within budget_period; null: no maximum",
    )
    budget_period: Duration = Field(
        timedelta(days=365), description="Period of which max_retrainings is the budget"
    )
    cost: float | None = Field(
        None,
        ge=0,
        description="Cost of a retraining in cost.unit; a retraining decision compares the "
        "expected gain with it",
    )
    value_per_decision: float | None = Field(
        None,
        gt=0,
        description="Value of 1.0 of the headline metric per decision, in cost.unit; a retraining "
        "decision states what the performance drop costs per day",
    )

    quarantine: bool = Field(
        True,
        description="Leave days with faults of the feed out of retraining, and of runs by hand: "
        "missing values, a stale column, a changed unit, a duplicated day, flipped labels, "
        "labels of other rows",
    )

    def list_active_reasons(self) -> list[str]:
        """List the reasons of this package that are switched on, or have a limit."""
        is_active_by_reason = {
            "performance_drop": self.on_performance_drop,
            "concept_drift": self.on_concept_drift,
            "confirmed_drift": self.on_confirmed_drift,
            "incomplete_recovery": self.on_performance_drop,
            "drift": self.on_drift,
        }
        for reason, setting in _LIMIT_SETTING_BY_REASON.items():
            is_active_by_reason[reason] = getattr(self, setting) is not None
        return [reason for reason, is_active in is_active_by_reason.items() if is_active]

    def describe_inactive_reasons(self) -> str:
        """Describe the reasons that ``when`` names although their limit is null; empty if none.

        Examples
        --------
        >>> RetrainConfig(when={"any": ["age", "drift"]}).describe_inactive_reasons()
        'retrain.when names age, which never applies without retrain.max_age.'
        >>> RetrainConfig(when={"any": ["age"]}, max_age="90d").describe_inactive_reasons()
        ''
        """
        names = self.when.reason_names
        inactive = []
        for reason, setting in _LIMIT_SETTING_BY_REASON.items():
            if reason in names and getattr(self, setting) is None:
                inactive.append((reason, setting))
        if not inactive:
            return ""
        reasons = " and ".join(reason for reason, _ in inactive)
        settings = " and ".join(f"retrain.{setting}" for _, setting in inactive)
        verb = "applies" if len(inactive) == 1 else "apply"
        sentence = f"retrain.when names {reasons}, which never {verb} without {settings}."
        if len(names) - len(inactive) < self.when.min_reasons:
            sentence += " So nothing but a request of a person leads to a retraining."
        return sentence


class WatchConfig(ConfigSection):
    """The schedule of ``mlops watch``."""

    interval: Duration = Field(
        timedelta(days=1), description="How often new rows are scored and labels imported"
    )
    window: Duration = Field(timedelta(days=7), description="Length of a monitoring window")
    window_rows: int | None = Field(
        None,
        ge=20,
        description="Rows of a monitoring window: it ends when so many rows were scored, whatever "
        "watch.window is; null: windows have a length in time",
    )
    heartbeat_url: str = Field(
        "",
        description="Address that is called after each pass, such as one of healthchecks.io, which "
        "raises an alarm when the calls stop; with /start before a pass and /fail after one that "
        "failed. ${NAME} is replaced by an environment variable. Empty: none",
    )
    holidays: list[Day] = Field(
        default_factory=list,
        description="Days, such as 2013-07-04, on which fewer rows may arrive than usual on their "
        "weekday, in the project's time zone",
    )
    min_drifted_windows: int = Field(
        2,
        ge=1,
        description="How many of the last three windows must show a drift before an incident is "
        "opened",
    )
    rollback: bool = Field(
        True,
        description="Roll back a new champion whose labeled windows are worse than those of the "
        "version that it replaced would have been, by more than review.margin",
    )
    reinstate: bool = Field(
        True,
        description="Promote an earlier champion again when the daily losses show a change and it "
        "is better than the champion on the labeled rows since then, by more than review.margin",
    )
    rollback_windows: int = Field(
        52, ge=1, description="Number of windows on which a new champion is compared with it"
    )
