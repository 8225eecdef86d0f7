"""The retraining policy: stops before reasons, reasons before guards, each with its sentence."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict, Verdicts
from mlops_kit.project.config.model import CostConfig
from mlops_kit.project.config.monitoring import RETRAINING_REASON_NAMES
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.retrain import policy
from mlops_kit.stages.retrain.blocked_retraining import describe_blocked_retraining
from mlops_kit.stages.retrain.policy import (
    RetrainingDecision,
    RetrainingEvidence,
)
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK

DRIFT_COLUMNS = ["column", "status", "missing_reference", "missing_current"]
NO_DRIFT = Table("Drift", "", pd.DataFrame([("a", "no drift", 0.0, 0.0)], columns=DRIFT_COLUMNS))
MISSING_VALUES = Table("Drift", "", pd.DataFrame([("a", "alert", 0.0, 0.4)], columns=DRIFT_COLUMNS))
REALIZED = Table(
    "Realized", "", pd.DataFrame({"metric": ["roc_auc", "log_loss"], "rows": [900, 900]})
)


def make_verdict(check: str, outcome: CheckOutcome, severity: CheckSeverity, text: str) -> Verdict:
    return Verdict(check, "title", outcome, severity, text)


BROKEN_SCHEMA = make_verdict(
    "schema", CheckOutcome.FAILED, CheckSeverity.BLOCKS, "A column is gone."
)
DROP = make_verdict(
    REALIZED_PERFORMANCE_CHECK, CheckOutcome.FAILED, CheckSeverity.BLOCKS, "ROC-AUC fell."
)
NO_DROP = make_verdict(
    REALIZED_PERFORMANCE_CHECK, CheckOutcome.PASSED, CheckSeverity.BLOCKS, "ROC-AUC holds."
)
DRIFT = make_verdict("drift", CheckOutcome.FAILED, CheckSeverity.WARNS, "Two features drifted.")


def make_config(**retrain: Any) -> ProjectConfig:
    return ProjectConfig(
        name="t",
        source="x.csv",
        target="y",
        task="binary",
        time="t",
        until="2024-02-01",
        retrain=retrain,
    )


def make_evidence(*verdicts: Verdict, retrain: dict[str, Any], **values: Any) -> RetrainingEvidence:
    defaults = {
        "drift": NO_DRIFT,
        "realized": REALIZED,
        "alerts": Verdicts.from_verdicts(verdicts),
        "config": make_config(**retrain),
        "labeled_rows": 900,
        "model_age": None,
    }
    return RetrainingEvidence(**{**defaults, **values})


def decide(
    *verdicts: Verdict,
    drift: Table = NO_DRIFT,
    labels: int = 900,
    age: timedelta | None = None,
    **retrain: Any,
) -> RetrainingDecision:
    """Decide on these verdicts."""
    evidence = make_evidence(
        *verdicts, retrain=retrain, drift=drift, labeled_rows=labels, model_age=age
    )
    return policy.decide_retraining(evidence)


def test_proven_performance_drop_is_a_reason() -> None:
    decision = decide(DROP)
    assert decision.should_retrain is True
    assert decision.reason == "Yes: ROC-AUC fell."
    assert decision.command == "mlops run --as-of 2024-02-01T00:00:00"


def test_drift_alone_is_no_reason_unless_configured() -> None:
    decision = decide(NO_DROP, DRIFT)
    assert (decision.should_retrain, decision.action, decision.command) == (False, "keep", "")
    assert decision.reason == (
        "No: ROC-AUC holds. Drift alone is not a reason to retrain: Two features drifted."
    )
    assert decide(NO_DROP, DRIFT, on_drift=True).should_retrain is True


def test_too_few_labels_wait() -> None:
    decision = decide(DROP, labels=20)
    assert (decision.should_retrain, decision.action) == (False, "wait")
    assert decision.reason == (
        "Not yet: ROC-AUC fell. Only 20 rows were labeled since the model's cut-off; "
        "500 are needed. The setting is retrain.min_labels."
    )
    assert decide(DROP, labels=500).should_retrain is True


@pytest.mark.parametrize(
    ("verdicts", "drift", "reason"),
    [
        ((BROKEN_SCHEMA, DROP), NO_DRIFT, "A column is gone."),
        ((DROP,), MISSING_VALUES, "Values of a went missing"),
    ],
)
def test_broken_rows_stop_the_retraining(
    verdicts: tuple[Verdict, ...], drift: Table, reason: str
) -> None:
    decision = decide(*verdicts, drift=drift)
    assert (decision.should_retrain, decision.action) == (False, "stop")
    assert reason in decision.reason


def test_age_counts_only_where_it_is_limited() -> None:
    forty_days = timedelta(days=40)
    assert decide(NO_DROP, age=forty_days).should_retrain is False
    assert (
        decide(NO_DROP, age=forty_days, max_age="30d").reason
        == "Yes: The model is 40 days old; the limit is 30d."
    )
    assert decide(NO_DROP, age=timedelta(days=30), max_age="30d").should_retrain is False
    assert decide(NO_DROP, age=None, max_age="30d").should_retrain is False


def test_performance_drop_is_ignored_where_configured() -> None:
    decision = decide(DROP, on_performance_drop=False)
    assert decision.reason == "No: ROC-AUC fell. retrain.on_performance_drop is off."


def test_concept_drift_is_a_reason() -> None:
    concept_drift = make_verdict(
        "gap", CheckOutcome.FAILED, CheckSeverity.WARNS, "Below for 2 windows in a row."
    )
    assert decide(NO_DROP, concept_drift).reason == "Yes: Below for 2 windows in a row."
    assert decide(NO_DROP, concept_drift, on_concept_drift=False).should_retrain is False


@pytest.mark.parametrize(
    ("days_since_last", "pending_reason", "action"),
    [
        (None, "", "retrain"),
        (13, "", "wait"),
        (14, "", "retrain"),
        (None, "The new version of r1 waits for an approval.", "wait"),
    ],
)
def test_second_retraining_waits_for_the_first_and_for_the_cooldown(
    days_since_last: int | None, pending_reason: str, action: str
) -> None:
    evidence = make_evidence(
        DROP,
        retrain={"cooldown": "14d"},
        time_since_last=timedelta(days=days_since_last) if days_since_last else None,
        pending_reason=pending_reason,
    )
    decision = policy.decide_retraining(evidence)
    assert decision.action == action
    growing = policy.decide_retraining(evidence._replace(is_drop_growing=True))
    assert growing.action == ("wait" if pending_reason else "retrain")
    if days_since_last == 13:
        sentence = "The last retraining was 13 days ago; the cooldown is 14d."
        assert sentence in decision.reason


def test_reason_says_that_scores_or_labels_are_missing() -> None:
    no_scores = make_verdict(
        REALIZED_PERFORMANCE_CHECK,
        CheckOutcome.NOT_APPLICABLE,
        CheckSeverity.BLOCKS,
        "Not applicable.",
    )
    no_labels = make_verdict(
        REALIZED_PERFORMANCE_CHECK,
        CheckOutcome.CANNOT_TELL,
        CheckSeverity.BLOCKS,
        "There is no label.",
    )
    assert decide(no_scores).reason == "No: no rows were scored since the model was made."
    assert decide(no_labels).reason == "No: a performance drop is not proven. There is no label."


def test_decision_contains_every_rule_after_it_was_stored() -> None:
    decision = decide(DROP)
    assert [r.rule for r in decision.rule_results] == list(policy.RETRAINING_RULES)
    assert {r.rule for r in decision.rule_results if r.applies} == {"performance_drop"}
    stored = json.loads(json.dumps(decision.to_json_dict()))
    assert RetrainingDecision.from_json_dict(stored) == decision
    assert policy.list_rule_results(decision).sentence == decision.reason


def test_decision_of_schema_version_1_can_be_read() -> None:
    stored = {
        "retrain": False,
        "action": "wait",
        "reason": "Not yet: ROC-AUC fell. Only 20 new labelled rows; 500 are needed.",
        "evidence": [
            {"rule": "schema", "role": "stop", "said": "", "applies": False},
            {"rule": "fall", "role": "reason", "said": "ROC-AUC fell.", "applies": True},
        ],
        "command": "",
    }
    decision = RetrainingDecision.from_json_dict(stored)
    assert (decision.action, decision.reason) == ("wait", stored["reason"])
    assert [(r.rule, r.role, r.sentence, r.applies) for r in decision.rule_results] == [
        ("schema", "stop", "", False),
        ("performance_drop", "reason", "ROC-AUC fell.", True),
    ]


@pytest.mark.parametrize(
    ("verdicts", "labels", "outcome", "is_blocking"),
    [
        ((NO_DROP,), 900, "passed", False),
        ((DROP,), 900, "failed", False),
        ((DROP,), 0, "cannot tell", False),
        ((BROKEN_SCHEMA,), 900, "failed", True),
    ],
)
def test_decision_as_a_verdict(
    verdicts: tuple[Verdict, ...], labels: int, outcome: str, is_blocking: bool
) -> None:
    verdict = policy.make_retraining_verdict(decide(*verdicts, labels=labels))
    assert (verdict.outcome, verdict.is_blocking) == (outcome, is_blocking)


def test_labeled_rows_are_counted_once() -> None:
    assert policy.count_labeled_rows(REALIZED) == 900
    no_rows = Table("Realized", "", pd.DataFrame(columns=["metric", "rows"]))
    assert policy.count_labeled_rows(no_rows) == 0


def test_policy_lists_every_setting() -> None:
    table = policy.describe_policy(make_config(max_age="30d"))
    assert "retrain.max_age" in set(table.data["setting"])
    assert "30d" in set(table.data["value"])
    assert table.sentence == (
        "Reasons to retrain: a proven performance drop, concept drift, confirmed drift, an "
        "incomplete recovery, age; at least 500 rows labeled since the model's cut-off are needed."
    )


COSTLY_DRIFT = Table(
    "Drift",
    "",
    pd.DataFrame([("a", "alert", 0.0, 0.0, 0.02)], columns=[*DRIFT_COLUMNS, "cost"]),
)


@pytest.mark.parametrize(
    ("when", "verdicts", "action"),
    [
        ({"any": ["drift", "performance_drop"]}, (NO_DROP, DRIFT), "retrain"),
        ({"any": ["drift"]}, (DROP,), "keep"),  # a reason that is not named does not count
        ({"all": ["drift", "performance_drop"]}, (DROP,), "keep"),
        ({"all": ["drift", "performance_drop"]}, (DROP, DRIFT), "retrain"),
        ({"at_least": 2, "of": ["drift", "performance_drop", "age"]}, (DROP, DRIFT), "retrain"),
        ({"at_least": 3, "of": ["drift", "performance_drop", "age"]}, (DROP, DRIFT), "keep"),
    ],
)
def test_reasons_combine_as_configured(
    when: dict[str, Any], verdicts: tuple[Verdict, ...], action: str
) -> None:
    assert decide(*verdicts, when=when).action == action


def test_missing_reason_is_named() -> None:
    decision = decide(DROP, when={"all": ["drift", "performance_drop"]})
    assert decision.reason == (
        "No: 1 of 2 required reasons applies (drift, performance_drop): ROC-AUC fell."
    )
    names = ["drift", "performance_drop", "age"]
    decision = decide(DROP, DRIFT, when={"at_least": 3, "of": names})
    assert decision.reason.startswith("No: 2 of 3 required reasons apply (")


def test_retrain_when_may_name_each_reason_of_this_package() -> None:
    reasons = []
    for name, rule in policy.RETRAINING_RULES.items():
        if rule.role == policy.RuleRole.REASON:
            reasons.append(name)
    assert sorted(reasons) == sorted(RETRAINING_REASON_NAMES)


def test_drop_that_retrain_when_does_not_name_is_explained() -> None:
    decision = decide(DROP, when={"any": ["drift"]})
    assert decision.reason == (
        "No: ROC-AUC fell. retrain.when does not name performance_drop as a reason."
    )


def test_reason_of_a_plugin_counts_unless_other_reasons_are_named() -> None:
    @policy.register_retraining_rule("always", policy.RuleRole.REASON)
    def retrain_always(evidence: RetrainingEvidence) -> str:
        return "Always."

    try:
        assert decide(NO_DROP).reason == "Yes: Always."
        assert decide(NO_DROP, when={"any": ["drift"]}).action == "keep"
        assert decide(NO_DROP, when={"any": ["performance_drop"]}).action == "keep"
    finally:
        del policy.RETRAINING_RULES["always"]


@pytest.mark.parametrize(
    ("drift", "settings", "reason"),
    [
        (COSTLY_DRIFT, {"max_drift_cost": 0.01}, "The drift of a costs about 0.020 of ROC-AUC"),
        (NO_DRIFT, {"max_new_labels": 900}, "900 rows were labeled since the model's cut-off."),
    ],
)
def test_costly_drift_and_data_volume_are_reasons_where_they_are_limited(
    drift: Table, settings: dict[str, Any], reason: str
) -> None:
    assert decide(NO_DROP, drift=drift).action == "keep"
    decision = decide(NO_DROP, drift=drift, **settings)
    assert decision.action == "retrain"
    assert reason in decision.reason


def test_confirmed_drift_is_a_reason_by_itself_unless_switched_off() -> None:
    confirmed = make_verdict(
        "confirmed_drift", CheckOutcome.FAILED, CheckSeverity.WARNS, "a drifted, at a cost."
    )
    evidence = make_evidence(NO_DROP, confirmed, retrain={}, is_drop_confirmed=False)
    assert policy.decide_retraining(evidence).reason == "Yes: a drifted, at a cost."
    assert decide(NO_DROP, confirmed, on_confirmed_drift=False).action == "keep"
    assert decide(NO_DROP, confirmed, when={"any": ["age"]}).action == "keep"
    assert decide(NO_DROP, confirmed, when={"any": ["confirmed_drift"]}).action == "retrain"


def test_drop_in_one_window_alone_is_not_proven() -> None:
    evidence = make_evidence(DROP, retrain={}, is_drop_confirmed=False)
    decision = policy.decide_retraining(evidence)
    assert decision.action == "keep"
    assert "One window alone is not a proof" in decision.reason


def test_concept_drift_without_a_drop_of_the_losses_is_not_a_reason() -> None:
    concept_drift = make_verdict(
        "gap", CheckOutcome.FAILED, CheckSeverity.WARNS, "Below for 2 windows in a row."
    )
    evidence = make_evidence(NO_DROP, concept_drift, retrain={}, is_drop_confirmed=False)
    assert policy.decide_retraining(evidence).reason == "No: ROC-AUC holds."


@pytest.mark.parametrize(
    ("values", "settings", "guard"),
    [
        (
            {"rejected_share": 0.2},
            {},
            "rejects 20% of the newest rows; the limit is 5%. The setting is "
            "contract.max_quarantined_share.",
        ),
        (
            {"recent_retrainings": 3},
            {"max_retrainings": 3},
            "the budget is 3. The setting is retrain.max_retrainings.",
        ),
        (
            {"superseded_reason": "A later window decides."},
            {},
            "A later window decides. No setting changes that.",
        ),
        (
            {"fault_reason": "Most days of the window have faults."},
            {},
            "Most days of the window have faults. The setting is retrain.quarantine.",
        ),
        (
            {"change_reason": "150 rows are too few."},
            {},
            "150 rows are too few. No setting changes that.",
        ),
    ],
)
def test_guard_waits_and_names_its_setting(
    values: dict[str, Any], settings: dict[str, Any], guard: str
) -> None:
    decision = policy.decide_retraining(make_evidence(DROP, retrain=settings, **values))
    assert decision.action == "wait"
    assert decision.reason.endswith(guard)


@pytest.mark.parametrize(
    ("retrain", "words"),
    [
        (
            {"when": {"all": ["performance_drop", "age"]}},
            "No: 1 of 2 required reasons applies (performance_drop, age): ROC-AUC fell. "
            "retrain.when names age, which never applies without retrain.max_age. So nothing but "
            "a request of a person leads to a retraining.",
        ),
        (
            {"when": {"any": ["drift_cost", "data_volume"]}},
            "retrain.when names drift_cost and data_volume, which never apply without "
            "retrain.max_drift_cost and retrain.max_new_labels. So nothing but a request of a "
            "person leads to a retraining.",
        ),
        (
            {"when": {"any": ["drift", "age"]}},
            "retrain.when names age, which never applies without retrain.max_age.",
        ),
    ],
)
def test_reasons_that_never_apply_are_named(retrain: dict[str, Any], words: str) -> None:
    decision = decide(DROP, **retrain)
    assert decision.action == "keep"
    assert decision.reason.endswith(words)
    assert (
        words.split(": ROC-AUC fell. ")[-1]
        in policy.describe_policy(make_config(**retrain)).sentence
    )
    limits = {"max_age": "30d", "max_drift_cost": 0.01, "max_new_labels": 10_000}
    assert "never" not in decide(DROP, **retrain, **limits).reason


def test_expected_gain_stands_beside_the_cost_of_a_retraining() -> None:
    realized = Table(
        "Realized",
        "",
        pd.DataFrame([{"metric": "roc_auc", "value": 0.7, "reference": 0.8, "rows": 900}]),
    )
    values = {"realized": realized, "decisions_per_day": 200.0}
    evidence = make_evidence(DROP, retrain={"value_per_decision": 0.5, "cost": 40}, **values)
    config = evidence.config.model_copy(update={"cost": CostConfig(unit="$")})
    assert policy.decide_retraining(evidence._replace(config=config)).reason == (
        "Yes: ROC-AUC fell. Expected gain: 0.100 of ROC-AUC, about $10.00 per day; "
        "a retraining costs $40.00 and pays back after 4 days."
    )
    plain = make_evidence(DROP, retrain={}, **values)
    assert policy.decide_retraining(plain).reason == "Yes: ROC-AUC fell."


def test_guard_that_blocks_three_windows_names_its_setting() -> None:
    blocked = decide(DROP, labels=20)
    free = decide(DROP)
    assert describe_blocked_retraining([blocked, blocked]) == ""
    assert describe_blocked_retraining([blocked, free, blocked]) == ""
    sentence = describe_blocked_retraining([blocked, blocked, blocked])
    assert sentence.endswith(
        "The guard 'labels' blocks for 3 windows in a row: look at retrain.min_labels in "
        "mlops.yaml."
    )
    few_rows = policy.decide_retraining(
        make_evidence(DROP, retrain={}, change_reason="150 rows are too few.")
    )
    assert describe_blocked_retraining([few_rows, few_rows, few_rows]).endswith(
        "The guard 'change' blocks for 3 windows in a row: no setting changes that."
    )
    other = policy.decide_retraining(
        make_evidence(DROP, retrain={"cooldown": "14d"}, time_since_last=timedelta(days=1))
    )
    assert describe_blocked_retraining([blocked, other, blocked]) == ""
