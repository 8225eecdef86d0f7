"""The checks of a run: how many there are, and which failed, also without stopping it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mlops_kit.core.results import CheckOutcome, Verdict, Verdicts
from mlops_kit.core.serialization import from_json_value
from mlops_kit.project.run_manifest import RunManifest
from mlops_kit.project.stage_record import read_stage_record


class FailedCheck(NamedTuple):
    """A check that failed, and the stage that made it."""

    stage: str
    verdict: Verdict

    def describe(self) -> str:
        """Describe stage, title, name, severity and what was found, in one line."""
        verdict = self.verdict
        name = f"{verdict.title} ({verdict.check}, {verdict.severity})"
        return f"{self.stage}: {name}: {verdict.sentence}"

    def to_json_dict(self) -> dict[str, Any]:
        """Return the check as plain values."""
        verdict = self.verdict
        return {
            "stage": self.stage,
            "check": verdict.check,
            "title": verdict.title,
            "severity": str(verdict.severity),
            "sentence": verdict.sentence,
            "hint": verdict.hint,
        }


def read_verdicts_by_stage(folder: Path, manifest: RunManifest) -> dict[str, list[Verdict]]:
    """Read the verdicts of the stages that a run was asked for, in the order of the stages.

    A stage that is up to date counts; one that was not selected does not, since it was carried over
    from an earlier run.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    manifest : RunManifest
        Its manifest.
    """
    verdicts_by_stage = {}
    for stage, entry in manifest.stages.items():
        record = read_stage_record(folder, stage) if entry.is_selected else None
        if record is not None:
            verdicts_by_stage[stage] = [from_json_value(stored) for stored in record.verdicts]
    return verdicts_by_stage


def list_failed_checks(folder: Path, manifest: RunManifest) -> list[FailedCheck]:
    """List the checks of a run that failed, in the order of the stages."""
    failed_checks = []
    for stage, verdicts in read_verdicts_by_stage(folder, manifest).items():
        for verdict in verdicts:
            if verdict.outcome is CheckOutcome.FAILED:
                failed_checks.append(FailedCheck(stage, verdict))
    return failed_checks


def describe_check_counts(verdicts_by_stage: Mapping[str, Sequence[Verdict]]) -> str:
    """Describe how many checks each stage made and how they ended; empty without checks."""
    sentences = []
    for stage, verdicts in verdicts_by_stage.items():
        if verdicts:
            counted = Verdicts.from_verdicts(verdicts)
            sentences.append(counted.describe_counts(f"the {stage} stage"))
    return " ".join(sentences)
