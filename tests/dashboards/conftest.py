"""Projects whose runs are told and not made: one to read; one with a registry, and a server that decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.project import loader
from tests.dashboards import story


@pytest.fixture
def told(tmp_path: Path) -> loader.Project:
    """Version 7 serves, version 8 waits; there is no registry, since a page asks none."""
    project = story.make(tmp_path / "told")
    story.serve(project, "7")
    return project
