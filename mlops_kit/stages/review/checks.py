"""The checks of a reviewed model: data plus one function of the evidence, which returns a verdict.

A check computes nothing heavy and acts on nothing: it reads ``Evidence`` and words what it found.
All four outcomes are shown, "not applicable" too. What hangs on the champion of the moment stands
in a list of its own, because its verdict changes when the champion does.

To add a check: 1. a function ``(evidence) -> Verdict`` that returns ``says(outcome, sentence, …)``,
2. ``@check(name, title, severity)`` above it; it is then run, shown and tested with the others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Verdict, Verdicts
from mlops_kit.stages.review.champion_comparison import classify_difference, describe_rows_needed
from mlops_kit.stages.review.evidence import BASELINE_TITLES, NO_CHAMPION, ReviewEvidence
from mlops_kit.stats.metrics import METRICS

_OUTCOME_OF_DIFFERENCE: dict[str, CheckOutcome] = {
    "better": CheckOutcome.PASSED,
    "no worse": CheckOutcome.PASSED,
    "worse": CheckOutcome.FAILED,
    CheckOutcome.CANNOT_TELL: CheckOutcome.CANNOT_TELL,
}
_MIN_ROWS_PER_CLASS = 10  # rows of the rarer class under which no metric of two classes is steady


class ReviewCheck(NamedTuple):
    """A named question to the evidence; ``task`` is empty where it fits every task."""

    name: str
    title: str
    severity: CheckSeverity
    task: str
    function: Callable[[ReviewEvidence], Verdict]

    def __call__(self, evidence: ReviewEvidence) -> Verdict:
        """The check's verdict, under its own name and severity."""
        fits = self.task in {"", evidence.config.task}
        found = (
            self.function(evidence)
            if fits
            else make_verdict(
                CheckOutcome.NOT_APPLICABLE, f"This is asked of {self.task} tasks only."
            )
        )
        return replace(found, check=self.name, title=self.title, severity=self.severity)


REVIEW_CHECKS: ExtensionRegistry[ReviewCheck] = ExtensionRegistry("check")
CHAMPION_CHECKS: ExtensionRegistry[ReviewCheck] = ExtensionRegistry("check against the champion")


def register_check(
    name: str,
    title: str,
    severity: CheckSeverity,
    task: str = "",
    into: ExtensionRegistry[ReviewCheck] = REVIEW_CHECKS,
) -> Callable[[Callable[[ReviewEvidence], Verdict]], ReviewCheck]:
    """Make the decorated function a check and register it."""
    return lambda function: into.register(name)(ReviewCheck(name, title, severity, task, function))


def make_verdict(
    outcome: CheckOutcome,
    sentence: str,
    found: str = "",
    limit: str = "",
    cure: str = "",
    **diagnostics: Any,
) -> Verdict:
    """A verdict that its check has still to put its name on; a passed one needs no cure."""
    return Verdict(
        "",
        "",
        outcome,
        CheckSeverity.WARNS,
        sentence,
        found,
        limit,
        "" if outcome == CheckOutcome.PASSED else cure,
        diagnostics,
    )


def run_checks(
    evidence: ReviewEvidence, checks: Mapping[str, ReviewCheck] = REVIEW_CHECKS
) -> Verdicts:
    """The verdicts of all checks, the worst first."""
    return Verdicts.from_verdicts(one(evidence) for one in checks.values())


def compare_interval_to_limit(gain: Interval, limit: float) -> CheckOutcome:
    """Read a verdict off an interval: above the limit passed, below it failed, across it cannot tell."""
    if gain.value is None or gain.low is None or gain.high is None:
        return CheckOutcome.CANNOT_TELL
    if gain.low > limit:
        return CheckOutcome.PASSED
    return CheckOutcome.FAILED if gain.high < limit else CheckOutcome.CANNOT_TELL


@register_check("enough_rows", "Enough rows to judge on", CheckSeverity.WARNS)
def check_row_count(evidence: ReviewEvidence) -> Verdict:
    """At least as many labelled rows as a slice needs."""
    limit, rows = evidence.config.review.min_slice_rows, evidence.labeled_rows
    sampled = f", from a sample of {evidence.sample_rows:,}" if evidence.sample_rows else ""
    passed = rows >= limit
    sentence = f"{rows:,} labelled rows were put aside{sampled}{'' if passed else f', fewer than {limit:,}: the intervals are wide'}."
    return make_verdict(
        CheckOutcome.PASSED if passed else CheckOutcome.FAILED,
        sentence,
        f"{rows:,} rows{sampled}",
        f"≥ {limit:,}",
        "put more rows aside (split.test), or wait for labels",
    )


