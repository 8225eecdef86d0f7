"""Two runs side by side: each kind of difference is told, noise is not called a difference, data are escaped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4.nbjson import writes

from mlops_kit.core import files
from mlops_kit.core.results import Table
from mlops_kit.pipeline.compare import outputs, records, rendering, tables
from mlops_kit.pipeline.compare.runs import compare_runs
from mlops_kit.project import loader
from mlops_kit.project.artifacts import write_artifact

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\nid: key\n"


def made(
    home: Path,
    name: str,
    shift: float,
    k: object,
    code: str,
    settings: dict[str, Any],
    rows: int = 300,
) -> Path:
    """A run folder as the chain leaves one: a table, the review's metrics and scores, a figure, a notebook."""
    folder = home / "reports" / name
    rng = np.random.default_rng(0)
    y = rng.normal(size=rows)
    scores = pd.DataFrame({"key": range(rows), "y": y, "score": y + rng.normal(size=rows) + shift})
    value = float(((scores["score"] - y) ** 2).mean() ** 0.5)
    metrics = Table(
        "How good?",
        "s",
        pd.DataFrame(
            {"metric": ["rmse"], "value": [value], "low": [value - 0.1], "high": [value + 0.1]}
        ),
    )
    features = pd.DataFrame(
        {"a": range(rows), "b": ["<b>"] * rows, **({"c": 1.0} if shift else {})}
    )
    artifacts = [
        write_artifact(folder, "review", n, v)
        for n, v in (("features", features), ("metrics", metrics), ("held_out_scores", scores))
    ]
    artifacts.append(write_artifact(folder, "review", "version", {"version": name}, record=True))
    record = {
        "stage": "review",
        "done": True,
        "artifacts": {a.name: a.model_dump() for a in artifacts},
        "logged": {"rows": rows, "loss": shift},
        "shown": [{"title": "Loss", "figure": "figures/l.svg"}],
        "verdicts": [],
        "read": {},
    }
    files.write_json(folder / "stages" / "review.json", record)
    files.write_text(folder / "figures" / "l.svg", f"<svg><title>{shift}</title></svg>")
    book = new_notebook(
        cells=[
            new_code_cell("k = 1"),
            new_code_cell(f"k = {k}", metadata={"tags": ["injected-parameters"]}),
            new_code_cell(code),
        ]
    )
    files.write_text(folder / "notebooks" / "04_review.ipynb", writes(book))
    entry = {
        "status": "succeeded",
        "notebook": "04_review",
        "seconds": 3.0,
        "params": {"k": k},
        "logged": record["logged"],
        "artifacts": record["artifacts"],
        "trace": {
            "packages": {"numpy": str(k)},
            "files": {},
            "modules": {"own.py": {"hash": code, "by": ""}},
        },
    }
    files.write_json(
        folder / "manifest.json",
        {
            "run": name,
            "status": "succeeded",
            "packages": {"pandas": "2"},
            "stages": {"review": entry},
        },
    )
    files.write_json(
        folder / "config.json",
        {
            "name": "tiny",
            "source": "t.csv",
            "target": "y",
            "task": "regression",
            "id": ["key"],
            **settings,
        },
    )
    return folder


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def refiled(run: Path, name: str, value: object, record: bool = False) -> None:
    """File an artifact of a run anew; None takes it away."""
    filed = files.read_json(run / "stages" / "review.json")
    filed["artifacts"].pop(name, None)
    if value is not None:
        filed["artifacts"][name] = write_artifact(
            run, "review", name, value, record=record
        ).model_dump()
    files.write_json(run / "stages" / "review.json", filed)


def measured(run: Path, value: float, low: float, high: float) -> None:
    """File the review's one metric anew."""
    refiled(
        run,
        "metrics",
        Table(
            "How good?",
            "s",
            pd.DataFrame({"metric": ["rmse"], "value": [value], "low": [low], "high": [high]}),
        ),
    )


def by_name(found: records.RunComparison, section: str) -> dict[str, records.ComparisonRow]:
    return {r.name: r for r in found.rows if r.section == section}


