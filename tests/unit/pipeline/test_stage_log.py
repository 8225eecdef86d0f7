"""The log of a stage that has none yet, and of a run without a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import stage_log
from mlops_kit.project.run_manifest import (
    RunManifest,
    RunStatus,
    StageEntry,
    StageStatus,
    write_manifest,
)


def write_run(folder: Path, **stages: StageEntry) -> Path:
    write_manifest(folder, RunManifest(run="r", status=RunStatus.FAILED, stages=stages))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run whose second stage failed; the third was not run, the fourth carried over."""
    return write_run(
        tmp_path,
        first=StageEntry(status=StageStatus.SUCCEEDED, sentence="Three numbers."),
        second=StageEntry(status=StageStatus.TIMED_OUT),
        third=StageEntry(reason="needs second"),
        fourth=StageEntry(status=StageStatus.SKIPPED, reason="as in q", sentence="The end."),
    )


def test_stage_that_was_not_run_is_refused_with_the_stages_that_were(folder: Path) -> None:
    with pytest.raises(KitError) as refused:
        stage_log.format_stage_log(folder, "third")
    assert refused.value.message == f"third was not run in {folder.name}: needs second"
    assert refused.value.expected == "a stage that has been started: first, second, fourth"


def test_unknown_stage_is_answered_with_the_stages_of_the_run(folder: Path) -> None:
    with pytest.raises(KitError) as refused:
        stage_log.format_stage_log(folder, "secnd")
    assert refused.value.expected.startswith("'second' (of: first,")


def test_stage_that_printed_nothing_says_so(folder: Path) -> None:
    text = stage_log.format_stage_log(folder, "first")
    assert text.splitlines()[1:] == ["It printed nothing. Three numbers."]
    running = write_run(folder, first=StageEntry(status=StageStatus.RUNNING))
    assert "It has printed nothing yet." in stage_log.format_stage_log(running, "first")


def test_stage_that_was_carried_over_names_the_run_that_executed_it(folder: Path) -> None:
    first_line = stage_log.format_stage_log(folder, "fourth").splitlines()[0]
    assert first_line == f"fourth of run {folder.name}: skipped (as in q)"


def test_without_a_name_the_stage_that_did_not_succeed_is_meant(folder: Path) -> None:
    assert stage_log.find_unsuccessful_stage(folder) == "second"
    succeeded = write_run(folder, first=StageEntry(status=StageStatus.SUCCEEDED))
    with pytest.raises(KitError) as refused:
        stage_log.find_unsuccessful_stage(succeeded)
    assert refused.value.expected == "a stage that has been started: first"
    assert refused.value.hint == "mlops logs first"
