"""When to retrain: rules over the results of monitoring.

Stops come first (broken rows must not teach a model), then reasons, then guards. The decision
names the rule that decided and lists the result of every rule; a person or a schedule acts on it.

To add a rule, in the package or in a plugin of a project:

1. write a function ``RetrainingEvidence -> sentence`` that returns an empty text if the rule does
   not apply,
2. decorate it with ``@register_retraining_rule(name, role)``.

`decide_retraining` then takes it into account. ``retrain.when`` says which reasons count and how
many have to apply; without it, a reason counts if its own setting switches it on. The rules of this
package are in ``mlops_kit.stages.retrain.rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    name_failing_extension,
)
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict, Verdicts
from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.explain import format_setting_value
from mlops_kit.stages.retrain.expected_gain import describe_expected_gain
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK

POLICY_ACTOR = "policy"  # who decided on a retraining, if it was not a person
# Rules of stored decisions and their present names.
_RENAMED_RULES = {"fall": "performance_drop", "gap": "concept_drift"}
SUPERSEDED_RULE = "superseded"
RECOVERY_REASON = "incomplete_recovery"
PERFORMANCE_REASONS = frozenset({"performance_drop", "concept_drift", RECOVERY_REASON})
_REASON_TITLES = {
    "performance_drop": "a proven performance drop",
    "concept_drift": "concept drift",
    "confirmed_drift": "confirmed drift",
    RECOVERY_REASON: "an incomplete recovery",
    "drift": "drift alone",
    "drift_cost": "costly drift",
    "age": "age",
    "data_volume": "data volume",
}


class RuleRole(StrEnum):
    """What it means that a rule applies: do not retrain at all, retrain, or wait."""

    STOP = "stop"
    REASON = "reason"
    GUARD = "guard"


class RetrainingAction(StrEnum):
    """What a retraining decision asks for."""

    STOP = "stop"
    KEEP = "keep"
    WAIT = "wait"
    RETRAIN = "retrain"


class RetrainingEvidence(NamedTuple):
    """Everything that a rule may look at.

    Attributes
    ----------
    drift, realized : Table
        Drift by feature, and realized performance.
    alerts : Verdicts
        The verdicts of monitoring.
    labeled_rows : int
        Rows that were labeled since the model's cut-off.
    time_since_last : timedelta or None
        Time since the last retraining; None if there was none.
    pending_reason : str
        What a retraining would have to wait for, in words; empty if nothing.
    superseded_reason : str
        Why another window decides, in words; empty if this one does.
    rejected_share : float
        Share of the newest rows that the data contract rejects.
    recent_retrainings : int
        Retrainings within ``retrain.budget_period``.
    fault_reason : str
        What is wrong with the rows or labels of the window, in words; empty if nothing.
    change_reason : str
        Why a retraining has to wait after a suspected change, in words; empty if it does not.
    decisions_per_day : float or None
        Rows that are scored per day; None if it is not known.
    is_drop_confirmed : bool
        Whether a performance drop shows in more than this one window.
    is_drop_growing : bool
        Whether such a drop is larger than in the window before, or shows in the first window of the
        version already.
    recovery_reason : str
        Why another retraining may complete the recovery from a change, in words; empty if it is
        complete, or too few rows were labeled since the last attempt.
    """

    drift: Table
    realized: Table
    alerts: Verdicts
    config: ProjectConfig
    labeled_rows: int
    model_age: timedelta | None
    time_since_last: timedelta | None = None
    pending_reason: str = ""
    superseded_reason: str = ""
    rejected_share: float = 0.0
    recent_retrainings: int = 0
    fault_reason: str = ""
    change_reason: str = ""
    decisions_per_day: float | None = None
    is_drop_confirmed: bool = True
    is_drop_growing: bool = False
    recovery_reason: str = ""

    def find_verdict(self, check: str) -> Verdict | None:
        """Find monitoring's verdict of a check."""
        for verdict in self.alerts:
            if verdict.check == check:
                return verdict
        return None

    def get_failure_sentence(self, *checks: str) -> str:
        """Get the sentence of the first of these checks that failed; empty if none did."""
        for check in checks:
            verdict = self.find_verdict(check)
            if verdict is not None and verdict.outcome == CheckOutcome.FAILED:
                return verdict.sentence
        return ""

    def counts_as_reason(self, name: str, is_switched_on: bool) -> bool:
        """Whether a reason counts: ``retrain.when`` names it, or names none and it is switched on.

        Parameters
        ----------
        name : str
            The name of the rule.
        is_switched_on : bool
            What the setting of the reason itself says.
        """
        named = self.config.retrain.when.reason_names
        return name in named if named else is_switched_on


