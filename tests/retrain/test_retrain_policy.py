"""The policy: stops before reasons, reasons before guards, and a reason in words each time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.results import Table, Verdict, Verdicts
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.retrain import policy

COLUMNS = ["column", "word", "missing_reference", "missing_current"]
CALM = Table("Drift", "", pd.DataFrame([("a", "no drift", 0.0, 0.0)], columns=COLUMNS))
GONE = Table("Drift", "", pd.DataFrame([("a", "alert", 0.0, 0.4)], columns=COLUMNS))
REALISED = Table(
    "Realised", "", pd.DataFrame({"metric": ["roc_auc", "log_loss"], "rows": [900, 900]})
)
SCHEMA = Verdict("schema", "columns", "failed", "blocks", "A column is gone.")
FALL = Verdict("realised", "promise", "failed", "blocks", "ROC-AUC fell.")
DRIFT = Verdict("drift", "features", "failed", "warns", "Two features drifted.")
FINE = Verdict("realised", "promise", "passed", "blocks", "ROC-AUC holds.")


def decided(
    *verdicts: Verdict,
    drift: Table = CALM,
    labels: int = 900,
    age: timedelta | None = None,
    **retrain: Any,
) -> dict[str, Any]:
    """A decision on these verdicts."""
    config = ProjectConfig(
        name="t",
        source="x.csv",
        target="y",
        task="binary",
        time="t",
        until="2024-02-01",
        retrain=retrain,
    )
    return policy.decide_retraining(
        drift, REALISED, Verdicts.from_verdicts(verdicts), config, labels, age
    )


def test_a_proven_fall_is_a_reason() -> None:
    found = decided(FALL)
    assert found["retrain"] is True
    assert found["reason"] == "Yes: ROC-AUC fell."
    assert found["command"] == "mlops run --as-of 2024-02-01T00:00:00"


def test_drift_alone_is_no_reason_unless_the_project_says_so() -> None:
    found = decided(FINE, DRIFT)
    assert (found["retrain"], found["action"], found["command"]) == (False, "keep", "")
    assert found["reason"] == "No: ROC-AUC holds. Drift alone is no reason: Two features drifted."
    assert decided(FINE, DRIFT, on_drift=True)["retrain"] is True


def test_too_few_labels_wait() -> None:
    found = decided(FALL, labels=20)
    assert (found["retrain"], found["action"]) == (False, "wait")
    assert found["reason"] == "Not yet: ROC-AUC fell. Only 20 new labelled rows; 500 are needed."
    assert decided(FALL, labels=500)["retrain"] is True


@pytest.mark.parametrize(
    ("verdicts", "drift", "why"),
    [((SCHEMA, FALL), CALM, "A column is gone."), ((FALL,), GONE, "Values of a went missing")],
)
def test_broken_rows_stop_and_do_not_retrain(
    verdicts: tuple[Verdict, ...], drift: Table, why: str
) -> None:
    found = decided(*verdicts, drift=drift)
    assert (found["retrain"], found["action"]) == (False, "stop")
    assert why in found["reason"]


def test_age_counts_only_where_it_is_limited() -> None:
    old = timedelta(days=40)
    assert decided(FINE, age=old)["retrain"] is False
    assert (
        decided(FINE, age=old, after="30d")["reason"]
        == "Yes: The model is 40 days old, over the 30d allowed."
    )
    assert decided(FINE, age=timedelta(days=30), after="30d")["retrain"] is False
    assert decided(FINE, age=None, after="30d")["retrain"] is False


def test_a_fall_is_ignored_where_the_project_says_so() -> None:
    found = decided(FALL, on_performance_drop=False)
    assert found["reason"] == "No: ROC-AUC fell. retrain.on_performance_drop is off."


def test_labels_that_stay_below_the_estimate_are_a_reason() -> None:
    gap = Verdict("gap", "still holds", "failed", "warns", "Below for 2 windows in a row.")
    assert decided(FINE, gap)["reason"] == "Yes: Below for 2 windows in a row."
    assert decided(FINE, gap, on_concept_drift=False)["retrain"] is False


def test_a_second_retraining_waits_for_the_first_and_for_its_time() -> None:
    config = ProjectConfig(
        name="t", source="x.csv", target="y", task="binary", retrain={"cooldown": "14d"}
    )
    for days, pending, action in (
        (None, "", "retrain"),
        (13, "", "wait"),
        (14, "", "retrain"),
        (None, "The new version of r1 waits for a decision.", "wait"),
    ):
        found = policy.decide_retraining(
            CALM,
            REALISED,
            Verdicts.from_verdicts([FALL]),
            config,
            900,
            None,
            timedelta(days=days) if days else None,
            pending,
        )
        assert found["action"] == action, (days, pending)
    assert (
        "The last retraining is 13 days ago, under the 14d asked for."
        in policy.decide_retraining(
            CALM, REALISED, Verdicts.from_verdicts([FALL]), config, 900, None, timedelta(days=13)
        )["reason"]
    )


def test_without_scores_or_labels_the_reason_says_so() -> None:
    none = Verdict("realised", "promise", "not applicable", "blocks", "Not applicable.")
    unknown = Verdict("realised", "promise", "cannot tell", "blocks", "Cannot tell: no label.")
    assert decided(none)["reason"] == "No: nothing was scored since the model was made."
    assert decided(unknown)["reason"] == "No: no proof of a fall. Cannot tell: no label."


def test_every_rule_gives_evidence_even_after_the_file() -> None:
    found = decided(FALL)
    assert [e["rule"] for e in found["evidence"]] == list(policy.RETRAINING_RULES)
    assert {e["rule"] for e in found["evidence"] if e["applies"]} == {"fall"}
    assert from_json_value(to_json_value(found)) == found
    assert policy.list_rule_results(found).sentence == found["reason"]


@pytest.mark.parametrize(
    ("verdicts", "labels", "outcome", "blocks"),
    [
        ((FINE,), 900, "passed", False),
        ((FALL,), 900, "failed", False),
        ((FALL,), 0, "cannot tell", False),
        ((SCHEMA,), 900, "failed", True),
    ],
)
def test_the_gate_reads_like_the_others(
    verdicts: tuple[Verdict, ...], labels: int, outcome: str, blocks: bool
) -> None:
    found = policy.make_retraining_verdict(decided(*verdicts, labels=labels))
    assert (found.outcome, found.is_blocking) == (outcome, blocks)


def test_labelled_rows_are_counted_once() -> None:
    assert policy.count_labeled_rows(REALISED) == 900
    assert (
        policy.count_labeled_rows(Table("Realised", "", pd.DataFrame(columns=["metric", "rows"])))
        == 0
    )


def test_settings_name_every_setting() -> None:
    config = ProjectConfig(
        name="t", source="x.csv", target="y", task="binary", retrain={"max_age": "30d"}
    )
    table = policy.describe_policy(config)
    assert "retrain.max_age" in set(table.data["setting"])
    assert "30d" in set(table.data["value"])
    assert (
        table.sentence
        == "Reasons for a new model here: a proven fall, labels below the estimate, age; at least 500 new labels."
    )
