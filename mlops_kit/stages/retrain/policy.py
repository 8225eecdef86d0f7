"""When to retrain: rules over the results of monitoring.

Stops come first (broken rows must not teach a model), then reasons, then guards. The decision
names the rule that decided and lists the result of every rule; a person or a schedule acts on it.

To add a rule, in the package or in a plugin of a project:

1. write a function ``RetrainingEvidence -> sentence`` that returns an empty text if the rule does
   not apply,
2. decorate it with ``@register_retraining_rule(name, role)``.

`decide_retraining` then takes it into account.
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
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.explain import format_setting_value
from mlops_kit.stats.monitoring_tables import DriftStatus, upgrade_monitoring_table

# The check of realized performance, by the name under which its verdicts are stored.
REALIZED_PERFORMANCE_CHECK = "realised"  # stored by earlier versions
CONCEPT_DRIFT_CHECK = "gap"


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
        New labeled rows to learn from.
    time_since_last : timedelta or None
        Time since the last retraining; None if there was none.
    pending_reason : str
        What a retraining would have to wait for, in words; empty if nothing.
    """

    drift: Table
    realized: Table
    alerts: Verdicts
    config: ProjectConfig
    labeled_rows: int
    model_age: timedelta | None
    time_since_last: timedelta | None = None
    pending_reason: str = ""

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
    """

    rule: str
    role: RuleRole
    sentence: str

    @property
    def applies(self) -> bool:
        """Whether the rule applies."""
        return bool(self.sentence)


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

    SCHEMA_VERSION = 2

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
        """Read a stored decision, those of schema version 1 included.

        Version 1 has no version number; it keeps the rules under ``evidence``, each with its
        sentence under ``said``.
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
                RuleResult(result["rule"], RuleRole(result["role"]), result["sentence"])
                for result in stored_results
            ),
            command=stored["command"],
        )


_RuleFunction = Callable[[RetrainingEvidence], str]


class _Rule(NamedTuple):
    role: RuleRole
    function: _RuleFunction


RETRAINING_RULES: ExtensionRegistry[_Rule] = ExtensionRegistry(ExtensionKind.RETRAINING_RULE)


