"""Files, folders and patterns that the package reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core.dependencies import list_matching_files


@pytest.mark.parametrize("name", ["data", "data [1]", "data*"])
def test_file_or_folder_is_listed_whatever_its_name(tmp_path: Path, name: str) -> None:
    file = tmp_path / name / f"{name}.csv"
    file.parent.mkdir()
    file.touch()
    assert list_matching_files(str(file)) == [str(file)]
    assert list_matching_files(str(file.parent)) == [str(file)]


def test_pattern_lists_files_only(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.csv").mkdir()
    assert list_matching_files(str(tmp_path / "*.csv")) == [str(tmp_path / "a.csv")]
    assert list_matching_files(str(tmp_path / "c.csv")) == []
