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

from mlops_kit.metrics import METRICS
from mlops_kit.registry import Registry
from mlops_kit.results import Interval, Outcome, Severity, Verdict, Verdicts, number, percent
from mlops_kit.review.against import needed, stands
from mlops_kit.review.evidence import BASELINES, NO_CHAMPION, Evidence

STANDING: dict[str, Outcome] = {
    "better": "passed",
    "no worse": "passed",
    "worse": "failed",
    "cannot tell": "cannot tell",
}
FEWEST_OF_A_CLASS = 10  # rows of the rarer class under which no metric of two classes is steady


class Check(NamedTuple):
    """A named question to the evidence; ``task`` is empty where it fits every task."""

    name: str
    title: str
    severity: Severity
    task: str
    function: Callable[[Evidence], Verdict]

    def __call__(self, evidence: Evidence) -> Verdict:
        """The check's verdict, under its own name and severity."""
        fits = self.task in {"", evidence.config.task}
        found = (
            self.function(evidence)
            if fits
            else says("not applicable", f"This is asked of {self.task} tasks only.")
        )
        return replace(found, check=self.name, title=self.title, severity=self.severity)


CHECKS: Registry[Check] = Registry("check")
AGAINST_CHAMPION: Registry[Check] = Registry("check against the champion")


def check(
    name: str, title: str, severity: Severity, task: str = "", into: Registry[Check] = CHECKS
) -> Callable[[Callable[[Evidence], Verdict]], Check]:
    """Make the decorated function a check and register it."""
    return lambda function: into.register(name)(Check(name, title, severity, task, function))


def says(
    outcome: Outcome,
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
        "warns",
        sentence,
        found,
        limit,
        "" if outcome == "passed" else cure,
        diagnostics,
    )


def run(evidence: Evidence, checks: Mapping[str, Check] = CHECKS) -> Verdicts:
    """The verdicts of all checks, the worst first."""
    return Verdicts.of(one(evidence) for one in checks.values())


def judge(gain: Interval, limit: float) -> Outcome:
    """Read a verdict off an interval: above the limit passed, below it failed, across it cannot tell."""
    if gain.value is None or gain.low is None or gain.high is None:
        return "cannot tell"
    if gain.low > limit:
        return "passed"
    return "failed" if gain.high < limit else "cannot tell"


@check("enough_rows", "Enough rows to judge on", "warns")
def enough_rows(evidence: Evidence) -> Verdict:
    """At least as many labelled rows as a slice needs."""
    limit, rows = evidence.config.review.slice_rows, evidence.rows
    sampled = f", from a sample of {evidence.sample:,}" if evidence.sample else ""
    passed = rows >= limit
    sentence = f"{rows:,} labelled rows were put aside{sampled}{'' if passed else f', fewer than {limit:,}: the intervals are wide'}."
    return says(
        "passed" if passed else "failed",
        sentence,
        f"{rows:,} rows{sampled}",
        f"≥ {limit:,}",
        "put more rows aside (split.test), or wait for labels",
    )


@check("both_classes_seen", "Both classes are there", "warns", task="binary")
def both_classes_seen(evidence: Evidence) -> Verdict:
    """Rows of both classes among those put aside, and not just a handful of one."""
    counts = {name: evidence.classes.get(name, 0) for name in ("0", "1")}
    rarer = min(counts.values())
    found = f"{counts['1']:,} of class 1, {counts['0']:,} of class 0"
    outcome: Outcome = (
        "failed" if rarer == 0 else "cannot tell" if rarer < FEWEST_OF_A_CLASS else "passed"
    )
    return says(
        outcome,
        f"The rows put aside hold {found}.",
        found,
        f"≥ {FEWEST_OF_A_CLASS} of each",
        "put a longer period aside (split.test)",
        **counts,
    )