@dataclass(frozen=True)
class RuleResult:
    """What one rule found; ``sentence`` is empty if the rule does not apply.

    Attributes
    ----------
    rule : str
        The name under which the rule is registered.
    role : RuleRole
        What it means that the rule applies.
    sentence : str
        Why it applies.
    setting : str
        The setting in ``mlops.yaml`` that the rule follows; empty if there is none.
    """

    rule: str
    role: RuleRole
    sentence: str
    setting: str = ""

    @property
    def applies(self) -> bool:
        """Whether the rule applies."""
        return bool(self.sentence)

    def describe_setting(self) -> str:
        """Describe which setting a person can change, or that there is none."""
        if not self.setting:
            return "No setting changes that."
        return f"The setting is {self.setting}."


@dataclass(frozen=True)
class RetrainingDecision:
    """Whether to retrain, why, and what every rule found.

    Stored as JSON by the retrain stage and by ``mlops watch``.

    Attributes
    ----------
    action : RetrainingAction
        What to do.
    reason : str
        Why, in a sentence.
    rule_results : tuple of RuleResult
        What each rule found, those that do not apply included.
    command : str
        The command that retrains; empty unless it is to be run.
    """

    action: RetrainingAction
    reason: str
    rule_results: tuple[RuleResult, ...]
    command: str = ""

    SCHEMA_VERSION = 3

    def list_applying(self, role: RuleRole) -> list[RuleResult]:
        """List the results of the rules of a role that apply."""
        return [result for result in self.rule_results if result.role == role and result.applies]

    @property
    def should_retrain(self) -> bool:
        """Whether to retrain now."""
        return self.action == RetrainingAction.RETRAIN

    def to_json_dict(self) -> dict[str, Any]:
        """Convert to values that JSON can hold."""
        rule_results = []
        for result in self.rule_results:
            rule_results.append({**asdict(result), "applies": result.applies})
        return {
            "schema_version": self.SCHEMA_VERSION,
            "should_retrain": self.should_retrain,
            "action": self.action.value,
            "reason": self.reason,
            "rule_results": rule_results,
            "command": self.command,
        }

    @classmethod
    def from_json_dict(cls, stored: Mapping[str, Any]) -> RetrainingDecision:
        """Read a stored decision, those of earlier schema versions included.

        Version 1 has no version number; it keeps the rules under ``evidence``, each with its
        sentence under ``said``. Up to version 2 rules have no setting, and some another name.
        """
        stored_results = stored.get("rule_results")
        if stored_results is None:
            stored_results = [
                {"rule": old["rule"], "role": old["role"], "sentence": old["said"]}
                for old in stored["evidence"]
            ]
        return cls(
            action=RetrainingAction(stored["action"]),
            reason=stored["reason"],
            rule_results=tuple(
                RuleResult(
                    _RENAMED_RULES.get(result["rule"], result["rule"]),
                    RuleRole(result["role"]),
                    result["sentence"],
                    result.get("setting", ""),
                )
                for result in stored_results
            ),
            command=stored["command"],
        )


_RuleFunction = Callable[[RetrainingEvidence], str]


class _Rule(NamedTuple):
    role: RuleRole
    function: _RuleFunction
    setting: str = ""


RETRAINING_RULES: ExtensionRegistry[_Rule] = ExtensionRegistry(ExtensionKind.RETRAINING_RULE)


