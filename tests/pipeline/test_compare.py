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

from mlops_kit import config, store
from mlops_kit.pipeline import compare
from mlops_kit.results import Table

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\nid: key\n"


def made(home: Path, name: str, shift: float, k: object, code: str, settings: dict[str, Any], rows: int = 300) -> Path:
    """A run folder as the chain leaves one: a table, the review's metrics and scores, a figure, a notebook."""
    folder = home / "reports" / name
    rng = np.random.default_rng(0)
    y = rng.normal(size=rows)
    scores = pd.DataFrame({"key": range(rows), "y": y, "score": y + rng.normal(size=rows) + shift})
    value = float(((scores["score"] - y) ** 2).mean() ** 0.5)
    metrics = Table("How good?", "s", pd.DataFrame({"metric": ["rmse"], "value": [value], "low": [value - 0.1], "high": [value + 0.1]}))
    features = pd.DataFrame({"a": range(rows), "b": ["<b>"] * rows, **({"c": 1.0} if shift else {})})
    artifacts = [store.write_artifact(folder, "review", n, v) for n, v in (("features", features), ("metrics", metrics), ("judged_scores", scores))]
    artifacts.append(store.write_artifact(folder, "review", "version", {"version": name}, record=True))
    record = {"stage": "review", "done": True, "artifacts": {a.name: a.model_dump() for a in artifacts}, "logged": {"rows": rows, "loss": shift}, "shown": [{"title": "Loss", "figure": "figures/l.svg"}], "verdicts": [], "read": {}}
    store.write_json(folder / "stages" / "review.json", record)
    store.write_text(folder / "figures" / "l.svg", f"<svg><title>{shift}</title></svg>")
    book = new_notebook(cells=[new_code_cell("k = 1"), new_code_cell(f"k = {k}", metadata={"tags": ["injected-parameters"]}), new_code_cell(code)])
    store.write_text(folder / "notebooks" / "04_review.ipynb", writes(book))
    entry = {"status": "succeeded", "notebook": "04_review", "seconds": 3.0, "params": {"k": k}, "logged": record["logged"], "artifacts": record["artifacts"], "trace": {"packages": {"numpy": str(k)}, "files": {}, "modules": {"own.py": {"hash": code, "by": ""}}}}
    store.write_json(folder / "manifest.json", {"run": name, "status": "succeeded", "packages": {"pandas": "2"}, "stages": {"review": entry}})
    store.write_json(folder / "config.json", {"name": "tiny", "source": "t.csv", "target": "y", "task": "regression", "id": ["key"], **settings})
    return folder


@pytest.fixture
def project(tmp_path: Path) -> config.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return config.load(tmp_path)


def by_name(found: compare.Comparison, section: str) -> dict[str, compare.Row]:
    return {r.name: r for r in found.rows if r.section == section}


def test_each_kind_of_difference_is_told(project: config.Project) -> None:
    old, new = made(project.root, "a", 0.0, 1, "x = 1", {}), made(project.root, "b", 1.0, "<i>", "x = 2", {"train": {"trials": 3}})
    found = compare.compare(project, old, new)
    assert (by_name(found, "parameters")["review.k"].old, by_name(found, "parameters")["review.k"].new) == ("1", "<i>")
    assert list(by_name(found, "settings")) == ["train.trials"] and by_name(found, "settings")["train.trials"].new == "3"
    assert by_name(found, "packages")["numpy"].old == "1" and by_name(found, "modules and files")["own.py"].new == "x = 2"
    data = by_name(found, "data")
    assert data["features: columns"].new == "3" and data["features.c"].old == "not there" and "mean" in data["judged_scores.score"].new
    assert by_name(found, "logged numbers")["review.loss"].same is None
    metric = by_name(found, "metrics")["rmse"]
    assert metric.same is False and "worse by" in metric.says and "more than noise" in metric.says
    assert "-  x = 1" in found.code["04_review"] and "+  x = 2" in found.code["04_review"] and "k = 1" not in found.code["04_review"]
    assert [f[0] for f in found.figures] == ["review: Loss"]
    assert found.sentence.startswith("b against a: differences: 1 in parameters, 1 in settings")


def test_noise_is_not_called_a_difference_and_other_rows_are_told_by_their_intervals(project: config.Project) -> None:
    old = made(project.root, "a", 0.0, 1, "x = 1", {})
    near, other = made(project.root, "b", 0.001, 1, "x = 1", {}), made(project.root, "c", 0.0, 1, "x = 1", {}, rows=290)
    assert by_name(compare.compare(project, old, near), "metrics")["rmse"].same is None
    found = by_name(compare.compare(project, old, other), "metrics")["rmse"]
    assert found.same is None and found.says == "other rows: the intervals overlap, so nobody can tell"


def test_a_run_is_like_itself(project: config.Project) -> None:
    run = made(project.root, "a", 0.0, 1, "x = 1", {})
    found = compare.compare(project, run, run)
    assert found.sentence == "a against a: nothing differs beyond noise." and not found.code and not found.figures
    assert {(s.name, s.same) for s in compare.identical(run, run)} == {("features", True), ("metrics", True), ("judged_scores", True), ("version", None), ("rows", True), ("loss", True)}


def test_what_is_not_identical_is_named(project: config.Project) -> None:
    found = {s.name: s for s in compare.identical(made(project.root, "a", 0.0, 1, "x", {}), made(project.root, "b", 1.0, 1, "x", {}))}
    assert found["features"].same is False and found["loss"].what == "0.0 → 1.0" and found["rows"].same is True


def test_the_three_ways_to_say_it_escape_what_comes_from_data(project: config.Project) -> None:
    found = compare.compare(project, made(project.root, "a", 0.0, 1, "x = '</pre>'", {}), made(project.root, "b", 1.0, "<i>|", "x = 2", {}))
    page, text = compare.page(found), compare.markdown(found)
    assert "&lt;i&gt;|" in page and "<i>" not in page and "&lt;/pre&gt;" in page and "<svg><title>1.0</title></svg>" in page
    assert "| review.k | 1 | &lt;i>\\| |" in text
    assert "review.k" in compare.text(found) and json.loads(json.dumps(found.to_json_dict()))["old"] == "a"
