"""The decision to serve: only what passed its review and was approved."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

from mlops_kit import tracking
from mlops_kit.results import Verdict

if TYPE_CHECKING:
    from mlops_kit.stage import Stage


def decide(stage: Stage, version: dict[str, Any]) -> tuple[dict[str, Any], Verdict]:
    """Promote the reviewed version if it may be; say what was decided and why.

    A draft decides nothing: it tells what the run decided on the same version.

    Returns
    -------
    dict, Verdict
        ``promoted``, ``sentence`` and the record (version, by, reason, at, before); the gate.
    """
    config = stage.config
    by = "mlops.yaml (approval: automatic)" if config.approval == "automatic" else getpass.getuser()
    no: str | None = None
    if stage.sample:
        no = f"it was made from a sample of {stage.sample:,} rows"
    elif not version.get("passed"):
        no = "its review did not pass"
    elif config.approval != "automatic":
        no = "nobody has approved it yet"
    elif stage.draft:
        present = tracking.champion(stage.project) or {}
        if present.get("version") != version["version"]:
            no = "it is a draft"
    if no:
        sentence = f"Not promoted: {no}."
        return {"promoted": False, "sentence": sentence, "why": no}, gate("not applicable" if version.get("passed") or stage.sample else "failed", sentence)
    done = tracking.promote(stage.project, version["version"], by, "review passed")
    sentence = f"Version {done['version']} serves now, approved automatically" + (f"; version {done['before']} is kept to go back to." if done["before"] else ".")
    return {"promoted": True, "sentence": sentence, **done}, gate("passed", sentence)


def gate(outcome: Any, sentence: str) -> Verdict:
    """The decision as a verdict."""
    cure = "" if outcome == "passed" else "look at the review's checks" if outcome == "failed" else "approve it, from a full run"
    return Verdict("promotion", "May the model serve", outcome, "blocks", sentence, sentence, "a passed review and an approval", cure)
