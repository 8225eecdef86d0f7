"""Each check with all it can say; the contract over the registries."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.results import OUTCOME_MARKS, Interval, Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import (
    CHAMPION_CHECKS,
    REVIEW_CHECKS,
    RefitAgreement,
    ReviewEvidence,
    run_checks,
)
from mlops_kit.stages.review.checks import compare_interval_to_limit

Found = Callable[..., ReviewEvidence]


def sliced(*words: str) -> Table:
    rows = [
        {
            "slice": f"origin = {i}",
            "column": "origin",
            "group": str(i),
            "rows": 500,
            "value": 0.6,
            "gap": -0.1 * (i + 1),
            "word": w,
        }
        for i, w in enumerate(words)
    ]
    return Table("", "", pd.DataFrame(rows))


@pytest.mark.parametrize("name", [*REVIEW_CHECKS, *CHAMPION_CHECKS])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_every_check_names_itself_and_says_why(found: Found, name: str, task: str) -> None:
    check = REVIEW_CHECKS[name] if name in REVIEW_CHECKS else CHAMPION_CHECKS[name]
    empty = found(
        task,
        rows=0,
        classes={},
        metrics={("roc_auc" if task == "binary" else "r2"): Interval(None)},
        gains={},
        agreement=RefitAgreement(math.nan, math.nan),
        comparison=Interval(None),
    )
    for evidence in (found(task), empty):
        verdict = check(evidence)
        assert (verdict.check, verdict.title, verdict.severity) == (
            name,
            check.title,
            check.severity,
        )
        assert verdict.outcome in OUTCOME_MARKS
        assert verdict.sentence.endswith(".")
        assert verdict.outcome != "failed" or verdict.hint
        assert verdict.outcome != "passed" or not verdict.hint


def test_what_blocks_and_what_warns() -> None:
    blocking = {
        n for n, c in {**REVIEW_CHECKS, **CHAMPION_CHECKS}.items() if c.severity == "blocks"
    }
    assert blocking == {"min_gain_over_baseline", "least", "refit_agrees", "no_worse_than_champion"}


def test_no_evidence_is_never_a_pass_of_what_blocks(found: Found) -> None:
    empty = found(
        rows=0,
        classes={},
        metrics={"roc_auc": Interval(None)},
        gains={},
        agreement=RefitAgreement(math.nan, math.nan),
        comparison=Interval(None),
        review={"min_metric": 0.5},
    )
    outcomes = {
        v.check: v.outcome
        for v in [*run_checks(empty), *run_checks(empty, CHAMPION_CHECKS)]
        if v.severity == "blocks"
    }
    assert outcomes == dict.fromkeys(outcomes, "cannot tell")


def test_a_fine_model_passes_and_nothing_blocks(found: Found) -> None:
    verdicts = run_checks(found(slices=sliced("fine", "fine"), review={"min_metric": 0.75}))
    assert {v.outcome for v in verdicts} == {"passed"}
    assert not verdicts.is_blocked


def test_the_champions_check_stands_apart() -> None:
    assert list(CHAMPION_CHECKS) == ["no_worse_than_champion"]
    assert not set(CHAMPION_CHECKS) & set(REVIEW_CHECKS)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        ((0.01, 0.03), "passed"),
        ((-0.03, -0.01), "failed"),
        ((-0.01, 0.01), "cannot tell"),
        ((0.0, 0.0), "cannot tell"),
        ((None, None), "cannot tell"),
    ],
)
def test_a_verdict_is_read_off_the_interval(ends: tuple[Any, Any], outcome: str) -> None:
    assert compare_interval_to_limit(Interval(0.0, *ends), 0.0) == outcome


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("enough_rows", {"rows": 199}, "failed"),
    ("enough_rows", {"rows": 200}, "passed"),
    ("both_classes_seen", {"classes": {"0": 500}}, "failed"),
    ("both_classes_seen", {"classes": {"0": 500, "1": 3}}, "cannot tell"),
    ("both_classes_seen", {"task": "regression"}, "not applicable"),
    (
        "min_gain_over_baseline",
        {"gains": {"baseline_linear": Interval(-0.02, -0.03, -0.01)}},
        "failed",
    ),
    (
        "min_gain_over_baseline",
        {
            "gains": {
                "baseline_linear": Interval(0.0, -0.01, 0.01),
                "baseline_constant": Interval(0.2, 0.1, 0.3),
            }
        },
        "cannot tell",
    ),
    (
        "min_gain_over_baseline",
        {
            "gains": {
                "baseline_linear": Interval(0.1, None, None),
                "baseline_constant": Interval(0.0, None, None),
            }
        },
        "failed",
    ),
    ("min_gain_over_baseline", {"review": {"min_gain_over_baseline": 0.05}}, "failed"),
    ("least", {}, "not applicable"),
    ("least", {"review": {"min_metric": 0.77}}, "passed"),
    ("least", {"review": {"min_metric": 0.775}}, "cannot tell"),
    ("least", {"review": {"min_metric": 0.785}}, "failed"),
    (
        "least",
        {
            "review": {"min_metric": 0.8, "metric": "log_loss"},
            "metrics": {"log_loss": Interval(0.5, 0.4, 0.6)},
        },
        "passed",
    ),
    (
        "least",
        {
            "review": {"min_metric": 0.3, "metric": "log_loss"},
            "metrics": {"log_loss": Interval(0.5, 0.4, 0.6)},
        },
        "failed",
    ),
    ("calibration", {"metrics": {"calibration_error": Interval(0.05, 0.04, 0.06)}}, "passed"),
    ("calibration", {"metrics": {"calibration_error": Interval(0.06, 0.04, 0.07)}}, "cannot tell"),
    ("calibration", {"metrics": {"calibration_error": Interval(0.08, 0.06, 0.09)}}, "failed"),
    ("calibration", {"review": {"max_calibration_error": None}}, "not applicable"),
    ("no_slice_far_below", {}, "not applicable"),
    ("no_slice_far_below", {"slices": sliced("fine", "far below")}, "failed"),
    ("no_slice_far_below", {"slices": sliced("fine", "cannot tell")}, "passed"),
    ("no_slice_far_below", {"slices": sliced("cannot tell")}, "cannot tell"),
    (
        "no_slice_far_below",
        {"slices": sliced("far below"), "review": {"max_slice_gap": None}},
        "not applicable",
    ),
    ("refit_agrees", {"agreement": RefitAgreement(0.89, 0.0)}, "failed"),
    ("refit_agrees", {"agreement": RefitAgreement(0.99, -0.06)}, "failed"),
    ("refit_agrees", {"agreement": None}, "not applicable"),
    (
        "refit_agrees",
        {
            "agreement": RefitAgreement(0.5, 0.9),
            "review": {"min_refit_rank_correlation": None, "max_refit_shift": None},
        },
        "not applicable",
    ),
    (
        "refit_agrees",
        {"agreement": RefitAgreement(0.5, 0.01), "review": {"min_refit_rank_correlation": None}},
        "passed",
    ),
    ("no_worse_than_champion", {}, "not applicable"),
    ("no_worse_than_champion", {}, "not applicable"),
    (
        "no_worse_than_champion",
        {"champion": "Version 1 has learnt from some of these rows."},
        "cannot tell",
    ),
    ("no_worse_than_champion", {"comparison": Interval(0.0, 0.0, 0.0)}, "passed"),
    ("no_worse_than_champion", {"comparison": Interval(0.0, -0.004, 0.004)}, "passed"),
    ("no_worse_than_champion", {"comparison": Interval(0.0, -0.02, 0.02)}, "cannot tell"),
    ("no_worse_than_champion", {"comparison": Interval(-0.01, -0.018, -0.002)}, "failed"),
    ("no_worse_than_champion", {"comparison": Interval(-0.02, -0.03, -0.01)}, "failed"),
]


@pytest.mark.parametrize(("name", "values", "outcome"), CASES)
def test_a_check_says(found: Found, name: str, values: dict[str, Any], outcome: str) -> None:
    check = REVIEW_CHECKS[name] if name in REVIEW_CHECKS else CHAMPION_CHECKS[name]
    assert check(found(**values)).outcome == outcome


def test_each_check_is_tried() -> None:
    assert {n for n, _, _ in CASES} == {*REVIEW_CHECKS, *CHAMPION_CHECKS}


def test_the_sentence_names_value_limit_and_slice(found: Found) -> None:
    assert (
        REVIEW_CHECKS["least"](found(review={"min_metric": 0.8})).sentence
        == "ROC-AUC 0.780 [0.770, 0.790] misses the limit of 0.800."
    )
    assert (
        "origin = 1: ROC-AUC 0.600 on 500 rows"
        in REVIEW_CHECKS["no_slice_far_below"](
            found(slices=sliced("far below", "far below"))
        ).sentence
    )
    assert "from a sample of 5,000" in REVIEW_CHECKS["enough_rows"](found(sample=5000)).sentence


def test_a_config_without_refit_asks_nothing_of_it(
    config: Callable[..., ProjectConfig], found: Found
) -> None:
    assert (
        REVIEW_CHECKS["refit_agrees"](found(train={"refit": False}, agreement=None)).outcome
        == "not applicable"
    )
