"""When to retrain: rules over the evidence of monitoring, and guard rails over the rules.

Stops come first (broken rows must not teach a model), then reasons, then guards. The decision says
which rule it followed and lists what every rule said; a person or a schedule acts on it, not this.

To add a rule: 1. a function ``Facts -> sentence``, empty if it does not apply, 2. ``@rule(name,
role)`` above it with the role "stop", "reason" or "guard"; its word then counts in ``decide``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict, Verdicts
from mlops_kit.project import explain
from mlops_kit.project.config import root
from mlops_kit.project.config.value_types import format_duration

RuleRole = Literal["stop", "reason", "guard"]


class RetrainingEvidence(NamedTuple):
    """All that a rule may look at."""

    drift: Table
    realized: Table
    alerts: Verdicts
    config: root.ProjectConfig
    labeled_rows: int
    model_age: timedelta | None
    time_since_last: timedelta | None = None
    pending_reason: str = ""

    def find_verdict(self, check: str) -> Verdict | None:
        """Monitoring's verdict of a check, if it gave one."""
        return next((v for v in self.alerts if v.check == check), None)

    def get_failure_sentence(self, *checks: str) -> str:
        """What is said of the first of these checks that failed; nothing if none did."""
        return next(
            (v.sentence for c in checks if (v := self.find_verdict(c)) and v.outcome == "failed"),
            "",
        )


_RuleFunction = Callable[[RetrainingEvidence], str]


RETRAINING_RULES: ExtensionRegistry[tuple[RuleRole, _RuleFunction]] = ExtensionRegistry(
    "retraining rule"
)  # of each its role, and what says why it applies


def register_rule(name: str, role: RuleRole) -> Callable[[_RuleFunction], _RuleFunction]:
    """Register the decorated function as a rule."""
    return lambda function: RETRAINING_RULES.register(name)((role, function))[1]


@register_rule("schema", "stop")
def stop_on_broken_schema(facts: RetrainingEvidence) -> str:
    """Columns that are gone or changed their type would teach the next model the fault."""
    return facts.get_failure_sentence("schema")


@register_rule("missing", "stop")
def stop_on_missing_values(facts: RetrainingEvidence) -> str:
    """A column that has gone missing is a fault of the delivery, not news about the world."""
    rows = facts.drift.data
    alerts = rows[rows["word"] == "alert"]
    rise = alerts["missing_current"].astype(float) - alerts["missing_reference"].astype(float)
    names = alerts.loc[rise > facts.config.monitor.max_missing_increase, "column"].tolist()
    return (
        f"Values of {', '.join(names)} went missing; the delivery must be mended first."
        if names
        else ""
    )


@register_rule("fall", "reason")
def retrain_on_performance_drop(facts: RetrainingEvidence) -> str:
    """The labels prove a fall."""
    return (
        facts.get_failure_sentence("realised") if facts.config.retrain.on_performance_drop else ""
    )


@register_rule("drift", "reason")
def retrain_on_drift(facts: RetrainingEvidence) -> str:
    """Drift, where the project wants to retrain on drift alone."""
    return (
        facts.get_failure_sentence("drift", "score_drift") if facts.config.retrain.on_drift else ""
    )


@register_rule("gap", "reason")
def retrain_on_concept_drift(facts: RetrainingEvidence) -> str:
    """The labels stay below what the probabilities promise: what the model learnt has changed."""
    return facts.get_failure_sentence("gap") if facts.config.retrain.on_concept_drift else ""


@register_rule("age", "reason")
def retrain_on_age(facts: RetrainingEvidence) -> str:
    """The model is older than the project lets it become."""
    limit, age = facts.config.retrain.max_age, facts.model_age
    return (
        f"The model is {age.days} days old, over the {format_duration(limit)} allowed."
        if limit is not None and age is not None and age > limit
        else ""
    )


@register_rule("labels", "guard")
def wait_for_labels(facts: RetrainingEvidence) -> str:
    """Too few new labels to learn from."""
    have, need = facts.labeled_rows, facts.config.retrain.min_labels
    return f"Only {have:,} new labelled rows; {need:,} are needed." if have < need else ""


@register_rule("pending", "guard")
def wait_for_pending_version(facts: RetrainingEvidence) -> str:
    """A new version that waits for an approval comes first."""
    return facts.pending_reason


@register_rule("cooldown", "guard")
def wait_for_cooldown(facts: RetrainingEvidence) -> str:
    """The last retraining has not had the time to show what it is worth."""
    last, least = facts.time_since_last, facts.config.retrain.cooldown
    return (
        f"The last retraining is {last / timedelta(days=1):g} days ago, under the {format_duration(least)} asked for."
        if last is not None and last < least
        else ""
    )


