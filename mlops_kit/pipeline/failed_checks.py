"""The checks that failed in a run, also those that do not stop it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mlops_kit.core.results import CheckOutcome, Verdict
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


def list_failed_checks(folder: Path, manifest: RunManifest) -> list[FailedCheck]:
    """List the checks that failed in the stages that a run was asked for, in their order.

    A stage that is up to date counts; one that was not selected does not, since it was carried over
    from an earlier run.

    Parameters
    ----------
    folder : Path
        The folder of the run.
    manifest : RunManifest
        Its manifest.
    """
    failed_checks = []
    for stage, entry in manifest.stages.items():
        record = read_stage_record(folder, stage) if entry.is_selected else None
        if record is None:
            continue
        for stored in record.verdicts:
            if stored["outcome"] == CheckOutcome.FAILED:
                failed_checks.append(FailedCheck(stage, from_json_value(stored)))
    return failed_checks