@check("better_than_baseline", "Better than a simple model", "blocks")
def better_than_baseline(evidence: Evidence) -> Verdict:
    """A gain over the best baseline; no better than a constant is a failure whatever the interval says."""
    limit, title = (
        evidence.config.review.better_than_baseline,
        METRICS[evidence.config.headline].title,
    )
    if not (known := {b: g for b, g in evidence.gains.items() if g.value is not None}):
        return says(
            "cannot tell",
            "No baseline could be scored on the rows put aside.",
            cure="mlops run --from train",
        )
    best = min(known, key=lambda b: known[b].value or 0.0)
    gain = known[best]
    useless = [b for b in known if b == "baseline_constant" and (known[b].value or 0.0) <= 0]
    outcome: Outcome = "failed" if useless else judge(gain, limit)
    against = BASELINES[useless[0] if useless else best]
    words = {
        "passed": "better than",
        "failed": "no better than",
        "cannot tell": "not clearly better than",
    }[outcome]
    sentence = (
        f"The model is {words} {against}: {title} gains {known[useless[0]] if useless else gain}."
    )
    cure = "look for better features; where a linear model is as good, serve that (train.families)"
    return says(
        outcome,
        sentence,
        f"gain {gain} over {against}",
        f"> {number(limit)}",
        cure,
        baseline=best,
        **evidence.baselines,
    )


@check("least", "As good as it has to be", "blocks")
def least(evidence: Evidence) -> Verdict:
    """The headline metric keeps to the limit that the project's people have set."""
    limit, known, found = (
        evidence.config.review.least,
        METRICS[evidence.config.headline],
        evidence.metrics[evidence.config.headline],
    )
    if limit is None:
        return says(
            "not applicable",
            "No least quality is set.",
            str(found),
            cure="set review.least in mlops.yaml",
        )
    sign = "≥" if known.greater_is_better else "≤"
    if found.value is None:
        return says(
            "cannot tell",
            f"{known.title} could not be computed.",
            "unknown",
            f"{sign} {number(limit)}",
            "wait for labels",
        )
    weak = found.low if known.greater_is_better else found.high
    outcome: Outcome = (
        "failed"
        if known.gain(found.value, limit) < 0
        else "passed"
        if weak is not None and known.gain(weak, limit) >= 0
        else "cannot tell"
    )
    words = {"failed": "misses", "passed": "keeps to", "cannot tell": "keeps to, but not surely,"}[
        outcome
    ]
    return says(
        outcome,
        f"{known.title} {found} {words} the limit of {number(limit)}.",
        str(found),
        f"{sign} {number(limit)}",
        "improve the features or the search, or decide on another limit",
    )


@check("calibration", "Probabilities mean what they say", "warns", task="binary")
def calibration(evidence: Evidence) -> Verdict:
    """Expected calibration error within its limit."""
    limit, found = (
        evidence.config.review.calibration_error,
        evidence.metrics.get("calibration_error", Interval(None)),
    )
    if limit is None:
        return says(
            "not applicable",
            "No limit is set for the calibration error.",
            str(found),
            cure="set review.calibration_error",
        )
    if found.value is None:
        return says(
            "cannot tell",
            "The calibration error could not be computed.",
            "unknown",
            f"≤ {number(limit)}",
            "wait for labels of both classes",
        )
    # Resampling only ever adds to this error, so its low end decides against a model and never for it.
    outcome: Outcome = (
        "passed"
        if found.value <= limit
        else "failed"
        if found.low is not None and found.low > limit
        else "cannot tell"
    )
    sentence = f"Said and seen probability differ by {percent(found.value, 1)} on average (limit {percent(limit, 1)})."
    return says(
        outcome, sentence, str(found), f"≤ {number(limit)}", "calibrate on out-of-fold predictions"
    )