@register_check("both_classes_seen", "Both classes are there", CheckSeverity.WARNS, task="binary")
def check_both_classes_present(evidence: ReviewEvidence) -> Verdict:
    """Rows of both classes among those put aside, and not just a handful of one."""
    counts = {name: evidence.rows_by_class.get(name, 0) for name in ("0", "1")}
    rarer = min(counts.values())
    found = f"{counts['1']:,} of class 1, {counts['0']:,} of class 0"
    outcome: CheckOutcome = (
        CheckOutcome.FAILED
        if rarer == 0
        else CheckOutcome.CANNOT_TELL
        if rarer < _MIN_ROWS_PER_CLASS
        else CheckOutcome.PASSED
    )
    return make_verdict(
        outcome,
        f"The rows put aside hold {found}.",
        found,
        f"≥ {_MIN_ROWS_PER_CLASS} of each",
        "put a longer period aside (split.test)",
        **counts,
    )


@register_check("min_gain_over_baseline", "Better than a simple model", CheckSeverity.BLOCKS)
def check_better_than_baseline(evidence: ReviewEvidence) -> Verdict:
    """A gain over the best baseline; no better than a constant is a failure whatever the interval says."""
    limit, title = (
        evidence.config.review.min_gain_over_baseline,
        METRICS[evidence.config.headline_metric].title,
    )
    if not (known := {b: g for b, g in evidence.baseline_gains.items() if g.value is not None}):
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            "No baseline could be scored on the rows put aside.",
            cure="mlops run --from train",
        )
    best = min(known, key=lambda b: known[b].value or 0.0)
    gain = known[best]
    useless = [b for b in known if b == "baseline_constant" and (known[b].value or 0.0) <= 0]
    outcome: CheckOutcome = (
        CheckOutcome.FAILED if useless else compare_interval_to_limit(gain, limit)
    )
    against = BASELINE_TITLES[useless[0] if useless else best]
    words = {
        "passed": "better than",
        "failed": "no better than",
        "cannot tell": "not clearly better than",
    }[outcome]
    sentence = (
        f"The model is {words} {against}: {title} gains {known[useless[0]] if useless else gain}."
    )
    cure = "look for better features; where a linear model is as good, serve that (train.families)"
    return make_verdict(
        outcome,
        sentence,
        f"gain {gain} over {against}",
        f"> {format_number(limit)}",
        cure,
        baseline=best,
        **evidence.baseline_values,
    )


@register_check("least", "As good as it has to be", CheckSeverity.BLOCKS)
def check_min_performance(evidence: ReviewEvidence) -> Verdict:
    """The headline metric keeps to the limit that the project's people have set."""
    limit, known, found = (
        evidence.config.review.min_metric,
        METRICS[evidence.config.headline_metric],
        evidence.metrics[evidence.config.headline_metric],
    )
    if limit is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            "No least quality is set.",
            str(found),
            cure="set review.least in mlops.yaml",
        )
    sign = "≥" if known.greater_is_better else "≤"
    if found.value is None:
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            f"{known.title} could not be computed.",
            "unknown",
            f"{sign} {format_number(limit)}",
            "wait for labels",
        )
    weak = found.low if known.greater_is_better else found.high
    outcome: CheckOutcome = (
        CheckOutcome.FAILED
        if known.compute_gain(found.value, limit) < 0
        else CheckOutcome.PASSED
        if weak is not None and known.compute_gain(weak, limit) >= 0
        else CheckOutcome.CANNOT_TELL
    )
    words = {"failed": "misses", "passed": "keeps to", "cannot tell": "keeps to, but not surely,"}[
        outcome
    ]
    return make_verdict(
        outcome,
        f"{known.title} {found} {words} the limit of {format_number(limit)}.",
        str(found),
        f"{sign} {format_number(limit)}",
        "improve the features or the search, or decide on another limit",
    )


@register_check(
    "calibration", "Probabilities mean what they say", CheckSeverity.WARNS, task="binary"
)
def check_calibration_error(evidence: ReviewEvidence) -> Verdict:
    """Expected calibration error within its limit."""
    limit, found = (
        evidence.config.review.max_calibration_error,
        evidence.metrics.get("calibration_error", Interval(None)),
    )
    if limit is None:
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            "No limit is set for the calibration error.",
            str(found),
            cure="set review.calibration_error",
        )
    if found.value is None:
        return make_verdict(
            CheckOutcome.CANNOT_TELL,
            "The calibration error could not be computed.",
            "unknown",
            f"≤ {format_number(limit)}",
            "wait for labels of both classes",
        )
    # Resampling only ever adds to this error, so its low end decides against a model and never for it.
    outcome: CheckOutcome = (
        CheckOutcome.PASSED
        if found.value <= limit
        else CheckOutcome.FAILED
        if found.low is not None and found.low > limit
        else CheckOutcome.CANNOT_TELL
    )
    sentence = f"Said and seen probability differ by {format_percent(found.value, 1)} on average (limit {format_percent(limit, 1)})."
    return make_verdict(
        outcome,
        sentence,
        str(found),
        f"≤ {format_number(limit)}",
        "calibrate on out-of-fold predictions",
    )


