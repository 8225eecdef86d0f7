"""What opens an incident, and what does not: drift alone never."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mlops_kit.core.results import Interval, Table, Verdict
from mlops_kit.project.config import root
from mlops_kit.stages.monitor import incidents

CONFIG = root.ProjectConfig(name="t", source="t.csv", target="y", task="binary")


def looked(
    word: str, cost: float | None, column: str = "wind", estimated: float | None = 0.78
) -> dict[str, Any]:
    """What was said of a window in which one column stands out."""
    return {
        "drift": Table(
            "Drift", "It is.", pd.DataFrame([{"column": column, "word": word, "cost": cost}])
        ),
        "estimated": Interval(estimated),
    }


def causes(*looks: dict[str, Any], promise: float | None = 0.78) -> list[incidents.IncidentSignal]:
    return incidents.detect_costly_drift(list(looks), promise, CONFIG)


def test_a_drift_that_lasts_and_costs_is_told_with_its_cost() -> None:
    (found,) = causes(looked("alert", 0.02), looked("alert", 0.02))
    assert (found.name, found.severity) == ("drift", "watch")
    assert found.title == "wind is unlike what the model was judged on"
    assert "costs about 0.020 of ROC-AUC" in found.sentence


def test_a_drift_of_one_window_a_cheap_one_one_of_unknown_cost_and_one_that_is_over_are_not() -> (
    None
):
    assert causes(looked("no drift", None), looked("alert", 0.02)) == []
    assert causes(looked("alert", 0.001), looked("alert", 0.001)) == []
    assert causes(looked("alert", None), looked("alert", None)) == []
    assert causes(looked("alert", 0.02), looked("alert", 0.02), looked("no drift", None)) == []
    assert causes() == []
    assert causes(looked("alert", 0.02, "score"), looked("alert", 0.02, "score")) == []


def test_two_of_three_windows_are_enough_and_four_ago_is_forgotten() -> None:
    assert causes(looked("alert", 0.02), looked("no drift", None), looked("alert", 0.02))
    assert (
        causes(
            looked("alert", 0.02),
            looked("no drift", None),
            looked("no drift", None),
            looked("alert", 0.02),
        )
        == []
    )


def test_it_is_bad_only_if_the_estimate_falls_too() -> None:
    assert causes(looked("alert", 0.1), looked("alert", 0.1))[0].severity == "watch"
    assert causes(looked("alert", 0.1), looked("alert", 0.1, estimated=0.74))[0].severity == "act"
    assert (
        causes(looked("alert", 0.1), looked("alert", 0.1, estimated=0.74), promise=None)[0].severity
        == "watch"
    )


def test_several_columns_are_one_cause_that_names_the_dearest() -> None:
    both = {
        "drift": Table(
            "Drift",
            "It is.",
            pd.DataFrame(
                [{"column": c, "word": "alert", "cost": v} for c, v in (("a", 0.01), ("b", 0.03))]
            ),
        ),
        "estimated": Interval(None),
    }
    (found,) = causes(both, both)
    assert found.title == "b and a are unlike what the model was judged on"
    assert found.sentence.index("b costs") < found.sentence.index("a costs")


def test_what_labels_prove_is_told_at_once() -> None:
    said = [
        Verdict("realised", "t", "failed", "blocks", "It fell."),
        Verdict("gap", "t", "passed", "warns", "Fine."),
        Verdict("drift", "t", "failed", "warns", "Moved."),
        Verdict("schema", "t", "failed", "blocks", "Gone."),
    ]
    assert [(c.name, c.severity, c.sentence) for c in incidents.detect_proven_failures(said)] == [
        ("realised", "act", "It fell."),
        ("schema", "act", "Gone."),
    ]