@check("no_slice_far_below", "No slice far below the whole", "warns")
def no_slice_far_below(evidence: Evidence) -> Verdict:
    """No group of rows on which the model is far worse than on all of them."""
    gap, title = evidence.config.review.slice_gap, METRICS[evidence.config.headline].title
    if gap is None or evidence.slices is None or evidence.slices.frame().empty:
        why = "No limit is set for a slice." if gap is None else "There is no column to slice by."
        return says(
            "not applicable", why, cure="name columns under review.slices, and a review.slice_gap"
        )
    data = evidence.slices.frame()
    words = data["word"].value_counts()
    far, open_ = int(words.get("far below", 0)), int(words.get("cannot tell", 0))
    outcome: Outcome = "failed" if far else "cannot tell" if open_ == len(data) else "passed"
    worst = data[data["word"] == "far below"] if far else data[data["word"] != "cannot tell"]
    named = worst.sort_values(["gap", "column", "group"]).head(1).to_dict("records")
    where = (
        f"{named[0]['column']} = {named[0]['group']}: {title} {number(float(named[0]['value']))} on {int(named[0]['rows']):,} rows"
        if named
        else "no slice has enough rows"
    )
    beside = f"; {open_} of {len(data)} slices cannot tell" if open_ else ""
    sentence = (
        f"{far} of {len(data)} slices lie far below the whole; the worst is {where}."
        if far
        else f"No slice lies far below the whole{beside}; the weakest: {where}."
    )
    return says(
        outcome,
        sentence,
        where + beside,
        f"shortfall ≤ {number(gap)}",
        "look at these rows in the notebook; more of them, or features that explain them",
        far=far,
        cannot_tell=open_,
        slices=len(data),
    )


@check("refit_agrees", "The refitted model agrees with the judged one", "blocks")
def refit_agrees(evidence: Evidence) -> Verdict:
    """The model that will serve was fitted again on all rows: it has to answer like the one judged."""
    review, found = evidence.config.review, evidence.agreement
    if found is None or (review.refit_rank is None and review.refit_shift is None):
        return says(
            "not applicable",
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
        f"{what} {number(limit)}"
        for what, limit in (("rank ≥", review.refit_rank), ("shift ≤", review.refit_shift))
        if limit is not None
    ]
    text = f"rank correlation {number(found.rank)}, mean shift {number(found.shift)} {unit}"
    missing = math.isnan(found.shift) or (review.refit_rank is not None and math.isnan(found.rank))
    apart = (review.refit_rank is not None and found.rank < review.refit_rank) or (
        review.refit_shift is not None and abs(found.shift) > review.refit_shift
    )
    outcome: Outcome = "failed" if apart else "cannot tell" if missing else "passed"
    words = {"failed": "differ", "passed": "agree", "cannot tell": "cannot be compared"}[outcome]
    cure = "ask what the newest rows changed, or serve the judged model (train.refit: false)"
    return says(
        outcome,
        f"Refitted and judged model {words}: {text}.",
        text,
        ", ".join(limits),
        cure,
        rank=found.rank,
        shift=found.shift,
    )


@check("no_worse_than_champion", "No worse than the champion", "blocks", into=AGAINST_CHAMPION)
def no_worse_than_champion(evidence: Evidence) -> Verdict:
    """On the same rows, the gain over the champion lies above minus the margin."""
    margin, gain, title = (
        evidence.config.review.margin,
        evidence.comparison,
        METRICS[evidence.config.headline].title,
    )
    if gain is None:
        none = evidence.champion == NO_CHAMPION.how
        return says(
            "not applicable" if none else "cannot tell",
            evidence.champion,
            cure="" if none else "judge on rows that came after the champion",
        )
    word = stands(gain, margin)
    outcome = STANDING[word]
    words = {
        "better": "better than",
        "no worse": "no worse than",
        "worse": "worse than",
        "cannot tell": "not surely as good as",
    }[word]
    cure = "keep the champion" if outcome == "failed" else needed(gain, margin, evidence.rows)
    return says(
        outcome,
        f"The model is {words} the champion: {title} gains {gain} on the same rows. {evidence.champion}",
        f"gain {gain}",
        f"> {number(-margin)}",
        cure,
        margin=margin,
    )
