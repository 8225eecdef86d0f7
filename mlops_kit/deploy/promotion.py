"""The decision to serve: only what passed its review and was approved."""

from __future__ import annotations

from typing import Any

from mlops_kit import decisions, tracking
from mlops_kit.database import Opinion
from mlops_kit.errors import Waiting
from mlops_kit.results import Outcome, Verdict
from mlops_kit.stage import Stage


def decide(stage: Stage, version: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    """Promote the reviewed version if it may be; say what was decided and why.

    A draft decides nothing: it tells what the run decided on the same version.

    Returns
    -------
    dict, Verdict
        ``promoted``, ``sentence`` and the record (version, by, reason, at, before); the gate.

    Raises
    ------
    Waiting
        If a person has to approve the version and nobody has said anything of it yet.
    """
    no, outcome = refusal(stage, version)
    if no:
        sentence = f"Not promoted: {no}."
        return {"promoted": False, "sentence": sentence, "why": no}, gate(outcome, sentence)
    found = approval(stage, tracking.facts_of(stage.project, version["version"]))
    if found.word != "approved":
        sentence = f"Not promoted: {f'{found.by} asked for changes' if found.word == 'changes' else f'rejected by {found.by}'}: {found.why}"
        return {"promoted": False, "sentence": sentence, "why": found.why}, gate("failed", sentence)
    done = tracking.promote(stage.project, version["version"], found.by, found.why)
    by = "automatically" if found.by == decisions.RULE else f"by {found.by}"
    sentence = f"Version {done['version']} serves now, approved {by}" + (
        f"; version {done['before']} is kept to go back to." if done["before"] else "."
    )
    return {"promoted": True, "sentence": sentence, **done}, gate("passed", sentence)


def refusal(stage: Stage, version: dict[str, Any]) -> tuple[str, Outcome]:
    """Why the version may not serve whatever a person says of it, or nothing; and what that makes of the gate."""
    if stage.config.branch:
        return f"it is one branch of several ({stage.config.branch})", "not applicable"
    if stage.sample:
        return f"it was made from a sample of {stage.sample:,} rows", "not applicable"
    if not version.get("passed"):
        return "its review did not pass", "failed"
    present = decisions.current(stage.project) if stage.draft else None
    if stage.draft and (present is None or present.version != version["version"]):
        return "it is a draft", "not applicable"
    return "", "passed"


def approval(stage: Stage, facts: dict[str, Any]) -> Opinion:
    """What was said of this version; the rule of ``approval: automatic`` says it where no person has to."""
    found = decisions.opinion(stage.project, facts)
    if found is None and stage.config.approval == "automatic":
        found = decisions.say(stage.project, facts, "approved", decisions.RULE, "review passed")
    if found is None:
        raise Waiting(
            f"version {facts['version']} waits for an approval",
            "somebody who looks at its model card and decides",
            'mlops approve --reason "why", or mlops reject --reason "why"',
        )
    return found


def gate(outcome: Outcome, sentence: str) -> Verdict:
    """The decision as a verdict."""
    cure = (
        ""
        if outcome == "passed"
        else "look at the review's checks"
        if outcome == "failed"
        else "approve it, from a full run"
    )
    return Verdict(
        "promotion",
        "May the model serve",
        outcome,
        "blocks",
        sentence,
        sentence,
        "a passed review and an approval",
        cure,
    )
