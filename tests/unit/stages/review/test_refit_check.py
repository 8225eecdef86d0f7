"""The check of the final model: outliers beside refits of its recipe are blocked, others pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.results import CheckOutcome, Interval
from mlops_kit.project.config.model import ReviewConfig
from mlops_kit.stages.review import REVIEW_CHECKS, RefitAgreement, ReviewEvidence
from mlops_kit.stages.review.refit_check import add_reference_refits, judge_refit
from mlops_kit.stats.refit_agreement import ReferenceRefit, summarize_reference_refits
from tests.support.review_fixtures import make_agreement

MakeEvidence = Callable[..., ReviewEvidence]
BREAK_LOSS = 0.8  # the reference refits have 0.5


def make_small_gains(correlation: float, gain: float) -> RefitAgreement:
    """Make the agreement of a linear model with four features on 1,848 rows."""
    references = (
        ReferenceRefit(1090, 521, 0.99992, 0.0, 0.99, 0.0069),
        ReferenceRefit(640, 310, 0.99937, 0.0, 0.99, 0.0061),
        ReferenceRefit(370, 190, 0.99811, 0.0, 0.99, 0.0254),
    )
    return make_agreement(correlation, gain, references=references)


@pytest.mark.parametrize(
    ("agreement", "outcome"),
    [
        # As close as a reference refit, and fitted about as well.
        (make_agreement(0.951, 0.012), "passed"),
        # Of few held-out rows the mean score changes by chance.
        (make_agreement(0.96, 0.03, mean_shift=0.103), "passed"),
        # Less close than each of them, but it follows the added rows as they do.
        (make_agreement(0.90, 0.02), "passed"),
        (make_agreement(0.90, 0.009), "failed"),
        # Close, and not fitted on the added rows.
        (make_agreement(1.0, 0.0), "failed"),
        (make_agreement(0.97, -0.03), "failed"),
        # Hardly fitted, but the interval allows for more.
        (make_agreement(0.97, 0.003, gain=Interval(0.003, -0.01, 0.016)), "passed"),
        # A model of few parameters, which gains next to nothing from having seen a row.
        (make_small_gains(0.99992, 0.0008), "passed"),
        (make_small_gains(0.99992, -0.0008), "passed"),
        (make_small_gains(0.99992, -0.0030), "failed"),
        (make_small_gains(0.99600, -0.0008), "failed"),
        # Far from the evaluation model, which is as good as ever: there was nothing to follow.
        (make_agreement(0.60, 0.1), "failed"),
        # After a break the evaluation model is worse, and the final model follows the new rows.
        (make_agreement(0.60, 0.1, loss=BREAK_LOSS), "passed"),
        (make_agreement(-0.5, 0.4, loss=BREAK_LOSS), "passed"),
        (make_agreement(-0.5, -0.4, loss=BREAK_LOSS), "failed"),
        # With few rows a correlation says little.
        (make_agreement(0.60, 0.1, rows=40), "passed"),
        # It does not know all classes.
        (make_agreement(0.0, 0.0, gain=None), "failed"),
        # A constant score.
        (make_agreement(math.nan, 0.03), "cannot tell"),
        (make_agreement(math.nan, -0.2), "failed"),
        # Nothing to compare with: only a refit that fits worse is known to be wrong.
        (make_agreement(0.5, 0.1, references=()), "cannot tell"),
        (make_agreement(0.99, -0.1, references=()), "failed"),
    ],
)
def test_refit_is_judged_beside_reference_refits(agreement: RefitAgreement, outcome: str) -> None:
    assert judge_refit(agreement, ReviewConfig()) == outcome


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ({"min_refit_rank_correlation": 0.99}, "failed"),
        ({"min_refit_rank_correlation": 0.9}, "passed"),
        ({"max_refit_shift": 0.005}, "failed"),
        ({"max_refit_shift": 0.05}, "passed"),
        ({"max_refit_disagreement": 0.5}, "passed"),
        ({"max_refit_disagreement": None}, "cannot tell"),
        ({"max_refit_disagreement": None, "min_refit_rank_correlation": 0.9}, "passed"),
    ],
)
def test_project_can_set_limits_of_its_own(settings: dict[str, Any], outcome: str) -> None:
    assert judge_refit(make_agreement(0.96, 0.03), ReviewConfig(**settings)) == outcome


def test_sentence_names_both_measures_and_those_of_the_refits(make_evidence: MakeEvidence) -> None:
    check = REVIEW_CHECKS["refit_agrees"]
    passed = check(make_evidence(refit_agreement=make_agreement(0.96, 0.03)))
    assert passed.sentence == (
        "Final and evaluation model agree: correlation of scores 0.960 (refits of the recipe: "
        "0.950 to 0.970), log loss on the added rows 3% lower (2% to 4%)."
    )
    assert passed.diagnostics["reference_gains"] == [0.04, 0.02, 0.03]
    failed = check(make_evidence(refit_agreement=make_agreement(0.2, -0.3)))
    assert "does not fit the rows that were added" in failed.sentence
    assert "log loss on the added rows 30% higher" in failed.sentence
    assert "train.refit: false" in failed.hint


class StageWithArtifacts:
    """Reads artifacts from a dictionary."""

    def __init__(self, **artifacts: Any) -> None:
        self.artifacts = artifacts

    def read(self, name: str) -> Any:
        if name not in self.artifacts:
            raise KitError(f"no artifact {name!r}", "another", "mlops run")
        if isinstance(self.artifacts[name], KitError):
            raise self.artifacts[name]
        return self.artifacts[name]


def test_training_of_an_earlier_version_has_no_refits(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(refit_agreement=make_agreement(0.99, 0.03, references=()))
    assert add_reference_refits(evidence, StageWithArtifacts()) is evidence  # type: ignore[arg-type]
    verdict = REVIEW_CHECKS["refit_agrees"](evidence)
    assert verdict.outcome == CheckOutcome.CANNOT_TELL
    assert "train.reference_refits" in verdict.hint
    refit = ReferenceRefit(80, 20, 0.98, 0.0, 0.5, 0.03)
    stage = StageWithArtifacts(refits=summarize_reference_refits([refit]))
    completed = add_reference_refits(evidence, stage)  # type: ignore[arg-type]
    assert completed.refit_agreement is not None
    assert completed.refit_agreement.references == (refit,)
    assert REVIEW_CHECKS["refit_agrees"](completed).outcome == CheckOutcome.PASSED


def test_damaged_refits_are_not_taken_for_missing_ones(make_evidence: MakeEvidence) -> None:
    evidence = make_evidence(refit_agreement=make_agreement(0.99, 0.03, references=()))
    stage = StageWithArtifacts(refits=RunFailedError("the artifact 'refits' is damaged"))
    with pytest.raises(RunFailedError, match="is damaged"):
        add_reference_refits(evidence, stage)  # type: ignore[arg-type]