def decide_retraining(
    drift: Table,
    realised: Table,
    alerts: Verdicts,
    config: root.ProjectConfig,
    rows_labelled: int,
    model_age: timedelta | None,
    since_last: timedelta | None = None,
    pending: str = "",
) -> dict[str, Any]:
    """Whether to retrain, and why.

    Parameters
    ----------
    since_last : timedelta or None
        How long ago the last retraining was; None if there was none.
    pending : str
        What a retraining would have to wait for, in words; empty if nothing.

    Returns
    -------
    dict
        ``retrain`` (bool), ``action`` ("retrain", "stop", "wait", "keep"), ``reason`` (a sentence),
        ``evidence`` (a dict a rule: rule, role, applies, said) and ``command`` to act on it.
    """
    facts = RetrainingEvidence(
        drift, realised, alerts, config, rows_labelled, model_age, since_last, pending
    )
    said = [
        {"rule": name, "role": role, "said": (told := function(facts)), "applies": bool(told)}
        for name, (role, function) in RETRAINING_RULES.items()
    ]
    stop, reason, guard = (
        next((str(s["said"]) for s in said if s["role"] == role and s["said"]), "")
        for role in ("stop", "reason", "guard")
    )
    action = "stop" if stop else "keep" if not reason else "wait" if guard else "retrain"
    words = {
        "stop": f"No, and stop: {stop}",
        "keep": f"No: {_explain_no_retraining(facts)}",
        "wait": f"Not yet: {reason} {guard}",
        "retrain": f"Yes: {reason}",
    }
    command = f"mlops run --as-of {config.until.isoformat()}" if config.until else "mlops run"
    return {
        "retrain": action == "retrain",
        "action": action,
        "reason": words[action],
        "evidence": said,
        "command": command if action == "retrain" else "",
    }


def _explain_no_retraining(facts: RetrainingEvidence) -> str:
    """Why there is nothing to do: what the labels say, or that there are none."""
    found = facts.find_verdict("realised")
    if found is None or found.outcome == "not applicable":
        return "nothing was scored since the model was made."
    if found.outcome == "cannot tell":
        return f"no proof of a fall. {found.sentence}"
    if found.outcome == "failed":
        return f"{found.sentence} retrain.on_performance_drop is off."
    drift = facts.get_failure_sentence("drift")
    return found.sentence + (f" Drift alone is no reason: {drift}" if drift else "")


def count_labeled_rows(realised: Table) -> int:
    """How many scored rows have their label."""
    return int(realised.data["rows"].max()) if len(realised.data) else 0


def list_rule_results(decision: dict[str, Any]) -> Table:
    """The decision as a table: what every rule said."""
    rows = [
        (e["rule"], e["role"], "applies" if e["applies"] else "does not apply", e["said"])
        for e in decision["evidence"]
    ]
    return Table(
        "Is a new model worth making?",
        decision["reason"],
        pd.DataFrame(rows, columns=["rule", "role", "state", "because"]),
    )


def describe_policy(config: root.ProjectConfig) -> Table:
    """The project's own policy: each setting, its value and its meaning."""
    rows = [
        (
            f"retrain.{n}",
            str(explain.format_setting_value(getattr(config.retrain, n))),
            i.description or "",
        )
        for n, i in type(config.retrain).model_fields.items()
    ]
    ways = [
        w
        for w, on in (
            ("a proven fall", config.retrain.on_performance_drop),
            ("labels below the estimate", config.retrain.on_concept_drift),
            ("drift alone", config.retrain.on_drift),
            ("age", config.retrain.max_age is not None),
        )
        if on
    ]
    sentence = f"Reasons for a new model here: {', '.join(ways) or 'none'}; at least {config.retrain.min_labels:,} new labels."
    return Table(
        "The policy", sentence, pd.DataFrame(rows, columns=["setting", "value", "meaning"])
    )


def make_retraining_verdict(decision: dict[str, Any]) -> Verdict:
    """The decision as a verdict; a stop would block a retrain, had this stage started one."""
    outcomes: dict[str, CheckOutcome] = {
        "keep": CheckOutcome.PASSED,
        "retrain": CheckOutcome.FAILED,
        "wait": CheckOutcome.CANNOT_TELL,
        "stop": CheckOutcome.FAILED,
    }
    cures = {
        "retrain": decision["command"],
        "wait": "wait for labels; the next run decides again",
        "stop": "mend the data first",
    }
    action = decision["action"]
    return Verdict(
        "retrain",
        "The model may stay",
        outcomes[action],
        CheckSeverity.BLOCKS if action == "stop" else CheckSeverity.WARNS,
        decision["reason"],
        hint=cures.get(action, ""),
    )
