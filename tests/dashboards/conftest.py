"""Projects with stored results: one to read; one with a registry, and a server that decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.project.loader import Project
from tests.dashboards import sample_runs
from tests.dashboards.served_project import registered_project, server_address


@pytest.fixture
def sample_project(tmp_path: Path) -> Project:
    """A project in which version 7 is in service and version 8 waits; it has no registry."""
    project = sample_runs.make_project(tmp_path / "sample")
    sample_runs.promote(project, "7")
    return project


@pytest.fixture
def served_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show pages as Voilà does."""
    monkeypatch.setenv("VOILA_PREHEAT", "False")
