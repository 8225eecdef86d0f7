"""Branches: common stages run once, each branch by itself, and one table compares them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import branches, report, runner
from mlops_kit.project import loader, run_manifest
from tests.support.pipeline_fixtures import write_notebook


def run_tiny_branches(
    home: Path, *each: str, keep_going: bool = False, force: bool = False
) -> run_manifest.RunManifest:
    project = loader.load_project(home)
    varied = branches.parse_branch_grid(project, list(each))
    return branches.run_branches(
        project,
        runner.select_stages(project),
        varied,
        branches.BranchOptions({}, force, keep_going=keep_going),
        lambda text, transient=False: None,
    )


def test_common_stages_run_once_and_a_failed_branch_leaves_the_others_alone(
    tiny: Path,
) -> None:
    made = run_tiny_branches(tiny, "second.k=1,5,2", keep_going=True)
    assert made.status == "failed"
    assert made.stages["first"].status == "succeeded"
    assert {s: e.reason for s, e in made.stages.items() if e.status == "not run"} == {
        "second": "in its branches",
        "third": "in its branches",
    }
    assert {b.name: b.status for b in made.branches} == {
        "k=1": "succeeded",
        "k=5": "failed",
        "k=2": "succeeded",
    }
    folder = tiny / "reports" / made.run
    for name in ("k=1", "k=5", "k=2"):
        found = run_manifest.read_manifest(
            folder / run_manifest.BRANCHES_FOLDER / f"{made.run}.{name}"
        )
        assert found.stages["first"].status == "skipped"
        assert found.branch == name
    columns, rows = report.build_branch_table(made)
    assert columns == ["second.k", "status", "seconds", "second.total", "error"]
    assert [(r[0], r[1], r[3], r[4]) for r in rows] == [
        (1, "succeeded", 6, ""),
        (5, "failed", 30, "ValueError: five"),
        (2, "succeeded", 12, ""),
    ]
    page = (folder / "index.html").read_text()
    assert "2 of 3 branches succeeded." in page
    assert f"branches/{made.run}.k%3D5/index.html" in page
    error = runner.find_run_error(made)
    assert error is not None
    assert error.exit_code == 1
    assert "branch k=5 failed: ValueError: five" in str(error)
    again = run_tiny_branches(tiny, "second.k=1,2")
    assert again.status == "succeeded"
    assert [b.seconds for b in again.branches] == [0, 0]
    forced = run_tiny_branches(tiny, "second.k=1", force=True)
    found = run_manifest.read_manifest(
        tiny / "reports" / forced.run / run_manifest.BRANCHES_FOLDER / f"{forced.run}.k=1"
    ).stages
    assert [(e.status, e.reason) for e in found.values()] == [
        ("skipped", f"as in {forced.run}"),
        ("succeeded", ""),
        ("succeeded", ""),
    ]


def test_no_branch_starts_after_a_failure_without_keep_going(tiny: Path) -> None:
    (tiny / "mlops.yaml").write_text((tiny / "mlops.yaml").read_text() + "run: {jobs: 1}\n")
    made = run_tiny_branches(tiny, "second.k=5,1")
    assert {b.name: b.status for b in made.branches} == {"k=5": "failed", "k=1": "not run"}


def test_grid_has_each_combination_and_includes_foreach(tiny: Path) -> None:
    text = (
        (tiny / "mlops.yaml")
        .read_text()
        .replace("writes: [total]", "writes: [total], foreach: {k: [1, 2]}")
    )
    (tiny / "mlops.yaml").write_text(text)
    varied = branches.parse_branch_grid(loader.load_project(tiny), ["seed=3,4"])
    assert varied == {"second.k": [1, 2], "seed": [3, 4]}
    assert branches.format_branch_name({"second.k": 1, "seed": 3}) == "k=1,seed=3"
    assert branches.select_branching_stages(
        loader.load_project(tiny), ["second.k"], ["first", "second", "third"]
    ) == [
        "second",
        "third",
    ]
    assert branches.select_branching_stages(
        loader.load_project(tiny), ["seed"], ["first", "second"]
    ) == ["first", "second"]


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ("k=1", "'k' cannot differ"),
        ("second.q=1", "'second.q' cannot differ"),
        ("second.k", "cannot be parsed"),
        ("second.k=", "cannot be parsed"),
        ("second.k=1,1", "a value twice"),
        ("second.k=1,x", "second.k: 'x'"),
        ("second.k=[1", "is not a list"),
    ],
)
def test_invalid_branch_is_refused_before_anything_runs(tiny: Path, each: str, said: str) -> None:
    with pytest.raises(KitError, match=said):
        run_tiny_branches(tiny, each)
    assert not (tiny / "reports").exists()


def test_run_without_branches_carries_nothing_over_from_a_branch(
    tiny: Path, run_tiny: Callable[..., dict[str, Any]]
) -> None:
    run_tiny_branches(tiny, "second.k=2,3")
    made = run_tiny(only="third", force=True)
    assert (made.stages["second"].status, made.stages["third"].status) == (
        "not run",
        "not run",
    )


def test_branch_value_is_parsed_as_the_parameter_type(tiny: Path) -> None:
    write_notebook(tiny, "second", "pass", parameters="k: str = 'a'  # Name.")
    assert branches.parse_branch_grid(loader.load_project(tiny), ["second.k=007,'b, c',1e5"]) == {
        "second.k": ["007", "b, c", "1e5"]
    }
    assert branches.parse_branch_grid(
        loader.load_project(tiny), ["as_of=2013-07-01,2013-08-01"]
    ) == {"as_of": ["2013-07-01", "2013-08-01"]}
