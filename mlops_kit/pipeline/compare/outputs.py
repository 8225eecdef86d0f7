"""Whether two runs produced identical artifacts and numbers (``mlops reproduce``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_kit.pipeline.compare.records import NOT_THERE, OutputComparison
from mlops_kit.project.run_folder import read_stage_records
from mlops_kit.project.run_manifest import read_stored_manifest

_HASH_CHARACTERS = 64
_SHOWN_HASH_CHARACTERS = 12
_RECORD = "a record"  # shown in place of a content hash, which a record does not have


def compare_outputs(old: Path, new: Path) -> list[OutputComparison]:
    """Compare the artifacts and logged numbers of all stages that were completed in a run.

    The stages are in the order of the run. Records of the outside world are not compared.

    Parameters
    ----------
    old, new : Path
        Folders of the run and of the one to compare with it.
    """
    comparisons: list[OutputComparison] = []
    new_records = read_stage_records(new)
    old_records = read_stage_records(old)
    for stage in read_stored_manifest(old).stages:
        old_record = old_records.get(stage)
        if old_record is None or not old_record.get("done"):
            continue
        new_record = new_records.get(stage)
        if new_record is None:
            comparisons.append(OutputComparison(stage, "", False, "was not executed again"))
        else:
            comparisons += _compare_stage_outputs(stage, old_record, new_record)
    return comparisons


def _compare_stage_outputs(
    stage: str, old_record: Mapping[str, Any], new_record: Mapping[str, Any]
) -> list[OutputComparison]:
    """Compare the artifacts and logged numbers of one stage."""
    comparisons = []
    old_contents = _get_contents(old_record)
    new_contents = _get_contents(new_record)
    for name in dict.fromkeys([*old_contents, *new_contents]):
        comparison = _compare_output(
            stage,
            name,
            old_contents.get(name, NOT_THERE),
            new_contents.get(name, NOT_THERE),
        )
        comparisons.append(comparison)
    old_numbers = old_record["logged"]
    new_numbers = new_record["logged"]
    for name in dict.fromkeys([*old_numbers, *new_numbers]):
        comparison = _compare_output(
            stage,
            name,
            str(old_numbers.get(name, NOT_THERE)),
            str(new_numbers.get(name, NOT_THERE)),
        )
        comparisons.append(comparison)
    return comparisons


def _get_contents(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the content hashes of a stage's artifacts by name; None for a record."""
    return {name: artifact["content"] for name, artifact in record["artifacts"].items()}


def _compare_output(
    stage: str,
    name: str,
    old: str | None,
    new: str | None,
) -> OutputComparison:
    """Compare one content hash or logged number."""
    if old is None and new is None:
        return OutputComparison(stage, name, None, "a record of the outside world")
    old_text = _shorten_value(old)
    if old == new:
        return OutputComparison(stage, name, True, old_text)
    return OutputComparison(stage, name, False, f"{old_text} → {_shorten_value(new)}")


def _shorten_value(value: str | None) -> str:
    """Return a value as it is shown: a content hash is shortened."""
    if not value:
        return _RECORD
    if len(value) == _HASH_CHARACTERS:
        return value[:_SHOWN_HASH_CHARACTERS]
    return value
