"""Comparison of two runs: differences are found, noise is not called one, values are escaped."""

from __future__ import annotations

import hashlib
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
from mlops_kit.pipeline import object_store
from mlops_kit.pipeline.compare import notebooks, outputs, records, rendering, runs, tables
from mlops_kit.pipeline.compare.records import Difference
from mlops_kit.project import artifacts, loader

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\nid: key\n"
CONFIG = {"name": "tiny", "source": "t.csv", "target": "y", "task": "regression", "id": ["key"]}


def build_metrics(value: float, low: float, high: float) -> Table:
    """The review's table of metrics, with one metric."""
    row = {"metric": ["rmse"], "value": [value], "low": [low], "high": [high]}
    return Table("How good?", "s", pd.DataFrame(row))


def write_run(
    home: Path,
    name: str,
    shift: float = 0.0,
    k: object = 1,
    code: str = "x = 1",
    settings: dict[str, Any] | None = None,
    rows: int = 300,
) -> Path:
    """Write a run folder as the pipeline does: a table, metrics, scores, a figure, a notebook.

    Scores, a column of the table and the figure depend on ``shift``.
    """
    folder = home / "reports" / name
    rng = np.random.default_rng(0)
    y = rng.normal(size=rows)
    score = y + rng.normal(size=rows) + shift
    scores = pd.DataFrame({"key": range(rows), "y": y, "score": score})
    rmse = float(((score - y) ** 2).mean() ** 0.5)
    features = pd.DataFrame({"a": range(rows), "b": ["<b>"] * rows})
    if shift:
        features["c"] = 1.0
    tables_by_name = {
        "features": features,
        "metrics": build_metrics(rmse, rmse - 0.1, rmse + 0.1),
        "held_out_scores": scores,
    }
    written = [
        artifacts.write_artifact(folder, "review", artifact, value)
        for artifact, value in tables_by_name.items()
    ]
    version = {"version": name}
    written.append(artifacts.write_artifact(folder, "review", "version", version, record=True))
    record = {
        "stage": "review",
        "done": True,
        "artifacts": {a.name: a.model_dump() for a in written},
        "logged": {"rows": rows, "loss": shift},
        "shown": [{"title": "Loss", "figure": "figures/l.svg"}],
        "verdicts": [],
        "read": {},
    }
    files.write_json(folder / "stages" / "review.json", record)
    files.write_text(folder / "figures" / "l.svg", f"<svg><title>{shift}</title></svg>")
    cells = [
        new_code_cell("k = 1"),
        new_code_cell(f"k = {k}", metadata={"tags": ["injected-parameters"]}),
        new_code_cell(code),
    ]
    notebook = writes(new_notebook(cells=cells))
    files.write_text(folder / "notebooks" / "04_review.ipynb", notebook)
    files.write_json(folder / "manifest.json", build_manifest(name, k, code, record))
    files.write_json(folder / "config.json", CONFIG | (settings or {}))
    return folder


