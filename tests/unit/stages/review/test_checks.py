"""The review checks: every outcome of each, and what holds for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.results import OUTCOME_MARKS, Interval, Table
from mlops_kit.stages.review import (
    CHAMPION_CHECKS,
    REVIEW_CHECKS,
    RefitAgreement,
    ReviewEvidence,
    run_checks,
)
from mlops_kit.stages.review.checks import compare_interval_to_limit
from mlops_kit.stages.review.evidence import CalibrationBins
from tests.support.review_fixtures import make_agreement

MakeEvidence = Callable[..., ReviewEvidence]


def make_slices(*statuses: str) -> Table:
    rows = [
        {
            "slice": f"origin = {i}",
            "column": "origin",
            "group": str(i),
            "rows": 500,
            "value": 0.6,
            "gap": -0.1 * (i + 1),
            "status": status,
        }
        for i, status in enumerate(statuses)
    ]
    return Table("", "", pd.DataFrame(rows))


@pytest.mark.parametrize("name", [*REVIEW_CHECKS, *CHAMPION_CHECKS])
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_every_check_has_name_sentence_and_hint(
    make_evidence: MakeEvidence, name: str, task: str
) -> None:
    check = REVIEW_CHECKS[name] if name in REVIEW_CHECKS else CHAMPION_CHECKS[name]
    empty = make_evidence(
        task,
        labeled_rows=0,
        rows_by_class={},
        metrics={("roc_auc" if task == "binary" else "r2"): Interval(None)},
        baseline_gains={},
        refit_agreement=RefitAgreement(math.nan, math.nan),
        champion_gain=Interval(None),
    )
    for evidence in (make_evidence(task), empty):
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


def test_four_checks_block_and_the_others_warn() -> None:
    blocking = {
        n for n, c in {**REVIEW_CHECKS, **CHAMPION_CHECKS}.items() if c.severity == "blocks"
    }
    assert blocking == {"better_than_baseline", "least", "refit_agrees", "no_worse_than_champion"}


def test_blocking_checks_never_pass_without_evidence(make_evidence: MakeEvidence) -> None:
    empty = make_evidence(
        labeled_rows=0,
        rows_by_class={},
        metrics={"roc_auc": Interval(None)},
        baseline_gains={},
        refit_agreement=RefitAgreement(math.nan, math.nan),
        champion_gain=Interval(None),
        review={"min_metric": 0.5},
    )
    outcomes = {
        v.check: v.outcome
        for v in [*run_checks(empty), *run_checks(empty, CHAMPION_CHECKS)]
        if v.severity == "blocks"
    }
    assert outcomes == dict.fromkeys(outcomes, "cannot tell")


def test_good_model_passes_every_check(make_evidence: MakeEvidence) -> None:
    verdicts = run_checks(
        make_evidence(slices=make_slices("fine", "fine"), review={"min_metric": 0.75})
    )
    assert {v.outcome for v in verdicts} == {"passed"}
    assert not verdicts.is_blocked


def test_champion_check_is_in_its_own_registry() -> None:
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
def test_interval_is_compared_with_limit(ends: tuple[Any, Any], outcome: str) -> None:
    assert compare_interval_to_limit(Interval(0.0, *ends), 0.0) == outcome


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("enough_rows", {"labeled_rows": 199}, "failed"),
    ("enough_rows", {"labeled_rows": 200}, "passed"),
    ("both_classes_seen", {"rows_by_class": {"0": 500}}, "failed"),
    ("both_classes_seen", {"rows_by_class": {"0": 500, "1": 3}}, "cannot tell"),
    ("both_classes_seen", {"task": "regression"}, "not applicable"),
    (
        "better_than_baseline",
        {"baseline_gains": {"baseline_linear": Interval(-0.02, -0.03, -0.01)}},
        "failed",
    ),
    (
        "better_than_baseline",
        {
            "baseline_gains": {
                "baseline_linear": Interval(0.0, -0.01, 0.01),
                "baseline_constant": Interval(0.2, 0.1, 0.3),
            }
        },
        "cannot tell",
    ),
    (
        "better_than_baseline",
        {
            "baseline_gains": {
                "baseline_linear": Interval(0.1, None, None),
                "baseline_constant": Interval(0.0, None, None),
            }
        },
        "failed",
    ),
    ("better_than_baseline", {"review": {"min_gain_over_baseline": 0.05}}, "failed"),
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
    (
        "calibration",
        {
            "metrics": {"calibration_error": Interval(0.02, 0.01, 0.03)},
            "calibration_bins": CalibrationBins(6, 10),
        },
        "failed",
    ),
    (
        "calibration",
        {
            "metrics": {"calibration_error": Interval(0.02, 0.01, 0.03)},
            "calibration_bins": CalibrationBins(5, 10),
        },
        "passed",
    ),
    ("no_slice_far_below", {}, "not applicable"),
    ("no_slice_far_below", {"slices": make_slices("fine", "far below")}, "failed"),
    ("no_slice_far_below", {"slices": make_slices("fine", "cannot tell")}, "passed"),
    ("no_slice_far_below", {"slices": make_slices("cannot tell")}, "cannot tell"),
    (
        "no_slice_far_below",
        {"slices": make_slices("far below"), "review": {"max_slice_gap": None}},
        "not applicable",
    ),
    ("refit_agrees", {"refit_agreement": make_agreement(0.96, 0.03)}, "passed"),
    ("refit_agrees", {"refit_agreement": make_agreement(0.96, -0.01)}, "failed"),
    ("refit_agrees", {"refit_agreement": RefitAgreement(0.99, 0.0)}, "cannot tell"),
    ("refit_agrees", {"refit_agreement": None}, "not applicable"),
    ("no_worse_than_champion", {}, "not applicable"),
    ("no_worse_than_champion", {}, "not applicable"),
    (
        "no_worse_than_champion",
        {"champion_note": "Version 1 was trained on some of these rows."},
        "cannot tell",
    ),
    ("no_worse_than_champion", {"champion_gain": Interval(0.0, 0.0, 0.0)}, "passed"),
    ("no_worse_than_champion", {"champion_gain": Interval(0.0, -0.004, 0.004)}, "passed"),
    ("no_worse_than_champion", {"champion_gain": Interval(0.0, -0.02, 0.02)}, "cannot tell"),
    ("no_worse_than_champion", {"champion_gain": Interval(-0.01, -0.018, -0.002)}, "failed"),
    ("no_worse_than_champion", {"champion_gain": Interval(-0.02, -0.03, -0.01)}, "failed"),
    (
        "no_worse_than_champion",
        {"champion_gain": Interval(0.02, 0.01, 0.03), "review": {"require_gain": True}},
        "passed",
    ),
    (
        "no_worse_than_champion",
        {"champion_gain": Interval(0.0, -0.004, 0.004), "review": {"require_gain": True}},
        "failed",
    ),
    (
        "no_worse_than_champion",
        {"champion_note": "Nothing is newer.", "review": {"require_gain": True}},
        "failed",
    ),
]


@pytest.mark.parametrize(("name", "values", "outcome"), CASES)
def test_check_outcome(
    make_evidence: MakeEvidence, name: str, values: dict[str, Any], outcome: str
) -> None:
    check = REVIEW_CHECKS[name] if name in REVIEW_CHECKS else CHAMPION_CHECKS[name]
    assert check(make_evidence(**values)).outcome == outcome


def test_cases_cover_every_check() -> None:
    assert {n for n, _, _ in CASES} == {*REVIEW_CHECKS, *CHAMPION_CHECKS}


def test_sentence_names_value_limit_and_slice(make_evidence: MakeEvidence) -> None:
    assert (
        REVIEW_CHECKS["least"](make_evidence(review={"min_metric": 0.8})).sentence
        == "ROC-AUC 0.780 [0.770, 0.790] misses the limit of 0.800."
    )
    assert (
        "origin = 1: ROC-AUC 0.600 on 500 rows"
        in REVIEW_CHECKS["no_slice_far_below"](
            make_evidence(slices=make_slices("far below", "far below"))
        ).sentence
    )
    assert (
        "from a sample of 5,000"
        in REVIEW_CHECKS["enough_rows"](make_evidence(sample_rows=5000)).sentence
    )


def test_refit_check_does_not_apply_without_refit(make_evidence: MakeEvidence) -> None:
    assert (
        REVIEW_CHECKS["refit_agrees"](
            make_evidence(train={"refit": False}, refit_agreement=None)
        ).outcome
        == "not applicable"
    )


def test_linear_model_as_good_as_the_linear_baseline_says_so(make_evidence: MakeEvidence) -> None:
    gains = {"baseline_linear": Interval(0.0, -0.01, 0.01)}
    evidence = make_evidence(baseline_gains=gains, family="linear")
    verdict = REVIEW_CHECKS["better_than_baseline"](evidence)
    assert verdict.sentence.startswith(
        "The model, itself a linear model, is not clearly better than a linear model: gain in "
    )
