"""Paths of audit events are made absolute; searches have a limit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_kit.core import file_tracer
from mlops_kit.core.file_log import FileLog
from mlops_kit.core.file_tracer import to_path
from mlops_kit.core.traced_paths import TracedPaths


def test_path_is_relative_to_the_working_folder_or_an_open_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "open").mkdir()
    descriptor = os.open("open", os.O_RDONLY)
    assert to_path("a.txt") == str(tmp_path / "a.txt")
    assert to_path(b"a.txt", descriptor) == str(tmp_path / "open/a.txt")
    assert to_path(tmp_path / "a.txt", descriptor) == str(tmp_path / "a.txt")
    assert to_path(descriptor) is None
    os.close(descriptor)
    assert to_path("a.txt", descriptor) is None


def test_search_with_too_many_names_cannot_be_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = FileLog()
    paths = TracedPaths(str(tmp_path), str(tmp_path / "reports"))
    monkeypatch.setattr(file_tracer, "file_log", log)
    monkeypatch.setattr(file_tracer.tracer_state, "paths", paths)
    monkeypatch.setattr(file_tracer, "_MAX_SEARCH_NAMES", 2)
    for name in ("a.csv", "b.csv", "c.csv"):
        (tmp_path / name).touch()
    file_tracer.add_path_use(str(tmp_path))
    assert [use.name for use in log.untraced] == [f"{tmp_path}/** (more than 2 files)"]
    assert (log.searches, log.read) == ({}, {})
