"""Which heavy libraries each command loads: those that it uses, and no others.

What the notebooks of a run load is tested with its record (``tests/e2e/test_notebooks.py``).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.pipeline import preloaded_modules
from mlops_kit.project import loader
from mlops_kit.project.config import pipeline
from tests.support import sample_runs, watched_project
from tests.support.environment import ROOT
from tests.support.loaded_libraries import (
    CONFIG,
    DATABASE,
    LIBRARIES_BY_STAGE,
    MODELS,
    TABLES,
    list_libraries_by_command,
    map_to_packages,
    select_heavy_libraries,
)

# By the project in which they run, what the commands load. A command that needs one library more
# gets it here, which shows what it costs; all others stay as fast as they are.
COMMANDS: dict[str, dict[str, set[str]]] = {
    "sample": {
        "--help": set(),
        "run --help": CONFIG,
        "status": DATABASE,
        "runs": DATABASE,
        "logs review": CONFIG,
        "diff previous latest": TABLES,
        "params train": CONFIG,
        "config": CONFIG,
        "config --schema": CONFIG,
        "doctor": DATABASE,
        "export cron": {*CONFIG, "jinja2"},
        "clean --dry-run": DATABASE,
        "alerts list": DATABASE,
        "report": {*DATABASE, *TABLES, "jinja2", "vl-convert-python"},
        "notebook list": CONFIG,
    },
    "watched": {
        "plan": CONFIG,
        # skrub imports Jinja and Matplotlib.
        "predict t.csv --out scores.csv": {
            *TABLES,
            *(MODELS - {"lightgbm"}),
            "jinja2",
            "matplotlib",
        },
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A project with stored runs, and one with a source and a champion."""
    folder = tmp_path_factory.mktemp("imports")
    sample = sample_runs.make_project(folder / "sample")
    sample_runs.promote(sample, "7")
    watched = watched_project.build_project(folder / "watched")
    return {"sample": sample.root, "watched": watched.root}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_loads_only_the_libraries_that_it_uses(
    name: str, folders: dict[str, Path]
) -> None:
    allowed = COMMANDS[name]
    loaded = list_libraries_by_command(list(allowed), folders[name])
    excess = {command: loaded[command] - allowed[command] for command in allowed}
    assert {command: libraries for command, libraries in excess.items() if libraries} == {}


@pytest.mark.parametrize("stage", pipeline.DEFAULT_STAGES)
def test_fork_server_imports_ahead_only_what_the_stage_uses(stage: str) -> None:
    project = loader.load_project(ROOT / "examples" / "diabetes")
    modules = preloaded_modules.list_modules_to_preload(project, [stage])
    before_the_stage = modules[: modules.index(preloaded_modules.DEFERRED_MODULES_MARKER)]
    packages = map_to_packages(before_the_stage)
    assert select_heavy_libraries(packages) <= LIBRARIES_BY_STAGE[stage]