def test_each_kind_of_difference_is_told(project: loader.Project) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 1.0, "<i>", "x = 2", {"train": {"trials": 3}}),
    )
    found = compare_runs(project, old, new)
    assert (
        by_name(found, "parameters")["review.k"].old,
        by_name(found, "parameters")["review.k"].new,
    ) == ("1", "<i>")
    assert list(by_name(found, "settings")) == ["train.trials"]
    assert by_name(found, "settings")["train.trials"].new == "3"
    assert by_name(found, "packages")["numpy"].old == "1"
    assert by_name(found, "modules and files")["own.py"].new == "x = 2"
    data = by_name(found, "data")
    assert data["features"].new == "300 rows, 3 columns"
    assert data["features.c"].old == "not there"
    assert "mean" in data["held_out_scores.score"].new
    assert by_name(found, "logged numbers")["review.loss"].is_same is None
    metric = by_name(found, "metrics")["rmse"]
    assert metric.is_same is False
    assert metric.explanation.startswith("worse by 0.4")
    assert metric.explanation.endswith("on the same rows, more than noise")
    assert "-  x = 1" in found.code_diffs["04_review"]
    assert "+  x = 2" in found.code_diffs["04_review"]
    assert "k = 1" not in found.code_diffs["04_review"]
    assert [f[0] for f in found.figures] == ["review: Loss"]
    assert found.sentence.startswith(
        "b against a: differences: 1 in metrics, 1 in parameters, 1 in settings"
    )
    assert "of 1 more it cannot be told. rmse: worse by" in found.sentence


def test_noise_is_not_called_a_difference(project: loader.Project) -> None:
    found = compare_runs(
        project,
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 0.001, 1, "x = 1", {}),
    )
    metric = by_name(found, "metrics")["rmse"]
    assert metric.is_same is True
    assert "no more than noise" in metric.explanation
    assert "metrics" not in found.sentence


def test_rows_in_another_order_are_the_same_rows(project: loader.Project) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 1.0, 1, "x = 1", {}),
    )
    refiled(
        new,
        "held_out_scores",
        pd.read_parquet(new / "artifacts" / "held_out_scores.parquet").sample(
            frac=1, random_state=0
        ),
    )
    assert (
        "on the same rows, more than noise"
        in by_name(compare_runs(project, old, new), "metrics")["rmse"].explanation
    )


def test_other_rows_are_told_by_their_intervals_and_without_any_nobody_can_tell(
    project: loader.Project,
) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 0.0, 1, "x = 1", {}, rows=290),
    )
    verdicts = []
    for value, low, high in ((1.0, 0.9, 1.1), (2.0, 1.9, 2.1), (2.0, float("nan"), float("nan"))):
        measured(new, value, low, high)
        row = by_name(compare_runs(project, old, new), "metrics")["rmse"]
        verdicts.append((row.is_same, row.explanation))
    assert verdicts == [
        (None, "not the same rows: the intervals overlap, so nobody can tell"),
        (False, "not the same rows: the intervals lie apart"),
        (None, "no interval to judge it by"),
    ]


def test_another_target_is_not_the_same_rows(project: loader.Project) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 1.0, 1, "x = 1", {}),
    )
    refiled(
        old,
        "held_out_scores",
        pd.read_parquet(old / "artifacts" / "held_out_scores.parquet").rename(columns={"y": "z"}),
    )
    assert (
        "not the same rows"
        in by_name(compare_runs(project, old, new), "metrics")["rmse"].explanation
    )


def test_a_table_that_differs_is_never_passed_over(project: loader.Project) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {}),
        made(project.root, "b", 0.0, 1, "x = 1", {}),
    )
    refiled(new, "features", pd.read_parquet(old / "artifacts" / "features.parquet").iloc[::-1])
    found = compare_runs(project, old, new)
    assert "another order" in by_name(found, "data")["features: values"].explanation
    assert found.sentence == "b against a: differences: 1 in data."
    refiled(new, "features", None)
    assert by_name(compare_runs(project, old, new), "data")["features"].new == "not there"


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ([1.0, 2.0], [1.0, 2.01], True),
        ([1.0, 2.0], [1.0, 2.5], False),
        ([1, 2], [1.0, 2.0], False),
        ([1.0, 1.0], [1.0, 1.1], False),
        ([1.0, None], [1.0, 1.0], False),
        (["a", "b"], ["b", "c"], True),
        (["a", "b"], ["a", "a"], False),
        ([None, None], [None, None], True),
        ([True, False], [False, True], True),
    ],
)
def test_a_column_moved_if_its_type_its_mean_or_what_is_missing_did(
    old: list[Any], new: list[Any], same: bool
) -> None:
    assert tables.is_column_unchanged(pd.Series(old), pd.Series(new)) is same


