"""Paths of audit events are made absolute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlops_kit.core.file_tracer import to_path


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
