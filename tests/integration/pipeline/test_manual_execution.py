"""A stage that was run in JupyterLab is taken over by the next run; edits can be accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from mlops_kit.core import files
from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import accept, plan, runner
from mlops_kit.project import artifacts, loader, run_folder, run_manifest
from mlops_kit.registry.store import connect_mlflow
from tests.support.pipeline_fixtures import write_notebook

RunTiny = Callable[..., dict[str, Any]]


def run_by_hand(home: Path, name: str, skip: int | None = None) -> None:
    """Run a notebook as JupyterLab does, in a plain kernel in its folder, and save it."""
    path = home / "notebooks" / f"{name}.ipynb"
    book = nbformat.read(path, as_version=4)
    whole = list(book.cells)
    if skip is not None:
        del book.cells[skip]
    NotebookClient(
        book, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    book.cells = whole
    nbformat.write(book, path)


def plan_actions(home: Path, **given: dict[str, Any]) -> dict[str, tuple[str, str]]:
    project = loader.load_project(home)
    chosen = runner.select_stages(project)
    return {
        d.stage: (d.action, d.summary)
        for d in plan.plan_stages(
            project,
            chosen,
            {s: runner.resolve_stage_values(project, s, given.get(s, {})) for s in chosen},
        )
    }


@pytest.mark.filterwarnings("ignore")
def test_stage_run_in_order_by_hand_is_taken_over(tiny: Path, run_tiny: RunTiny) -> None:
    run_tiny()
    write_notebook(
        tiny,
        "second",
        "total = 7\nstage.log(total=total)",
        "stage.write('total', {'total': total})",
        "stage.hand_over('Seven.')",
        parameters="k: int = 1  # Factor.",
    )
    run_by_hand(tiny, "second")
    action, reason = plan_actions(tiny)["second"]
    assert action == "skip"
    assert reason.startswith("second.ipynb as saved ")
    assert plan_actions(tiny, second={"k": 2})["second"][0] == "run"
    made = run_tiny()
    entry, folder = made.stages["second"], tiny / "reports" / made.run
    assert (entry.status, entry.sentence, entry.logged) == (
        "skipped",
        "Seven.",
        {"total": 7},
    )
    assert artifacts.read_artifact(folder, run_folder.list_artifacts(folder)["total"]) == {
        "total": 7
    }
    assert made.stages["third"].status == "succeeded"
    assert (folder / "notebooks" / "second.html").exists()
    assert entry.was_run_by_hand
    assert not made.stages["first"].was_run_by_hand
    assert set(made.mlflow) == {"run", "second", "third"}
    with connect_mlflow(loader.load_project(tiny)) as client:
        logged_run = client.get_run(made.mlflow["second"])
    assert logged_run.info.status == "FINISHED"
    assert logged_run.data.metrics == {"total": 7}
    assert logged_run.data.params == {"k": "1"}
    assert logged_run.data.tags["run_by_hand"] == "True"
    assert logged_run.data.tags["mlflow.parentRunId"] == made.mlflow["run"]
    assert run_tiny().is_up_to_date
    later = run_tiny(third={"seed": 1})
    assert not later.stages["second"].was_run_by_hand
    assert set(later.mlflow) == {"run", "third"}


@pytest.mark.filterwarnings("ignore")
def test_stage_not_run_as_in_a_pipeline_is_not_taken_over(tiny: Path, run_tiny: RunTiny) -> None:
    run_tiny()
    write_notebook(
        tiny,
        "second",
        "total = 7",
        "extra = 1",
        "stage.write('total', {'total': total})",
        "stage.hand_over('Seven.')",
        parameters="k: int = 1  # Factor.",
    )
    run_by_hand(tiny, "second", skip=4)  # a cell was left out
    assert plan_actions(tiny)["second"][0] == "run"
    run_by_hand(tiny, "second")
    assert plan_actions(tiny)["second"][0] == "skip"
    files.write_text(
        tiny / "reports" / "draft" / "artifacts" / "total.json", "{}"
    )  # and its output was changed since
    assert plan_actions(tiny)["second"][0] == "run"


def test_accepted_edit_is_recorded_and_skipped(tiny: Path, run_tiny: RunTiny) -> None:
    made = run_tiny()
    write_notebook(
        tiny,
        "first",
        "stage.write('numbers', {'a': [1, 2, 1 + 2]})",
        "stage.log(n=3)",
        "stage.hand_over('Three numbers.')",
    )
    project = loader.load_project(tiny)
    values = {s: runner.resolve_stage_values(project, s, {}) for s in ("first", "second")}
    assert plan_actions(tiny)["first"][0] == "run"
    assert accept.accept_stages(project, ["first", "second"], values, "ada") == {
        "first": ["code cell 3 of first changed"]
    }
    assert plan_actions(tiny)["first"][0] == "skip"
    assert run_tiny().is_up_to_date
    stored = run_manifest.read_manifest(tiny / "reports" / made.run)
    assert stored.stages["first"].accepted.actor == "ada"


@pytest.mark.parametrize(
    ("values", "break_it", "said"),
    [({"k": 2}, False, "parameter k: 1 → 2"), ({"k": 1}, True, "output `total` is damaged")],
)
def test_changed_parameters_and_damaged_outputs_cannot_be_accepted(
    tiny: Path, run_tiny: RunTiny, values: dict[str, int], break_it: bool, said: str
) -> None:
    made = run_tiny()
    if break_it:
        files.write_text(tiny / "reports" / made.run / "artifacts" / "total.json", "{}")
    with pytest.raises(KitError, match="second cannot be accepted as up to date") as error:
        accept.accept_stages(loader.load_project(tiny), ["second"], {"second": values}, "ada")
    assert said in error.value.message