def register_retraining_rule(name: str, role: RuleRole) -> Callable[[_RuleFunction], _RuleFunction]:
    """Register the decorated function as a retraining rule.

    Parameters
    ----------
    name : str
        The rule's name.
    role : RuleRole
        What it means that the rule applies: a reason to retrain, a guard that waits, or a stop.

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
        RETRAINING_RULES.register(name)(_Rule(RuleRole(role), function))
        return function

    return register


@register_retraining_rule("schema", RuleRole.STOP)
def stop_on_broken_schema(evidence: RetrainingEvidence) -> str:
    """Stop if columns are missing or changed their type: the next model would learn the fault."""
    return evidence.get_failure_sentence("schema")


@register_retraining_rule("missing", RuleRole.STOP)
def stop_on_missing_values(evidence: RetrainingEvidence) -> str:
    """Stop if values of a column went missing: a fault of the source, not a change of the world."""
    drift = upgrade_monitoring_table(evidence.drift).data
    alerts = drift[drift["status"] == DriftStatus.ALERT]
    increase = alerts["missing_current"].astype(float) - alerts["missing_reference"].astype(float)
    max_increase = evidence.config.monitor.max_missing_increase
    columns = alerts.loc[increase > max_increase, "column"].tolist()
    if not columns:
        return ""
    return f"Values of {', '.join(columns)} went missing; fix the source first."


@register_retraining_rule("fall", RuleRole.REASON)
def retrain_on_performance_drop(evidence: RetrainingEvidence) -> str:
    """Retrain if the labels prove that performance dropped."""
    if not evidence.config.retrain.on_performance_drop:
        return ""
    return evidence.get_failure_sentence(REALIZED_PERFORMANCE_CHECK)


@register_retraining_rule("drift", RuleRole.REASON)
def retrain_on_drift(evidence: RetrainingEvidence) -> str:
    """Retrain on drift alone, if the project wants to."""
    if not evidence.config.retrain.on_drift:
        return ""
    return evidence.get_failure_sentence("drift", "score_drift")


@register_retraining_rule("gap", RuleRole.REASON)
def retrain_on_concept_drift(evidence: RetrainingEvidence) -> str:
    """Retrain on concept drift: realized performance stays below estimated performance."""
    if not evidence.config.retrain.on_concept_drift:
        return ""
    return evidence.get_failure_sentence(CONCEPT_DRIFT_CHECK)


@register_retraining_rule("age", RuleRole.REASON)
def retrain_on_age(evidence: RetrainingEvidence) -> str:
    """Retrain if the model is older than the project allows."""
    max_age = evidence.config.retrain.max_age
    age = evidence.model_age
    if max_age is None or age is None or age <= max_age:
        return ""
    return f"The model is {age.days} days old; the limit is {format_duration(max_age)}."


@register_retraining_rule("labels", RuleRole.GUARD)
def wait_for_labels(evidence: RetrainingEvidence) -> str:
    """Wait while there are too few new labels to learn from."""
    min_labels = evidence.config.retrain.min_labels
    if evidence.labeled_rows >= min_labels:
        return ""
    return f"Only {evidence.labeled_rows:,} new labeled rows; {min_labels:,} are needed."


@register_retraining_rule("pending", RuleRole.GUARD)
def wait_for_pending_version(evidence: RetrainingEvidence) -> str:
    """Wait while a new version waits for an approval."""
    return evidence.pending_reason


@register_retraining_rule("cooldown", RuleRole.GUARD)
def wait_for_cooldown(evidence: RetrainingEvidence) -> str:
    """Wait until the last retraining has had time to show its effect."""
    cooldown = evidence.config.retrain.cooldown
    elapsed = evidence.time_since_last
    if elapsed is None or elapsed >= cooldown:
        return ""
    days = elapsed / timedelta(days=1)
    return (
        f"The last retraining was {days:g} days ago; the cooldown is {format_duration(cooldown)}."
    )


def decide_retraining(evidence: RetrainingEvidence) -> RetrainingDecision:
    """Decide whether to retrain, and why."""
    results = []
    for name, rule in RETRAINING_RULES.items():
        with name_failing_extension(ExtensionKind.RETRAINING_RULE, name):
            sentence = rule.function(evidence) or ""
            if not isinstance(sentence, str):
                raise TypeError(f"it returned {sentence!r}; expected a sentence")
        results.append(RuleResult(name, rule.role, sentence))
    stop = _get_first_sentence(results, RuleRole.STOP)
    reason = _get_first_sentence(results, RuleRole.REASON)
    guard = _get_first_sentence(results, RuleRole.GUARD)
    if stop:
        action = RetrainingAction.STOP
        sentence = f"No, and stop: {stop}"
    elif not reason:
        action = RetrainingAction.KEEP
        sentence = f"No: {_explain_no_retraining(evidence)}"
    elif guard:
        action = RetrainingAction.WAIT
        sentence = f"Not yet: {reason} {guard}"
    else:
        action = RetrainingAction.RETRAIN
        sentence = f"Yes: {reason}"
    command = ""
    if action == RetrainingAction.RETRAIN:
        until = evidence.config.until
        command = f"mlops run --as-of {until.isoformat()}" if until else "mlops run"
    return RetrainingDecision(action, sentence, tuple(results), command)


def _get_first_sentence(results: list[RuleResult], role: RuleRole) -> str:
    for result in results:
        if result.role == role and result.applies:
            return result.sentence
    return ""


def _explain_no_retraining(evidence: RetrainingEvidence) -> str:
    """Explain why there is nothing to do: what the labels say, or that there are none."""
    realized = evidence.find_verdict(REALIZED_PERFORMANCE_CHECK)
    if realized is None or realized.outcome == CheckOutcome.NOT_APPLICABLE:
        return "no rows were scored since the model was made."
    if realized.outcome == CheckOutcome.CANNOT_TELL:
        return f"a performance drop is not proven. {realized.sentence}"
    if realized.outcome == CheckOutcome.FAILED:
        return f"{realized.sentence} retrain.on_performance_drop is off."
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
        value = str(format_setting_value(getattr(policy, name)))
        rows.append((f"retrain.{name}", value, field.description or ""))
    is_active_by_reason = {
        "a proven performance drop": policy.on_performance_drop,
        "concept drift": policy.on_concept_drift,
        "drift alone": policy.on_drift,
        "age": policy.max_age is not None,
    }
    reasons = [reason for reason, is_active in is_active_by_reason.items() if is_active]
    sentence = (
        f"Reasons to retrain: {', '.join(reasons) or 'none'}; "
        f"at least {policy.min_labels:,} new labels are needed."
    )
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
