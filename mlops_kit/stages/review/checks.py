"""The checks of a review: each is data plus one function from the evidence to a verdict.

A check computes nothing expensive and acts on nothing: it reads `ReviewEvidence` and words what it
finds. All four outcomes are shown, "not applicable" too. The check against the champion is in a
registry of its own, because its verdict changes when the champion does.

To add a check, in the package or in a plugin of a project:

1. write a function ``(evidence) -> Verdict`` that returns ``make_verdict(outcome, sentence)``, with
   ``limit`` and ``hint`` if it failed,
2. decorate it with ``@register_check(name, title, severity)``; it is then run and tested as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    convert_option,
    name_failing_extension,
)
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Verdict, Verdicts
from mlops_kit.core.tasks import TASKS
from mlops_kit.project.config.pipeline import format_rerun_command
from mlops_kit.stages.review.champion_comparison import (
    DifferenceOutcome,
    classify_difference,
    describe_rows_needed,
    get_promotion_outcome,
)
from mlops_kit.stages.review.evidence import (
    BASELINE_TITLES,
    NO_CHAMPION,
    ReviewEvidence,
    describe_class_rows,
)
from mlops_kit.stages.review.slices import SliceStatus
from mlops_kit.stats.metrics import METRICS

_LINEAR_FAMILY = "linear"
_MIN_ROWS_PER_CLASS = 10  # with fewer rows of the rarer class, metrics of two classes are unstable


class ReviewCheck(NamedTuple):
    """A named check of the evidence; an empty ``task`` means that it applies to every task."""

    name: str
    title: str
    severity: CheckSeverity
    task: str
    function: Callable[[ReviewEvidence], Verdict]

    def __call__(self, evidence: ReviewEvidence) -> Verdict:
        """Return the verdict of the check, under its own name, title and severity."""
        if self.task in {"", evidence.config.task}:
            with name_failing_extension(ExtensionKind.REVIEW_CHECK, self.name):
                verdict = self.function(evidence)
                if not isinstance(verdict, Verdict):
                    raise TypeError(f"it returned {verdict!r}; expected a Verdict")
        else:
            verdict = make_verdict(
                CheckOutcome.NOT_APPLICABLE, f"This check applies to {self.task} tasks only."
            )
        return replace(verdict, check=self.name, title=self.title, severity=self.severity)


REVIEW_CHECKS: ExtensionRegistry[ReviewCheck] = ExtensionRegistry(ExtensionKind.REVIEW_CHECK)
CHAMPION_CHECKS: ExtensionRegistry[ReviewCheck] = ExtensionRegistry("check against the champion")


def register_check(
    name: str,
    title: str,
    severity: CheckSeverity | str,
    task: str = "",
    into: ExtensionRegistry[ReviewCheck] = REVIEW_CHECKS,
) -> Callable[[Callable[[ReviewEvidence], Verdict]], ReviewCheck]:
    """Make the decorated function a check and register it.

    Parameters
    ----------
    name : str
        The check's name in stored verdicts.
    title : str
        What holds if the check passes.
    severity : CheckSeverity
        Whether a failure blocks the version (``blocks``) or is a warning (``warns``).
    task : {"", "binary", "multiclass", "regression"}
        The task that it is for; empty: all.
    into : ExtensionRegistry
        Where it is registered; a plugin leaves the default.

    Examples
    --------
    >>> @register_check("few_features", "Few features", "warns")
    ... def check_feature_count(evidence):
    ...     rows = evidence.labeled_rows
    ...     return make_verdict(CheckOutcome.PASSED, f"{rows} rows were looked at.")
    >>> REVIEW_CHECKS["few_features"].severity
    <CheckSeverity.WARNS: 'warns'>
    >>> del REVIEW_CHECKS["few_features"]
    """
    check_severity = convert_option(CheckSeverity, severity, "severity")

    def register(function: Callable[[ReviewEvidence], Verdict]) -> ReviewCheck:
        check = ReviewCheck(name, title, check_severity, task, function)
        return into.register(name, applies_to=[task] if task else [])(check)

    return register


def make_verdict(
    outcome: CheckOutcome,
    sentence: str,
    observed: str = "",
    limit: str = "",
    hint: str = "",
    **diagnostics: Any,
) -> Verdict:
    """Make a verdict to which `ReviewCheck` adds the name of its check.

    A passed check needs no hint, so it is dropped.

    Parameters
    ----------
    outcome : CheckOutcome
        Whether the check passed or failed, cannot tell, or is not applicable.
    sentence : str
        What was found, as one sentence.
    observed, limit : str
        The value that was found, and what it is compared with.
    hint : str
        What to do if the check did not pass.
    **diagnostics
        Further values that are stored with the verdict.

    Examples
    --------
    >>> verdict = make_verdict(CheckOutcome.FAILED, "The model is slow.", "90 ms", "≤ 50 ms")
    >>> verdict.observed
    '90 ms'
    """
    return Verdict(
        check="",
        title="",
        outcome=outcome,
        severity=CheckSeverity.WARNS,
        sentence=sentence,
        observed=observed,
        limit=limit,
        hint="" if outcome == CheckOutcome.PASSED else hint,
        diagnostics=diagnostics,
    )


def run_checks(
    evidence: ReviewEvidence, checks: Mapping[str, ReviewCheck] = REVIEW_CHECKS
) -> Verdicts:
    """Run the checks and return their verdicts, the worst first."""
    return Verdicts.from_verdicts(check(evidence) for check in checks.values())


def compare_interval_to_limit(gain: Interval, limit: float) -> CheckOutcome:
    """Compare an interval with a lower limit: passed above, failed below, undecided across it."""
    if gain.value is None or gain.low is None or gain.high is None:
        return CheckOutcome.CANNOT_TELL
    if gain.low > limit:
        return CheckOutcome.PASSED
    if gain.high < limit:
        return CheckOutcome.FAILED
    return CheckOutcome.CANNOT_TELL


@register_check("enough_rows", "Enough labeled rows", CheckSeverity.WARNS)
def check_row_count(evidence: ReviewEvidence) -> Verdict:
    """Check that there are at least as many labeled rows as a slice needs."""
    min_rows = evidence.config.review.min_slice_rows
    sample_note = ""
    if evidence.sample_rows:
        sample_note = f", from a sample of {evidence.sample_rows:,}"
    sentence = f"{evidence.labeled_rows:,} labeled rows are held out{sample_note}"
    outcome = CheckOutcome.PASSED
    if evidence.labeled_rows < min_rows:
        outcome = CheckOutcome.FAILED
        sentence += f", fewer than {min_rows:,}: the intervals are wide"
    return make_verdict(
        outcome,
        f"{sentence}.",
        observed=f"{evidence.labeled_rows:,} rows{sample_note}",
        limit=f"≥ {min_rows:,}",
        hint="hold more rows out (validation.test), or wait for labels",
    )


@register_check("both_classes_seen", "Every class present", CheckSeverity.WARNS)
def check_every_class_present(evidence: ReviewEvidence) -> Verdict:
    """Check that the held-out rows contain every class, and more than a handful of each."""
    if not TASKS[evidence.config.task].has_classes:
        return make_verdict(CheckOutcome.NOT_APPLICABLE, "This check applies to classes only.")
    counts = {"0": 0, "1": 0} | evidence.rows_by_class
    rarest_class_rows = min(counts.values())
    outcome = CheckOutcome.PASSED
    if rarest_class_rows == 0:
        outcome = CheckOutcome.FAILED
    elif rarest_class_rows < _MIN_ROWS_PER_CLASS:
        outcome = CheckOutcome.CANNOT_TELL
    observed = describe_class_rows(evidence, _MIN_ROWS_PER_CLASS)
    return make_verdict(
        outcome,
        f"The held-out rows contain {observed}.",
        observed=observed,
        limit=f"≥ {_MIN_ROWS_PER_CLASS} of each",
        hint="hold a longer period out (validation.test)",
        **counts,
    )


@register_check("better_than_baseline", "Better than the baselines", CheckSeverity.BLOCKS)
def check_better_than_baseline(evidence: ReviewEvidence) -> Verdict:
    """Check the gain over the best baseline.

    A model that is no better than a constant fails, whatever the interval is.
    """
    min_gain = evidence.config.review.min_gain_over_baseline
    gains = {name: gain for name, gain in evidence.baseline_gains.items() if gain.value is not None}
    if not gains:
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            "No baseline could be scored on the held-out rows.",
            hint=format_rerun_command(evidence.config.stages, "held_out_scores"),
        )
    best_baseline = min(gains, key=lambda name: gains[name].value or 0.0)
    compared_baseline = best_baseline
    outcome = compare_interval_to_limit(gains[best_baseline], min_gain)
    constant_gain = gains.get("baseline_constant")
    if constant_gain is not None and (constant_gain.value or 0.0) <= 0:
        compared_baseline = "baseline_constant"
        outcome = CheckOutcome.FAILED
    relation = {
        CheckOutcome.PASSED: "better than",
        CheckOutcome.FAILED: "no better than",
        CheckOutcome.CANNOT_TELL: "not clearly better than",
    }[outcome]
    metric_title = METRICS[evidence.config.headline_metric].title
    baseline_title = BASELINE_TITLES[compared_baseline]
    subject = "The model"
    if evidence.family == _LINEAR_FAMILY and compared_baseline == "baseline_linear":
        subject = "The model, itself a linear model,"
    return make_verdict(
        outcome,
        f"{subject} is {relation} {baseline_title}: "
        f"gain in {metric_title} {gains[compared_baseline]}.",
        observed=f"gain {gains[compared_baseline]} over {baseline_title}",
        limit=f"> {format_number(min_gain)}",
        hint="improve the features; if a linear model is as good, serve that (train.families)",
        baseline=best_baseline,
        **evidence.baseline_values,
    )


@register_check("least", "Headline metric within its limit", CheckSeverity.BLOCKS)
def check_min_performance(evidence: ReviewEvidence) -> Verdict:
    """Check the headline metric against the limit that the project sets."""
    limit = evidence.config.review.min_metric
    metric = METRICS[evidence.config.headline_metric]
    measured = evidence.metrics[evidence.config.headline_metric]
    if limit is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            "No limit is set for the headline metric.",
            observed=str(measured),
            hint="set review.min_metric in mlops.yaml",
        )
    limit_text = f"{'≥' if metric.greater_is_better else '≤'} {format_number(limit)}"
    if measured.value is None:
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            f"{metric.title} could not be computed.",
            observed="unknown",
            limit=limit_text,
            hint="wait for labels",
        )
    worst_value = measured.low if metric.greater_is_better else measured.high
    if metric.compute_gain(measured.value, limit) < 0:
        outcome = CheckOutcome.FAILED
    elif worst_value is not None and metric.compute_gain(worst_value, limit) >= 0:
        outcome = CheckOutcome.PASSED
    else:
        outcome = CheckOutcome.CANNOT_TELL
    relation = {
        CheckOutcome.FAILED: "misses",
        CheckOutcome.PASSED: "meets",
        CheckOutcome.CANNOT_TELL: "meets, but not with certainty,",
    }[outcome]
    return make_verdict(
        outcome,
        f"{metric.title} {measured} {relation} the limit of {format_number(limit)}.",
        observed=str(measured),
        limit=limit_text,
        hint="improve the features or the search, or set another limit",
    )


@register_check("calibration", "Calibration error within its limit", CheckSeverity.WARNS)
def check_calibration_error(evidence: ReviewEvidence) -> Verdict:
    """Check the expected calibration error against its limit.

    It fails as well if the prediction is outside the interval in most bins of the curve.
    """
    metric_name = TASKS[evidence.config.task].calibration_metric
    if not metric_name:
        return make_verdict(CheckOutcome.NOT_APPLICABLE, "This check applies to classes only.")
    limit = evidence.config.review.max_calibration_error
    error = evidence.metrics.get(metric_name, Interval(None))
    if limit is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            "No limit is set for the calibration error.",
            observed=str(error),
            hint="set review.max_calibration_error in mlops.yaml",
        )
    if error.value is None:
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            "The calibration error could not be computed.",
            observed="unknown",
            limit=f"≤ {format_number(limit)}",
            hint="wait for labels of both classes",
        )
    # Resampling only ever increases this error: the lower end of its interval can prove that a
    # model exceeds the limit, the upper end cannot.
    if error.value <= limit:
        outcome = CheckOutcome.PASSED
    elif error.low is not None and error.low > limit:
        outcome = CheckOutcome.FAILED
    else:
        outcome = CheckOutcome.CANNOT_TELL
    observed = str(error)
    sentence = (
        f"Predicted and observed probability differ by {format_percent(error.value, 1)} on "
        f"average (limit {format_percent(limit, 1)})"
    )
    bins = evidence.calibration_bins
    if bins is not None and bins.outside > bins.total / 2:
        outcome = CheckOutcome.FAILED
        observed += f"; {bins.outside} of {bins.total} bins outside"
        sentence += f"; in {bins.outside} of {bins.total} bins they differ by more than chance"
    return make_verdict(
        outcome,
        f"{sentence}.",
        observed=observed,
        limit=f"≤ {format_number(limit)}, at most half of the bins outside",
        hint="use more training rows, or a model family of your own that calibrates its scores",
    )


@register_check("no_slice_far_below", "No weak slice", CheckSeverity.WARNS)
def check_weakest_slice(evidence: ReviewEvidence) -> Verdict:
    """Check that no slice is far below the performance on all rows."""
    max_gap = evidence.config.review.max_slice_gap
    setup_hint = "name columns under review.slices, and set review.max_slice_gap"
    if max_gap is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE, "No limit is set for slices.", hint=setup_hint
        )
    if evidence.slices is None or evidence.slices.to_frame().empty:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE, "There is no column to slice by.", hint=setup_hint
        )
    data = evidence.slices.to_frame()
    weak_slices = int((data["status"] == SliceStatus.FAR_BELOW).sum())
    undecided_slices = int((data["status"] == SliceStatus.CANNOT_TELL).sum())
    if weak_slices:
        outcome = CheckOutcome.FAILED
        candidates = data[data["status"] == SliceStatus.FAR_BELOW]
    else:
        all_undecided = undecided_slices == len(data)
        outcome = CheckOutcome.CANNOT_TELL if all_undecided else CheckOutcome.PASSED
        candidates = data[data["status"] != SliceStatus.CANNOT_TELL]
    weakest = _describe_weakest_slice(candidates, evidence)
    undecided_note = ""
    if undecided_slices:
        undecided_note = f"; {undecided_slices} of {len(data)} slices cannot be decided"
    sentence = f"No slice is far below all rows{undecided_note}; the weakest: {weakest}."
    if weak_slices:
        sentence = (
            f"{weak_slices} of {len(data)} slices are far below all rows; the worst is {weakest}."
        )
    return make_verdict(
        outcome,
        sentence,
        observed=weakest + undecided_note,
        limit=f"shortfall ≤ {format_number(max_gap)}",
        hint="look at these rows in the notebook; add rows, or features that explain them",
        far=weak_slices,
        cannot_tell=undecided_slices,
        slices=len(data),
    )


def _describe_weakest_slice(candidates: pd.DataFrame, evidence: ReviewEvidence) -> str:
    if candidates.empty:
        return "no slice has enough rows"
    weakest = candidates.sort_values(["gap", "column", "group"]).iloc[0]
    metric_title = METRICS[evidence.config.headline_metric].title
    value = format_number(float(weakest["value"]))
    rows = int(weakest["rows"])
    return f"{weakest['column']} = {weakest['group']}: {metric_title} {value} on {rows:,} rows"


@register_check(
    "no_worse_than_champion",
    "No worse than the champion",
    CheckSeverity.BLOCKS,
    into=CHAMPION_CHECKS,
)
def check_no_worse_than_champion(evidence: ReviewEvidence) -> Verdict:
    """Check that the gain over the champion on the same rows is above minus the margin.

    With ``review.require_gain`` it has to be above zero.
    """
    margin = evidence.config.review.margin
    must_gain = evidence.config.review.require_gain
    gain = evidence.champion_gain
    if gain is None and evidence.champion_note == NO_CHAMPION.note:
        return make_verdict(CheckOutcome.NOT_APPLICABLE, evidence.champion_note)
    if gain is None:
        return make_verdict(
            CheckOutcome.FAILED if must_gain else CheckOutcome.CANNOT_TELL,
            evidence.champion_note,
            hint="evaluate on rows that are newer than the champion",
            champion_version=evidence.champion_version,
        )
    difference = classify_difference(gain, margin)
    outcome = get_promotion_outcome(difference, must_gain)
    relation = {
        DifferenceOutcome.BETTER: "better than",
        DifferenceOutcome.NO_WORSE: "no worse than",
        DifferenceOutcome.WORSE: "worse than",
        DifferenceOutcome.CANNOT_TELL: "not certainly as good as",
    }[difference]
    hint = "keep the champion"
    if outcome != CheckOutcome.FAILED:
        hint = describe_rows_needed(gain, margin, evidence.labeled_rows)
    metric_title = METRICS[evidence.config.headline_metric].title
    return make_verdict(
        outcome,
        f"The model is {relation} the champion on the same rows: "
        f"gain in {metric_title} {gain}. {evidence.champion_note}",
        observed=f"gain {gain}",
        limit="> 0" if must_gain else f"> {format_number(-margin)}",
        hint=hint,
        margin=margin,
        champion_version=evidence.champion_version,
    )
