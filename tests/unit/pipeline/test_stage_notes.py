"""What a stage used that cannot be traced is described with the cells that people see."""

from __future__ import annotations

from mlops_kit.pipeline.stage_notes import list_notes, number_cells
from mlops_kit.project.config.pipeline import StageConfig
from mlops_kit.project.run_manifest import StageDependencies, UntracedDependency

CELLS = [
    {"metadata": {"tags": ["parameters"]}, "execution_count": 1},
    {"metadata": {"tags": ["injected-parameters"]}, "execution_count": 2},
    {"metadata": {}, "execution_count": None},
    {"metadata": {}, "execution_count": 5},
]
DEPENDENCIES = StageDependencies(
    untraced=[
        UntracedDependency(name="curl", cell=3),
        UntracedDependency(name="curl", cell=4),
        UntracedDependency(name="host:80"),
    ]
)


def test_cells_are_counted_without_the_injected_one() -> None:
    used = {"untraced": [("curl", 5), ("git", 0)], "errors": [("lost", 1)], "files": {}}
    assert number_cells(used, CELLS) == {
        "untraced": [("curl", 3), ("git", 0)],
        "errors": [("lost", 1)],
        "files": {},
    }


def test_notes_name_what_cannot_be_traced_and_errors() -> None:
    assert list_notes(StageConfig(), DEPENDENCIES, {"errors": [("lost", 1), ("late", 0)]}) == [
        "uses something that cannot be traced: `curl` (cell 3), `host:80`; "
        "declare `files:` or `rerun:`",
        "lost (cell 1)",
        "late",
    ]


def test_declared_files_or_rerun_accept_what_cannot_be_traced() -> None:
    assert list_notes(StageConfig(rerun="changed"), DEPENDENCIES, {}) == []
    assert list_notes(StageConfig(files=["a.csv"]), DEPENDENCIES, {}) == []
