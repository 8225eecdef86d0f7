"""The check that the final model was refitted as it should be: on the right rows, as they are.

The final model has been fitted on the held-out rows, so nothing measures its quality. Two facts
about a sound refit can be checked all the same, and both are compared with refits of the same
recipe on training rows (``mlops_kit.stats.refit_agreement``), because neither has a limit that is
right for every model:

- it scores the held-out rows about as the evaluation model does;
- it fits the held-out rows better than the evaluation model does, since it has seen their labels.

A refit with shuffled labels, on other rows or with a shifted column does not do both. A model that
changes because the world did (a break before the held-out rows) scores these rows differently, but
fits them better, and the evaluation model is worse on them than earlier models were on theirs. So
a refit fails

1. if it hardly fits the held-out rows better: its gain is below a fifth of the smallest gain of a
   reference refit, and the upper end of its interval is at most zero, or below half of that gain by
   more than half a percent of the loss. A model with few parameters that is fitted on thousands of
   rows gains less than that from having seen some of them, and the reference refits, which have
   fewer rows, gain more: such gains do not show which rows a model was fitted on, but its scores
   do;
2. or if its scores differ more than those of any reference refit, and its gain is below half of
   the smallest gain of these;
3. or if its scores differ more than three times as much, although the evaluation model is as good
   on the held-out rows as the reference refits were on theirs: there was nothing new to follow.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.core.tasks import TASKS
from mlops_kit.project.config.model import ReviewConfig
from mlops_kit.stages.review.checks import make_verdict, register_check
from mlops_kit.stages.review.evidence import RefitAgreement, ReviewEvidence
from mlops_kit.stats.metrics import METRICS

if TYPE_CHECKING:
    from mlops_kit.stages.stage import Stage
    from mlops_kit.stats.refit_agreement import ReferenceRefits

_MIN_DISAGREEMENT = 0.001  # 1 - correlation; below it two models are the same in practice
# Shares of the smallest gain of a reference refit.
_MIN_GAIN_SHARE = 0.2
_MIN_GAIN_BOUND_SHARE = 0.5  # of the upper end of the interval of the gain
_NEGLIGIBLE_GAIN = 0.005  # a share of the loss; by less than that no gain is too small
_MIN_EXPLAINING_SHARE = 0.5  # with as much a larger disagreement is explained
# Without a break, no gain explains a disagreement of so many times the largest one of a refit.
_MAX_EXPLAINED_DISAGREEMENT = 3.0
_MIN_LOSS_AT_BREAK = 1.1  # times the largest loss of a reference refit on rows it had not seen
_MIN_COMPARED_ROWS = 100  # with fewer rows a correlation is too uncertain for that


def add_reference_refits(evidence: ReviewEvidence, stage: Stage) -> ReviewEvidence:
    """Return the evidence with the artifact ``refits``, if the training wrote one.

    Trainings of earlier versions did not: the check of the final model then cannot tell.

    Raises
    ------
    RunFailedError
        If the artifact is missing in its folder or damaged.
    """
    if evidence.refit_agreement is None:
        return evidence
    try:
        refits: ReferenceRefits = stage.read("refits")
    except RunFailedError:
        raise
    except KitError:  # there is no such artifact
        return evidence
    agreement = evidence.refit_agreement._replace(references=refits.list_refits())
    return evidence._replace(refit_agreement=agreement)


class RefitLimits(NamedTuple):
    """What the reference refits of a model allow.

    Attributes
    ----------
    correlation : float
        The least correlation with the evaluation model; NaN if there is nothing to compare with.
    unexplained_correlation : float
        The least correlation that a gain can explain, unless there was a break.
    reference_gain : float
        The smallest gain of a reference refit, at least 0.
    break_loss : float
        The loss of the evaluation model from which on there was a break.
    """

    correlation: float
    unexplained_correlation: float
    reference_gain: float
    break_loss: float


@register_check(
    "refit_agrees", "Final model agrees with the evaluation model", CheckSeverity.BLOCKS
)
def check_refit_agreement(evidence: ReviewEvidence) -> Verdict:
    """Check that the final model differs from the evaluation model as a sound refit would."""
    agreement = evidence.refit_agreement
    if agreement is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE, "The evaluation model is the one that serves."
        )
    limits = find_refit_limits(agreement, evidence.config.review)
    outcome = judge_refit(agreement, evidence.config.review)
    observed = _describe_agreement(agreement, evidence.config.task)
    return make_verdict(
        outcome,
        f"{_describe_outcome(outcome, agreement, limits)}: {observed}.",
        observed=observed,
        limit=_describe_limits(limits, evidence.config.review),
        hint=_choose_hint(outcome, agreement),
        rank=agreement.correlation,
        shift=agreement.mean_shift,
        gain=agreement.gain.value if agreement.gain else None,
        reference_correlations=[refit.correlation for refit in agreement.references],
        reference_gains=[refit.gain for refit in agreement.references],
    )


def find_refit_limits(agreement: RefitAgreement, config: ReviewConfig) -> RefitLimits:
    """Find what the reference refits allow."""
    disagreements = []
    gains = []
    losses = []
    for refit in agreement.references:
        if not math.isnan(refit.correlation):
            disagreements.append(1 - refit.correlation)
        if not math.isnan(refit.gain):
            gains.append(refit.gain)
            losses.append(refit.loss)
    min_correlation = math.nan
    unexplained_correlation = math.nan
    if disagreements and config.max_refit_disagreement is not None:
        largest = config.max_refit_disagreement * max(*disagreements, _MIN_DISAGREEMENT)
        min_correlation = 1 - largest
        unexplained_correlation = 1 - _MAX_EXPLAINED_DISAGREEMENT * largest
    return RefitLimits(
        correlation=min_correlation,
        unexplained_correlation=unexplained_correlation,
        reference_gain=max(0.0, min(gains, default=0.0)),
        break_loss=_MIN_LOSS_AT_BREAK * max(losses, default=math.inf),
    )


def judge_refit(agreement: RefitAgreement, config: ReviewConfig) -> CheckOutcome:
    """Judge a refit by the reference refits, and by the limits of the project if it has some."""
    limits = find_refit_limits(agreement, config)
    if exceeds_fixed_limits(agreement, config) or is_fitted_too_badly(agreement, limits):
        return CheckOutcome.FAILED
    if math.isnan(agreement.correlation) or agreement.gain is None:
        return CheckOutcome.CANNOT_TELL
    if math.isnan(limits.correlation):
        has_fixed_limit = config.min_refit_rank_correlation is not None
        return CheckOutcome.PASSED if has_fixed_limit else CheckOutcome.CANNOT_TELL
    is_similar = agreement.correlation >= limits.correlation
    if is_similar or _explains_difference(agreement, limits):
        return CheckOutcome.PASSED
    return CheckOutcome.FAILED


def exceeds_fixed_limits(agreement: RefitAgreement, config: ReviewConfig) -> bool:
    """Whether a refit is beyond a limit that the project sets itself."""
    min_correlation = config.min_refit_rank_correlation
    if min_correlation is not None and agreement.correlation < min_correlation:
        return True
    max_shift = config.max_refit_shift
    return max_shift is not None and abs(agreement.mean_shift) > max_shift


def is_fitted_too_badly(agreement: RefitAgreement, limits: RefitLimits) -> bool:
    """Whether a refit fits the rows that were added hardly better than before.

    That is so as well if it does not know the same classes.
    """
    gain = agreement.gain
    if gain is None or gain.value is None or gain.high is None:
        return gain is None and agreement.correlation == 0
    is_small = gain.value < _MIN_GAIN_SHARE * limits.reference_gain
    min_bound = max(0.0, _MIN_GAIN_BOUND_SHARE * limits.reference_gain - _NEGLIGIBLE_GAIN)
    return is_small and gain.high <= min_bound  # equal: without a gain on any row


def _explains_difference(agreement: RefitAgreement, limits: RefitLimits) -> bool:
    """Whether a refit differs because it follows the rows that were added, as refits do."""
    gain = agreement.gain
    if gain is None or gain.value is None or gain.value <= 0:
        return False
    if gain.value < _MIN_EXPLAINING_SHARE * limits.reference_gain:
        return False
    if agreement.correlation >= limits.unexplained_correlation:
        return True
    return agreement.rows < _MIN_COMPARED_ROWS or agreement.loss > limits.break_loss


def _describe_outcome(outcome: CheckOutcome, agreement: RefitAgreement, limits: RefitLimits) -> str:
    if outcome == CheckOutcome.CANNOT_TELL:
        return "Final and evaluation model cannot be compared"
    if outcome == CheckOutcome.FAILED and is_fitted_too_badly(agreement, limits):
        return "The final model does not fit the rows that were added to it"
    if outcome == CheckOutcome.FAILED:
        return "The final model differs from the evaluation model more than refits of the recipe do"
    if agreement.correlation < limits.correlation:
        return "The final model differs from the evaluation model, and follows the added rows"
    return "Final and evaluation model agree"


def _describe_agreement(agreement: RefitAgreement, task: str) -> str:
    """Describe correlation and gain, each with its range over the reference refits."""
    correlations = [refit.correlation for refit in agreement.references]
    gains = [refit.gain for refit in agreement.references]
    parts = [f"correlation of scores {format_number(agreement.correlation)}"]
    if correlations:
        low = format_number(min(correlations))
        parts[0] += f" (refits of the recipe: {low} to {format_number(max(correlations))})"
    gain = agreement.gain
    if gain is not None and gain.value is not None:
        loss = METRICS[TASKS[task].loss_metric].title
        direction = "lower" if gain.value >= 0 else "higher"
        text = f"{loss} on the added rows {format_percent(abs(gain.value))} {direction}"
        if gains:
            text += f" ({format_percent(min(gains))} to {format_percent(max(gains))})"
        parts.append(text)
    return ", ".join(parts)


def _describe_limits(limits: RefitLimits, config: ReviewConfig) -> str:
    """Describe the limits that apply."""
    texts = []
    if not math.isnan(limits.correlation):
        texts.append(
            f"correlation ≥ {format_number(limits.correlation)}, or a loss that is "
            f"{format_percent(_MIN_EXPLAINING_SHARE * limits.reference_gain)} lower"
        )
    if config.min_refit_rank_correlation is not None:
        texts.append(f"correlation ≥ {format_number(config.min_refit_rank_correlation)}")
    if config.max_refit_shift is not None:
        texts.append(f"shift ≤ {format_number(config.max_refit_shift)}")
    return "; ".join(texts)


def _choose_hint(outcome: CheckOutcome, agreement: RefitAgreement) -> str:
    if outcome == CheckOutcome.FAILED:
        return (
            "check the rows, labels and columns that the final model is fitted on, or serve the "
            "evaluation model (train.refit: false)"
        )
    if outcome == CheckOutcome.CANNOT_TELL and not agreement.references:
        return "train.reference_refits: 3, and run the training again"
    return ""