def build_manifest(name: str, k: object, code: str, record: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run with one stage."""
    entry = {
        "status": "succeeded",
        "notebook": "04_review",
        "seconds": 3.0,
        "params": {"k": k},
        "logged": record["logged"],
        "artifacts": record["artifacts"],
        "dependencies": {
            "packages": {"numpy": str(k)},
            "files": {},
            "modules": {"own.py": {"hash": code, "imported_by": ""}},
        },
    }
    return {
        "schema_version": 2,
        "run": name,
        "project": "tiny",
        "started": "2024-01-01T00:00:00+00:00",
        "status": "succeeded",
        "packages": {"pandas": "2"},
        "stages": {"review": entry},
    }


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def replace_artifact(run: Path, name: str, value: object, record: bool = False) -> None:
    """Replace an artifact of a run; None removes it."""
    path = run / "stages" / "review.json"
    stage_record = files.read_json(path)
    stage_record["artifacts"].pop(name, None)
    if value is not None:
        artifact = artifacts.write_artifact(run, "review", name, value, record=record)
        stage_record["artifacts"][name] = artifact.model_dump()
    files.write_json(path, stage_record)


def add_artifact(run: Path, artifact: artifacts.Artifact) -> None:
    """Add an artifact to the record of a run."""
    path = run / "stages" / "review.json"
    stage_record = files.read_json(path)
    stage_record["artifacts"][artifact.name] = artifact.model_dump()
    files.write_json(path, stage_record)


def read_table(run: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(run / "artifacts" / f"{name}.parquet")


def get_rows(comparison: records.RunComparison, section: str) -> dict[str, records.ComparisonRow]:
    """The rows of a section, by name."""
    return {row.name: row for row in comparison.rows_by_section.get(section, [])}


def test_each_kind_of_difference_is_found(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(
        project.root,
        "b",
        shift=1.0,
        k="<i>",
        code="x = 2",
        settings={"train": {"trials": 3}},
    )
    comparison = runs.compare_runs(project, old, new)
    parameter = get_rows(comparison, "parameters")["review.k"]
    assert (parameter.old, parameter.new) == ("1", "<i>")
    settings = get_rows(comparison, "settings")
    assert list(settings) == ["train.trials"]
    assert settings["train.trials"].new == "3"
    assert get_rows(comparison, "packages")["numpy"].old == "1"
    assert get_rows(comparison, "modules and files")["own.py"].new == "x = 2"
    data = get_rows(comparison, "data")
    assert data["features"].new == "300 rows, 3 columns"
    assert data["features.c"].old == "not there"
    assert "mean" in data["held_out_scores.score"].new
    logged = get_rows(comparison, "logged numbers")
    assert logged["review.loss"].difference == Difference.UNKNOWN
    metric = get_rows(comparison, "metrics")["rmse"]
    assert metric.difference == Difference.DIFFERENT
    assert metric.explanation.startswith("worse by 0.4")
    assert metric.explanation.endswith("on the same rows, more than noise")
    diff = comparison.code_diffs["04_review"]
    assert diff.splitlines() == ["code cell 2:", "@@ -1 +1 @@", "-x = 1", "+x = 2"]
    assert "k = 1" not in diff
    assert [figure.title for figure in comparison.figures] == ["review: Loss"]
    expected = "b compared with a: differences: 1 in metrics, 1 in parameters, 1 in settings"
    assert comparison.sentence.startswith(expected)
    assert "undecided: 1. rmse: worse by" in comparison.sentence


def write_notebook(path: Path, *cells: str) -> Path:
    files.write_text(path, writes(new_notebook(cells=[new_code_cell(cell) for cell in cells])))
    return path


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("a = 1\nb = 2", "c = 3"), []),
        (
            ("a = 1\nb = 3", "c = 3"),
            ["code cell 1:", "@@ -1,2 +1,2 @@", " a = 1", "-b = 2", "+b = 3"],
        ),
        (("new = 0", "a = 1\nb = 2", "c = 3"), ["new code cell 1:", "@@ -0,0 +1 @@", "+new = 0"]),
        (("c = 3",), ["removed code cell 1:", "@@ -1,2 +0,0 @@", "-a = 1", "-b = 2"]),
        (
            ("a = 1", "b = 2", "c = 3"),
            ["code cells 1 to 2, before: code cell 1:", "@@ -1,2 +1,3 @@", " a = 1", "+", " b = 2"],
        ),
    ],
)
def test_changed_cells_are_shown_as_lines(
    tmp_path: Path, cells: tuple[str, ...], expected: list[str]
) -> None:
    old = write_notebook(tmp_path / "old.ipynb", "a = 1\nb = 2", "c = 3")
    new = write_notebook(tmp_path / "new.ipynb", *cells)
    assert notebooks.diff_code_cells(old, new).splitlines() == expected


def store_source_file(project: loader.Project, text: str) -> str:
    """Store a file as a run does; return the hash of its content."""
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    files.write_text(object_store.get_object_path(project, content_hash), text)
    return content_hash


def test_changed_modules_are_shown_as_lines(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b")
    old_hash = store_source_file(project, "def double(x):\n    return 2 * x\n")
    new_hash = store_source_file(project, "def double(x):\n    return x + x\n")
    data_hash = store_source_file(project, "1,2\n")
    package_hash = store_source_file(project, "pass\n")
    update_dependencies(
        old,
        modules={"own.py": {"hash": old_hash}, "mlops_kit/client.py": {"hash": old_hash}},
        files={"data.csv": old_hash, "rules.yaml": old_hash, "lost.py": 64 * "0"},
    )
    update_dependencies(
        new,
        modules={
            "own.py": {"hash": new_hash},
            "added.py": {"hash": package_hash},
            "mlops_kit/client.py": {"hash": package_hash},
        },
        files={"data.csv": data_hash, "rules.yaml": old_hash, "lost.py": 64 * "1"},
    )
    comparison = runs.compare_runs(project, old, new)
    assert set(comparison.code_diffs) == {"own.py", "added.py"}
    assert comparison.code_diffs["own.py"].splitlines() == [
        "@@ -1,2 +1,2 @@",
        " def double(x):",
        "-    return 2 * x",
        "+    return x + x",
    ]
    code = get_rows(comparison, "code")
    assert code["own.py"].explanation == "2 lines"
    assert code["added.py"].explanation == "1 line"


def compare_json(project: loader.Project, old_value: object, new_value: object) -> dict[str, Any]:
    """The rows of an artifact with these values."""
    old = write_run(project.root, "a")
    new = write_run(project.root, "b")
    replace_artifact(old, "summary", old_value)
    replace_artifact(new, "summary", new_value)
    return get_rows(runs.compare_runs(project, old, new), "JSON artifacts")


def test_json_artifacts_are_compared_value_by_value(project: loader.Project) -> None:
    old_value = {"rows": 3, "means": {"north": 1.5, "a b": None}, "labels": ["a", "1"], "gone": []}
    new_value = {"rows": 2, "means": {"north": 1.5, "a b": True}, "labels": ["a", 1, {"x": 2}]}
    rows = compare_json(project, old_value, new_value)
    shown = {
        name: (row.old, row.new, str(row.difference), row.explanation) for name, row in rows.items()
    }
    assert shown == {
        "summary.rows": ("3", "2", "cannot tell", "difference -1"),
        'summary.means["a b"]': ("null", "true", "differs", ""),
        "summary.labels[1]": ('"1"', "1", "differs", ""),
        "summary.labels[2]": ("not there", '{"x": 2}', "differs", ""),
        "summary.gone": ("[]", "not there", "differs", ""),
    }


def test_json_artifact_that_one_run_lacks_is_shown(project: loader.Project) -> None:
    rows = compare_json(project, None, {"rows": 3})
    assert rows["summary"].old == "not there"
    comparison = runs.compare_runs(project, *sorted((project.root / "reports").iterdir()))
    assert "<h2>JSON artifacts</h2>" in rendering.render_comparison_page(comparison)
    assert rows["summary"].new.endswith(" bytes")


def test_table_in_a_json_artifact_is_compared_by_row_and_column(project: loader.Project) -> None:
    rows = compare_json(project, build_metrics(1.0, 0.0, 2.0), build_metrics(1.5, 0.0, 2.0))
    assert list(rows) == ["summary.data[0].value"]
    assert rows["summary.data[0].value"].explanation == "difference 0.500"


def test_many_changed_values_are_counted(project: loader.Project) -> None:
    rows = compare_json(project, {"a": list(range(100))}, {"a": list(range(1, 101))})
    assert len(rows) == 21
    assert rows["summary: other values"].explanation == "80 more"


def test_json_file_of_the_project_is_compared_value_by_value(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b")
    for run, text in ((old, '{"n": 1}'), (new, '{"n": 4}')):
        files.write_text(project.root / "counts.json", text)
        artifact = artifacts.copy_file_artifact(
            run, "review", "counts.json", project.root / "counts.json"
        )
        add_artifact(run, artifact)
    rows = get_rows(runs.compare_runs(project, old, new), "JSON artifacts")
    assert rows["counts.json.n"].explanation == "difference 3"
    files.write_text(new / "artifacts" / "counts.json", "not JSON")
    rows = get_rows(runs.compare_runs(project, old, new), "JSON artifacts")
    assert "cannot be read as JSON" in rows["counts.json"].explanation


def test_noise_is_not_called_a_difference(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", shift=0.001)
    comparison = runs.compare_runs(project, old, new)
    metric = get_rows(comparison, "metrics")["rmse"]
    assert metric.difference == Difference.NONE
    assert "no more than noise" in metric.explanation
    assert "metrics" not in comparison.sentence


def test_rows_in_another_order_are_the_same_rows(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", shift=1.0)
    shuffled = read_table(new, "held_out_scores").sample(frac=1, random_state=0)
    replace_artifact(new, "held_out_scores", shuffled)
    metric = get_rows(runs.compare_runs(project, old, new), "metrics")["rmse"]
    assert "on the same rows, more than noise" in metric.explanation


@pytest.mark.parametrize(
    ("value", "low", "high", "difference", "explanation"),
    [
        (
            1.0,
            0.9,
            1.1,
            Difference.UNKNOWN,
            "not the same rows: the confidence intervals overlap",
        ),
        (
            2.0,
            1.9,
            2.1,
            Difference.DIFFERENT,
            "not the same rows: the confidence intervals do not overlap",
        ),
        (
            2.0,
            float("nan"),
            float("nan"),
            Difference.UNKNOWN,
            "no confidence interval to compare",
        ),
    ],
)
def test_metrics_of_other_rows_are_compared_by_their_intervals(
    project: loader.Project,
    value: float,
    low: float,
    high: float,
    difference: Difference,
    explanation: str,
) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", rows=290)
    replace_artifact(new, "metrics", build_metrics(value, low, high))
    metric = get_rows(runs.compare_runs(project, old, new), "metrics")["rmse"]
    assert (metric.difference, metric.explanation) == (difference, explanation)


def test_scores_stored_under_their_old_name_are_compared(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", shift=1.0)
    scores = read_table(old, "held_out_scores")
    replace_artifact(old, "held_out_scores", None)
    replace_artifact(old, "judged_scores", scores)
    metric = get_rows(runs.compare_runs(project, old, new), "metrics")["rmse"]
    assert "on the same rows, more than noise" in metric.explanation


def test_rows_with_another_target_are_not_the_same_rows(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", shift=1.0)
    renamed = read_table(old, "held_out_scores").rename(columns={"y": "z"})
    replace_artifact(old, "held_out_scores", renamed)
    metric = get_rows(runs.compare_runs(project, old, new), "metrics")["rmse"]
    assert "not the same rows" in metric.explanation


def test_table_that_differs_is_always_shown(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b")
    replace_artifact(new, "features", read_table(old, "features").iloc[::-1])
    comparison = runs.compare_runs(project, old, new)
    assert "another order" in get_rows(comparison, "data")["features: values"].explanation
    assert comparison.sentence == "b compared with a: differences: 1 in data."


def test_table_that_is_gone_is_shown(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b")
    replace_artifact(new, "features", None)
    comparison = runs.compare_runs(project, old, new)
    assert get_rows(comparison, "data")["features"].new == "not there"


@pytest.mark.parametrize(
    ("old", "new", "is_unchanged"),
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
def test_column_is_unchanged_if_type_mean_and_missing_share_are(
    old: list[Any], new: list[Any], is_unchanged: bool
) -> None:
    assert tables.is_column_unchanged(pd.Series(old), pd.Series(new)) is is_unchanged


def update_dependencies(run: Path, **values: Any) -> None:
    """Change the recorded dependencies of the review."""
    manifest = files.read_json(run / "manifest.json")
    manifest["stages"]["review"]["dependencies"].update(values)
    files.write_json(run / "manifest.json", manifest)


def test_dependencies_are_compared_if_both_runs_recorded_them(project: loader.Project) -> None:
    old, new, unrecorded = (write_run(project.root, name) for name in "abc")
    update_dependencies(old, env={"TOKEN": "s3"}, python="3", packages={}, settings={"seed": 3})
    update_dependencies(
        new, env={"TOKEN": "s4"}, python="4", packages={"new": "1"}, settings={"seed": 4}
    )
    manifest = files.read_json(unrecorded / "manifest.json")
    del manifest["stages"]["review"]["dependencies"]
    files.write_json(unrecorded / "manifest.json", manifest)
    assert "differences" not in runs.compare_runs(project, unrecorded, old).sentence
    comparison = runs.compare_runs(project, old, new)
    assert list(get_rows(comparison, "packages")) == ["Python"]
    assert get_rows(comparison, "settings")["seed"].new == "4"
    # The values of environment variables are not shown.
    assert get_rows(comparison, "environment")["TOKEN"] == records.ComparisonRow(
        "environment", "TOKEN", "", "", Difference.DIFFERENT, "another value"
    )


def test_run_with_an_unknown_setting_is_compared(project: loader.Project) -> None:
    old = write_run(project.root, "a", settings={"bygone": 1})
    new = write_run(project.root, "b")
    comparison = runs.compare_runs(project, old, new)
    assert get_rows(comparison, "settings")["bygone"].new == "the default"


def test_setting_under_its_old_name_is_no_difference(project: loader.Project) -> None:
    old = write_run(project.root, "a", settings={"train": {"seconds": 60}})
    new = write_run(project.root, "b", settings={"train": {"max_seconds": 60}})
    update_dependencies(old, settings={"serve.rows": 10})
    update_dependencies(new, settings={"serve.max_rows": 10})
    comparison = runs.compare_runs(project, old, new)
    assert not get_rows(comparison, "settings")


def test_run_compared_with_itself_has_no_differences(project: loader.Project) -> None:
    run = write_run(project.root, "a")
    comparison = runs.compare_runs(project, run, run)
    assert comparison.sentence == "a compared with a: nothing differs beyond noise."
    assert not comparison.code_diffs
    assert not comparison.figures
    output_comparisons = outputs.compare_outputs(run, run)
    assert {(output.name, output.is_same) for output in output_comparisons} == {
        ("features", True),
        ("metrics", True),
        ("held_out_scores", True),
        ("version", None),
        ("rows", True),
        ("loss", True),
    }


def test_outputs_that_are_not_identical_are_named(project: loader.Project) -> None:
    old = write_run(project.root, "a")
    new = write_run(project.root, "b", shift=1.0)
    replace_artifact(new, "held_out_scores", pd.DataFrame({"a": [1]}), record=True)
    replace_artifact(new, "more", {"a": 1})
    by_name = {output.name: output for output in outputs.compare_outputs(old, new)}
    assert by_name["features"].is_same is False
    assert by_name["loss"].detail == "0.0 → 1.0"
    assert by_name["rows"].is_same is True
    assert by_name["held_out_scores"].is_same is False
    assert by_name["held_out_scores"].detail.endswith("→ a record")
    assert by_name["more"].detail.startswith("not there → ")


@pytest.fixture
def hostile_comparison(project: loader.Project) -> records.RunComparison:
    """A comparison whose values and code hold markup."""
    code = "x = '''\n~~~~\n</pre>'''"
    old = write_run(project.root, "a", code=code)
    new = write_run(project.root, "b", shift=1.0, k="<i>|![x](y)[bold]", code=f"{code}\ny = 1")
    return runs.compare_runs(project, old, new)


def test_values_are_escaped_on_the_page(hostile_comparison: records.RunComparison) -> None:
    page = rendering.render_comparison_page(hostile_comparison)
    assert "&lt;i&gt;|" in page
    assert "<i>" not in page
    assert "&lt;/pre&gt;" in page
    assert "<svg><title>1.0</title></svg>" in page


def test_values_are_escaped_in_markdown(hostile_comparison: records.RunComparison) -> None:
    markdown = rendering.format_comparison_markdown(hostile_comparison)
    assert "| review.k | 1 | \\<i>\\|!\\[x](y)\\[bold] |" in markdown
    assert "~~~~~diff" in markdown


def test_comparison_is_json_serializable(hostile_comparison: records.RunComparison) -> None:
    stored = json.loads(json.dumps(hostile_comparison.to_json_dict()))
    assert stored["old"] == "a"
    assert stored["rows"][0]["difference"] == "differs"


def test_comparison_is_printed_plainly_without_a_terminal(
    hostile_comparison: records.RunComparison, capsys: pytest.CaptureFixture[str]
) -> None:
    rendering.print_comparison(hostile_comparison)
    printed = capsys.readouterr().out
    assert printed == rendering.format_comparison_text(hostile_comparison) + "\n"
    assert "\x1b" not in printed


def test_comparison_is_printed_as_tables_in_a_terminal(
    hostile_comparison: records.RunComparison,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "140")
    rendering.print_comparison(hostile_comparison)
    printed = capsys.readouterr().out
    assert "\x1b" in printed
    assert "[bold]" in printed
    assert "┃" in printed
