"""What a run writes is checked before its first stage."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.project import loader, writable

CONFIG = "name: chain\nstages:\n  a: {notebook: a.ipynb}\n"


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / ".mlops").mkdir()
    (tmp_path / "mlops.yaml").write_text(CONFIG)
    return loader.load_project(tmp_path)


def refuse_writing(monkeypatch: pytest.MonkeyPatch, refused: Path) -> None:
    """Let one path be read-only; root may write whatever its mode says."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != refused)


def test_project_that_can_be_written_passes(project: loader.Project) -> None:
    writable.check_writable_folders(project)
    assert not project.reports_folder.exists()


@pytest.mark.parametrize("name", ["", ".mlops", ".mlops/mlflow.db", ".mlops/mlops.db"])
def test_read_only_folder_or_database_is_named(
    name: str, project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project.root / name
    if path.suffix == ".db":
        path.touch()
    refuse_writing(monkeypatch, path)
    with pytest.raises(KitError, match="is not writable") as error:
        writable.check_writable_folders(project)
    assert repr(str(path)) in str(error.value)


def test_folder_that_cannot_be_searched_is_named(
    project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may search every folder, so that what the system would say is simulated."""
    locked = project.root / "locked"
    locked.mkdir()
    stat = os.stat

    def refuse_searching(path: Path | str, **options: bool) -> os.stat_result:
        if locked in Path(path).parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse_searching)
    monkeypatch.setattr(
        os, "access", lambda path, mode: not (Path(path) == locked and mode & os.X_OK)
    )
    with pytest.raises(KitError, match="is not writable") as error:
        writable.require_writable(locked / "runs", project)
    assert repr(str(locked)) in str(error.value)


def test_missing_temporary_folder_is_explained(
    project: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", find_none)
    with pytest.raises(KitError, match="TMPDIR"):
        writable.check_writable_folders(project)