def test_what_only_one_run_has_traced_is_no_difference_and_values_of_the_environment_stay_hidden(
    project: loader.Project,
) -> None:
    runs = [made(project.root, n, 0.0, 1, "x = 1", {}) for n in ("a", "b", "c")]
    for run, value, more in ((runs[0], "s3", {}), (runs[1], "s4", {"new": "1"})):
        held = files.read_json(run / "manifest.json")
        held["stages"]["review"]["trace"].update(
            env={"TOKEN": value}, python=value[1], packages=more, settings={"seed": int(value[1])}
        )
        files.write_json(run / "manifest.json", held)
    held = files.read_json(runs[2] / "manifest.json")
    del held["stages"]["review"]["trace"]
    files.write_json(runs[2] / "manifest.json", held)
    assert "differences" not in compare_runs(project, runs[2], runs[0]).sentence
    found = compare_runs(project, runs[0], runs[1])
    assert by_name(found, "environment")["TOKEN"] == records.ComparisonRow(
        "environment", "TOKEN", "", "", False, "another value"
    )
    assert list(by_name(found, "packages")) == ["Python"]
    assert by_name(found, "settings")["seed"].new == "4"


def test_a_run_with_a_setting_that_this_version_does_not_know_is_compared(
    project: loader.Project,
) -> None:
    old, new = (
        made(project.root, "a", 0.0, 1, "x = 1", {"bygone": 1}),
        made(project.root, "b", 0.0, 1, "x = 1", {}),
    )
    assert by_name(compare_runs(project, old, new), "settings")["bygone"].new == "the default"


def test_a_run_is_like_itself(project: loader.Project) -> None:
    run = made(project.root, "a", 0.0, 1, "x = 1", {})
    found = compare_runs(project, run, run)
    assert found.sentence == "a against a: nothing differs beyond noise."
    assert not found.code_diffs
    assert not found.figures
    assert {(s.name, s.is_same) for s in outputs.compare_outputs(run, run)} == {
        ("features", True),
        ("metrics", True),
        ("held_out_scores", True),
        ("version", None),
        ("rows", True),
        ("loss", True),
    }


def test_what_is_not_identical_is_named(project: loader.Project) -> None:
    old, new = made(project.root, "a", 0.0, 1, "x", {}), made(project.root, "b", 1.0, 1, "x", {})
    refiled(new, "held_out_scores", pd.DataFrame({"a": [1]}), record=True)
    refiled(new, "more", {"a": 1})
    found = {s.name: s for s in outputs.compare_outputs(old, new)}
    assert found["features"].is_same is False
    assert found["loss"].detail == "0.0 → 1.0"
    assert found["rows"].is_same is True
    assert found["held_out_scores"].is_same is False
    assert found["held_out_scores"].detail.endswith("→ a record")
    assert found["more"].detail.startswith("not there → ")


def test_every_way_to_say_it_escapes_what_comes_from_data(
    project: loader.Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "x = '''\n~~~~\n</pre>'''"
    found = compare_runs(
        project,
        made(project.root, "a", 0.0, 1, code, {}),
        made(project.root, "b", 1.0, "<i>|![x](y)[bold]", f"{code}\ny = 1", {}),
    )
    page, text = (
        rendering.render_comparison_page(found),
        rendering.format_comparison_markdown(found),
    )
    assert "&lt;i&gt;|" in page
    assert "<i>" not in page
    assert "&lt;/pre&gt;" in page
    assert "<svg><title>1.0</title></svg>" in page
    assert "| review.k | 1 | \\<i>\\|!\\[x](y)\\[bold] |" in text
    assert "~~~~~diff" in text
    assert json.loads(json.dumps(found.to_json_dict()))["old"] == "a"
    rendering.print_comparison(found)
    plain = capsys.readouterr().out
    assert plain == rendering.format_comparison_text(found) + "\n"
    assert "\x1b" not in plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    rendering.print_comparison(found)
    table = capsys.readouterr().out
    assert "\x1b" in table
    assert "[bold]" in table
    assert "┃" in table