@register_check("no_slice_far_below", "No slice far below the whole", CheckSeverity.WARNS)
def check_weakest_slice(evidence: ReviewEvidence) -> Verdict:
    """No group of rows on which the model is far worse than on all of them."""
    gap, title = (
        evidence.config.review.max_slice_gap,
        METRICS[evidence.config.headline_metric].title,
    )
    if gap is None or evidence.slices is None or evidence.slices.to_frame().empty:
        why = "No limit is set for a slice." if gap is None else "There is no column to slice by."
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            why,
            cure="name columns under review.slices, and a review.max_slice_gap",
        )
    data = evidence.slices.to_frame()
    words = data["word"].value_counts()
    far, open_ = int(words.get("far below", 0)), int(words.get("cannot tell", 0))
    outcome: CheckOutcome = (
        CheckOutcome.FAILED
        if far
        else CheckOutcome.CANNOT_TELL
        if open_ == len(data)
        else CheckOutcome.PASSED
    )
    worst = data[data["word"] == "far below"] if far else data[data["word"] != "cannot tell"]
    named = worst.sort_values(["gap", "column", "group"]).head(1).to_dict("records")
    where = (
        f"{named[0]['column']} = {named[0]['group']}: {title} {format_number(float(named[0]['value']))} on {int(named[0]['rows']):,} rows"
        if named
        else "no slice has enough rows"
    )
    beside = f"; {open_} of {len(data)} slices cannot tell" if open_ else ""
    sentence = (
        f"{far} of {len(data)} slices lie far below the whole; the worst is {where}."
        if far
        else f"No slice lies far below the whole{beside}; the weakest: {where}."
    )
    return make_verdict(
        outcome,
        sentence,
        where + beside,
        f"shortfall ≤ {format_number(gap)}",
        "look at these rows in the notebook; more of them, or features that explain them",
        far=far,
        cannot_tell=open_,
        slices=len(data),
    )


@register_check(
    "refit_agrees", "The refitted model agrees with the judged one", CheckSeverity.BLOCKS
)
def check_refit_agreement(evidence: ReviewEvidence) -> Verdict:
    """The model that will serve was fitted again on all rows: it has to answer like the one judged."""
    review, found = evidence.config.review, evidence.refit_agreement
    if found is None or (
        review.min_refit_rank_correlation is None and review.max_refit_shift is None
    ):
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE,
            "The judged model is the one that serves."
            if found is None
            else "No limit is set for the refitted model.",
        )
    unit = (
        "in probability"
        if evidence.config.task == "binary"
        else "standard deviations of the target"
    )
    limits = [
        f"{what} {format_number(limit)}"
        for what, limit in (
            ("rank ≥", review.min_refit_rank_correlation),
            ("shift ≤", review.max_refit_shift),
        )
        if limit is not None
    ]
    text = f"rank correlation {format_number(found.rank_correlation)}, mean shift {format_number(found.mean_shift)} {unit}"
    missing = math.isnan(found.mean_shift) or (
        review.min_refit_rank_correlation is not None and math.isnan(found.rank_correlation)
    )
    apart = (
        review.min_refit_rank_correlation is not None
        and found.rank_correlation < review.min_refit_rank_correlation
    ) or (review.max_refit_shift is not None and abs(found.mean_shift) > review.max_refit_shift)
    outcome: CheckOutcome = (
        CheckOutcome.FAILED
        if apart
        else CheckOutcome.CANNOT_TELL
        if missing
        else CheckOutcome.PASSED
    )
    words = {"failed": "differ", "passed": "agree", "cannot tell": "cannot be compared"}[outcome]
    cure = "ask what the newest rows changed, or serve the judged model (train.refit: false)"
    return make_verdict(
        outcome,
        f"Refitted and judged model {words}: {text}.",
        text,
        ", ".join(limits),
        cure,
        rank=found.rank_correlation,
        shift=found.mean_shift,
    )


@register_check(
    "no_worse_than_champion",
    "No worse than the champion",
    CheckSeverity.BLOCKS,
    into=CHAMPION_CHECKS,
)
def check_no_worse_than_champion(evidence: ReviewEvidence) -> Verdict:
    """On the same rows, the gain over the champion lies above minus the margin."""
    margin, gain, title = (
        evidence.config.review.margin,
        evidence.champion_gain,
        METRICS[evidence.config.headline_metric].title,
    )
    if gain is None:
        none = evidence.champion_note == NO_CHAMPION.note
        return make_verdict(
            CheckOutcome.NOT_APPLICABLE if none else CheckOutcome.CANNOT_TELL,
            evidence.champion_note,
            cure="" if none else "judge on rows that came after the champion",
        )
    word = classify_difference(gain, margin)
    outcome = _OUTCOME_OF_DIFFERENCE[word]
    words = {
        "better": "better than",
        "no worse": "no worse than",
        "worse": "worse than",
        "cannot tell": "not surely as good as",
    }[word]
    cure = (
        "keep the champion"
        if outcome == "failed"
        else describe_rows_needed(gain, margin, evidence.labeled_rows)
    )
    return make_verdict(
        outcome,
        f"The model is {words} the champion: {title} gains {gain} on the same rows. {evidence.champion_note}",
        f"gain {gain}",
        f"> {format_number(-margin)}",
        cure,
        margin=margin,
    )