def register_retraining_rule(
    name: str, role: RuleRole, setting: str = ""
) -> Callable[[_RuleFunction], _RuleFunction]:
    """Register the decorated function as a retraining rule.

    Parameters
    ----------
    name : str
        The rule's name.
    role : RuleRole
        What it means that the rule applies: a reason to retrain, a guard that waits, or a stop.
    setting : str
        The setting in ``mlops.yaml`` that the rule follows, such as ``retrain.min_labels``. A
        decision names it if a guard makes it wait, and so does the incident if it waits for long.

    Examples
    --------
    >>> @register_retraining_rule("few_features", RuleRole.STOP)
    ... def stop_on_few_features(evidence):
    ...     columns = len(evidence.drift.data)
    ...     return "" if columns > 1 else f"Only {columns} columns are monitored."
    >>> RETRAINING_RULES["few_features"].role
    <RuleRole.STOP: 'stop'>
    >>> del RETRAINING_RULES["few_features"]
    """

    def register(function: _RuleFunction) -> _RuleFunction:
        RETRAINING_RULES.register(name)(_Rule(RuleRole(role), function, setting))
        return function

    return register


def decide_retraining(evidence: RetrainingEvidence) -> RetrainingDecision:
    """Decide whether to retrain, and why."""
    results = []
    for name, rule in RETRAINING_RULES.items():
        with name_failing_extension(ExtensionKind.RETRAINING_RULE, name):
            sentence = rule.function(evidence) or ""
            if not isinstance(sentence, str):
                raise TypeError(f"it returned {sentence!r}; expected a sentence")
        results.append(RuleResult(name, rule.role, sentence, rule.setting))
    stop = _find_applying(results, RuleRole.STOP)
    reason, missing_reasons = _combine_reasons(results, evidence)
    guard = _find_applying(results, RuleRole.GUARD)
    if stop is not None:
        action = RetrainingAction.STOP
        sentence = f"No, and stop: {stop.sentence}"
    elif missing_reasons:
        action = RetrainingAction.KEEP
        sentence = f"No: {missing_reasons}"
    elif not reason:
        action = RetrainingAction.KEEP
        sentence = f"No: {_explain_no_retraining(evidence)}"
    elif guard is not None:
        action = RetrainingAction.WAIT
        sentence = f"Not yet: {reason} {guard.sentence} {guard.describe_setting()}"
    else:
        action = RetrainingAction.RETRAIN
        sentence = f"Yes: {reason}"
    inactive_reasons = evidence.config.retrain.describe_inactive_reasons()
    if action == RetrainingAction.KEEP and inactive_reasons:
        sentence += f" {inactive_reasons}"
    if reason and stop is None:
        sentence += describe_expected_gain(
            evidence.realized, evidence.decisions_per_day, evidence.config
        )
    command = ""
    if action == RetrainingAction.RETRAIN:
        until = evidence.config.until
        command = f"mlops run --as-of {until.isoformat()}" if until else "mlops run"
    return RetrainingDecision(action, sentence, tuple(results), command)


def _find_applying(results: list[RuleResult], role: RuleRole) -> RuleResult | None:
    """Find the first rule of a role that applies."""
    for result in results:
        if result.role == role and result.applies:
            return result
    return None


def _combine_reasons(results: list[RuleResult], evidence: RetrainingEvidence) -> tuple[str, str]:
    """Combine the reasons as ``retrain.when`` says.

    Returns
    -------
    reason : str
        The reasons that apply, in words; empty unless enough do.
    missing_reasons : str
        What is missing, if some apply but not enough; else empty.
    """
    when = evidence.config.retrain.when
    applying = []
    for result in results:
        is_reason = result.role == RuleRole.REASON and result.applies
        if is_reason and (not when.reason_names or result.rule in when.reason_names):
            applying.append(result.sentence)
    if not applying:
        return "", ""
    if len(applying) < when.min_reasons:
        verb = "applies" if len(applying) == 1 else "apply"
        return "", (
            f"{len(applying)} of {when.min_reasons} required reasons {verb} "
            f"({', '.join(when.reason_names)}): {' '.join(applying)}"
        )
    return " ".join(applying[: when.min_reasons]), ""


def _explain_no_retraining(evidence: RetrainingEvidence) -> str:
    """Explain why there is nothing to do: what the labels say, or that there are none."""
    realized = evidence.find_verdict(REALIZED_PERFORMANCE_CHECK)
    if realized is None or realized.outcome == CheckOutcome.NOT_APPLICABLE:
        return "no rows were scored since the model was made."
    if realized.outcome == CheckOutcome.CANNOT_TELL:
        return f"a performance drop is not proven. {realized.sentence}"
    if realized.outcome == CheckOutcome.FAILED:
        policy = evidence.config.retrain
        if not evidence.counts_as_reason("performance_drop", policy.on_performance_drop):
            if policy.when.reason_names:
                cause = "retrain.when does not name performance_drop as a reason."
            else:
                cause = "retrain.on_performance_drop is off."
            return f"{realized.sentence} {cause}"
        return (
            f"{realized.sentence} One window alone is not a proof: the daily losses show no "
            "change, and the window before was within the limit."
        )
    drift = evidence.get_failure_sentence("drift")
    if drift:
        return f"{realized.sentence} Drift alone is not a reason to retrain: {drift}"
    return realized.sentence


def count_labeled_rows(realized: Table) -> int:
    """Count the scored rows that have their label."""
    if realized.data.empty:
        return 0
    return int(realized.data["rows"].max())


def list_rule_results(decision: RetrainingDecision) -> Table:
    """List what every rule found."""
    rows = []
    for result in decision.rule_results:
        outcome = "applies" if result.applies else "does not apply"
        rows.append((result.rule, result.role.value, outcome, result.sentence))
    return Table(
        "Retraining decision",
        decision.reason,
        pd.DataFrame(rows, columns=["rule", "role", "outcome", "reason"]),
    )


def describe_policy(config: ProjectConfig) -> Table:
    """Describe the project's retraining policy: each setting, its value and its meaning."""
    policy = config.retrain
    rows = []
    for name, field in type(policy).model_fields.items():
        setting_value = getattr(policy, name)
        if isinstance(setting_value, ConfigSection):
            setting_value = setting_value.model_dump(mode="json", exclude_defaults=True) or None
        value = str(format_setting_value(setting_value))
        rows.append((f"retrain.{name}", value, field.description or ""))
    when = policy.when
    reasons = [_REASON_TITLES[reason] for reason in policy.list_active_reasons()]
    combination = f"Reasons to retrain: {', '.join(reasons) or 'none'}"
    if when.reason_names:
        combination = (
            f"Retrains if {when.min_reasons} of these apply: {', '.join(when.reason_names)}"
        )
    sentence = (
        f"{combination}; at least {policy.min_labels:,} rows labeled since the model's cut-off are "
        f"needed. {policy.describe_inactive_reasons()}"
    ).rstrip()
    return Table(
        "Retraining policy",
        sentence,
        pd.DataFrame(rows, columns=["setting", "value", "meaning"]),
    )


def make_retraining_verdict(decision: RetrainingDecision) -> Verdict:
    """Turn the decision into a verdict; a stop blocks."""
    outcome_by_action = {
        RetrainingAction.KEEP: CheckOutcome.PASSED,
        RetrainingAction.RETRAIN: CheckOutcome.FAILED,
        RetrainingAction.WAIT: CheckOutcome.CANNOT_TELL,
        RetrainingAction.STOP: CheckOutcome.FAILED,
    }
    hint_by_action = {
        RetrainingAction.KEEP: "",
        RetrainingAction.RETRAIN: decision.command,
        RetrainingAction.WAIT: "wait for labels; the next run decides again",
        RetrainingAction.STOP: "fix the data first",
    }
    severity = CheckSeverity.WARNS
    if decision.action == RetrainingAction.STOP:
        severity = CheckSeverity.BLOCKS
    return Verdict(
        check="retrain",
        title="The model can stay",
        outcome=outcome_by_action[decision.action],
        severity=severity,
        sentence=decision.reason,
        hint=hint_by_action[decision.action],
    )
