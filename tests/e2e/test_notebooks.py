"""The seven notebooks, executed on both tables: by the pipeline, by plain papermill, by Run All.

One run per table is made for the whole session (``conftest.py``). Most tests check both runs, the
others what only one of them can show.
"""

from __future__ import annotations

import functools
import getpass
import json
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import venv
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from nbclient import NotebookClient

from mlops_kit.client import ProjectClient
from mlops_kit.core import files
from mlops_kit.data import source
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project import artifacts, loader, run_folder
from mlops_kit.project.config import pipeline
from mlops_kit.registry import store, versions
from mlops_kit.registry.batch_independence import SCORE_TOLERANCE
from mlops_kit.serving import app
from tests.support import page_states
from tests.support.commands import RunMlops
from tests.support.environment import make_clean_environment
from tests.support.loaded_libraries import LIBRARIES_BY_STAGE, select_heavy_libraries

BOOKS = [s["notebook"] for s in pipeline.DEFAULT_STAGES.values()]
RECORDS = {
    "profile",
    "numbers",
    "calibration",
    "against",
    "changes",
    "comparison",
    "version",
    "promotion",
}  # facts about the world outside: they may differ between equal runs
of_diabetes = pytest.mark.parametrize("run", ["diabetes"], indirect=True)
of_flights = pytest.mark.parametrize("run", ["flights"], indirect=True)


def environment(home: Path) -> dict[str, str]:
    """Return the environment of a person's shell: no variable of ours except the project."""
    return {
        **make_clean_environment(),
        "MLOPS_PROJECT": str(home),
    }


def mlops(run_mlops: RunMlops, home: Path, *words: str) -> str:
    done = run_mlops(*words, folder=home, environment=environment(home))
    assert done.returncode == 0, done.stderr
    return done.stdout


def read_manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(run / "manifest.json")
    return found


def hash_contents(run: Path) -> dict[str, str]:
    """Return the content hashes of a run's artifacts; records have none."""
    return {name: a.content for name, a in run_folder.list_artifacts(run).items() if a.content}


def read(run: Path, name: str) -> Any:
    return artifacts.read_artifact(run, run_folder.list_artifacts(run)[name])


def hash_files(run: Path) -> dict[str, str]:
    return {str(p.relative_to(run)): files.hash_file(p) for p in run.rglob("*") if p.is_file()}


def copy_project(run: Path, where: Path) -> Path:
    """Copy the run's whole project to another folder; return its run there."""
    home = run.parents[1]
    shutil.copytree(home, where)
    return where / run.relative_to(home)


# Both tables


def test_every_stage_succeeds_with_a_sentence_and_its_artifacts(run: Path) -> None:
    found = read_manifest(run)
    assert found["status"] == "succeeded"
    assert list(found["stages"]) == list(pipeline.DEFAULT_STAGES)
    for name, entry in found["stages"].items():
        assert entry["status"] == "succeeded", name
        assert entry["sentence"].endswith("."), name
        assert set(pipeline.DEFAULT_STAGES[name]["writes"]) <= set(entry["artifacts"]), name


def test_every_artifact_is_intact_and_lists_its_inputs(run: Path) -> None:
    found = run_folder.list_artifacts(run)
    assert artifacts.are_artifacts_intact(run, found.values())
    assert {name for name, a in found.items() if a.content is None} == RECORDS
    known = {a.content or a.sha256 for a in found.values()}
    for name, artifact in found.items():
        assert set(artifact.made_from.values()) <= known, name
    assert {"features"} <= set(found["model"].made_from)
    assert {"model"} <= set(found["version"].made_from)


def test_a_stage_depends_on_the_modules_that_its_notebook_takes_from_the_package(
    run: Path,
) -> None:
    modules = {}
    for name, entry in read_manifest(run)["stages"].items():
        modules[name] = set(entry["dependencies"]["modules"])
        assert f"mlops_kit/stages/{name}/__init__.py" in modules[name]
    assert "mlops_kit/stages/review/checks.py" in modules["review"]
    assert "mlops_kit/stages/train/search.py" in modules["train"]
    assert "mlops_kit/stages/review/checks.py" not in modules["explore"]
    assert "mlops_kit/stages/train/search.py" not in modules["deploy"]


def test_each_stage_loads_only_the_libraries_that_it_uses(run: Path) -> None:
    for name, entry in read_manifest(run)["stages"].items():
        loaded = select_heavy_libraries(entry["dependencies"]["packages"])
        assert loaded <= LIBRARIES_BY_STAGE[name], name


def test_every_notebook_is_stored_executed_with_a_code_free_page(run: Path) -> None:
    for name in BOOKS:
        book = nbformat.read(run / "notebooks" / name, as_version=4)
        assert all(c.execution_count for c in book.cells if c.cell_type == "code"), name
        page = (run / "notebooks" / name).with_suffix(".html").read_text()
        assert "open_stage(" not in page
        assert "stage.hand_over(" not in page
        assert f"notebooks/{Path(name).stem}.html" in (run / "index.html").read_text()


def test_index_has_the_sentence_of_every_stage(run: Path) -> None:
    seen = text_of(run / "index.html")
    for name, entry in read_manifest(run)["stages"].items():
        assert squeezed(entry["sentence"]) in seen, name


def test_pages_load_nothing_from_other_hosts(run: Path) -> None:
    for page in [
        run / "index.html",
        *sorted((run / "notebooks").glob("*.html")),
        run / "artifacts" / "card.html",
    ]:
        loads = Loads(page)
        assert not [
            url
            for url in loads.found
            if url.strip().lower().startswith(("http:", "https:", "//", "ws:", "wss:"))
        ], page.name


def test_metrics_have_an_interval_and_a_linear_baseline(run: Path) -> None:
    headline = "r2" if read_manifest(run)["project"] == "diabetes" else "roc_auc"
    first = read(run, "metrics").to_frame().set_index("metric").loc[headline]
    assert first["low"] < first["value"] < first["high"]
    assert np.isfinite(first["baseline_linear"])
    assert first["baseline_linear"] > first["baseline_constant"]
    sentence = read_manifest(run)["stages"]["review"]["sentence"]
    assert f"[{first['low']:.3f}, {first['high']:.3f}]" in sentence
    assert f"linear model has {first['baseline_linear']:.3f}" in sentence


def test_mlflow_has_a_run_with_a_child_per_stage(run: Path, tmp_path: Path) -> None:
    ids = read_manifest(run)["mlflow"]
    with store.connect_mlflow(
        loader.load_project(copy_project(run, tmp_path / "copy").parents[1])
    ) as client:
        assert client.get_run(ids["run"]).info.status == "FINISHED"
        for name in pipeline.DEFAULT_STAGES:
            child = client.get_run(ids[name])
            assert child.data.tags["mlflow.parentRunId"] == ids["run"]
            assert child.data.tags["mlflow.runName"] == name


# Sample runs


@of_flights
def test_sample_is_marked_everywhere(run: Path, run_mlops: RunMlops) -> None:
    assert run.name.endswith("-sample")
    assert read_manifest(run)["sample"] == 5000
    for page in (
        "index.html",
        "artifacts/card.html",
        *(f"notebooks/{Path(b).stem}.html" for b in BOOKS),
    ):
        assert "sample of 5,000" in text_of(run / page).lower(), page
    assert "sample" in mlops(run_mlops, run.parents[1], "status")


@of_flights
def test_sample_is_not_promoted(run: Path, tmp_path: Path) -> None:
    promotion = read(run, "promotion")
    assert promotion["promoted"] is False
    assert "sample of 5,000 rows" in promotion["sentence"]
    home = loader.load_project(copy_project(run, tmp_path / "copy").parents[1])
    assert versions.find_champion(home) is None
    with store.connect_mlflow(home) as client:
        assert (
            str(client.get_model_version_by_alias(home.config.name, "challenger").version)
            == read(run, "version")["version"]
        )


@of_flights
def test_flights_of_the_period_are_scored_and_monitored(run: Path) -> None:
    scores = read(run, "scores")
    assert scores["prediction_id"].is_unique
    assert scores["score"].between(0, 1).all()
    assert scores["day"].astype(str).min() == "2013-07-01"
    assert scores["day"].astype(str).max() == "2013-07-31"
    assert len(read(run, "drift").to_frame()) > 10
    assert "roc_auc" in read(run, "realized_performance").to_frame()["metric"].tolist()


# A table without time


@of_diabetes
def test_reviewed_model_is_promoted_automatically_and_pages_say_so(
    run: Path, tmp_path: Path
) -> None:
    promotion = read(run, "promotion")
    assert promotion["promoted"] is True
    assert "automatic" in promotion["actor"]
    assert promotion["promoted_at"]
    present = versions.require_champion(
        loader.load_project(copy_project(run, tmp_path / "copy").parents[1])
    )
    assert present.version == promotion["version"]
    assert present.model_hash == run_folder.list_artifacts(run)["model"].content
    assert "approval is automatic" in text_of(run / "index.html").lower()


@of_diabetes
def test_waiting_run_continues_after_approval(
    run: Path, run_mlops: RunMlops, tmp_path: Path
) -> None:
    home = copy_project(run, tmp_path / "copy").parents[1]
    run_command = functools.partial(run_mlops, folder=home, environment=environment(home))
    for file in (home / ".mlops").glob("mlops.db*"):
        file.unlink()  # as if nobody had ever decided anything
    text = (home / "mlops.yaml").read_text()
    (home / "mlops.yaml").write_text(
        text.replace(
            "approval: automatic", "approval: manual\npeople: {approvers: [somebody-else]}"
        )
    )
    waits = run_command("run", "--from", "deploy", "--json")
    summary = json.loads(waits.stdout)
    assert (waits.returncode, summary["status"], summary["stages"]["monitor"]["status"]) == (
        3,
        "waiting (approval)",
        "not run",
    )
    assert f"mlops approve {summary['run']}" in waits.stderr
    assert "Traceback" not in waits.stderr
    assert versions.find_champion(loader.load_project(home)) is None
    assert "waits for an approval" in text_of(home / "reports" / summary["run"] / "index.html")
    refused = run_command("approve", "--reason", "it is fit")
    assert refused.returncode == 2
    assert "may not decide this" in refused.stderr
    assert "somebody-else" in refused.stderr
    (home / "mlops.yaml").write_text(text.replace("approval: automatic", "approval: manual"))
    done = run_command("approve", summary["run"], "--reason", "it is <b>fit</b>")
    assert done.returncode == 0, done.stderr
    present = approvals.get_current_promotion(loader.load_project(home))
    assert present is not None
    assert present.reason == "it is <b>fit</b>"
    assert present.actor == getpass.getuser()
    late = run_command("reject", "--reason", "on second thoughts")
    assert late.returncode == 2
    assert "is already in service" in late.stderr
    assert "mlops rollback" in late.stderr
    ended = json.loads((home / "reports" / summary["run"] / "manifest.json").read_text())
    assert ended["status"] == "succeeded"
    assert {e["status"] for e in ended["stages"].values()} == {
        "succeeded",
        "skipped",
    }
    assert "it is <b>fit</b>" not in (home / "reports" / summary["run"] / "index.html").read_text()


@of_diabetes
def test_time_dependent_results_are_not_applicable_without_time(run: Path) -> None:
    assert "not applicable" in read(run, "drift").sentence.lower()
    assert "not applicable" in read(run, "realized_performance").sentence.lower()
    outcomes = {v.check: v.outcome for v in read(run, "alerts")}
    assert outcomes
    assert set(outcomes.values()) == {"not applicable"}
    trend = next(
        s
        for s in files.read_json(run / "stages" / "explore.json")["shown"]
        if "time" in s["title"].lower()
    )
    assert "no time column" in trend["sentence"]


@of_diabetes
def test_same_seed_gives_identical_artifacts(
    run: Path, run_mlops: RunMlops, fresh_diabetes_project: Path
) -> None:
    words = ("run", "--from", "prepare", "--to", "review", "--json")
    summary = json.loads(mlops(run_mlops, fresh_diabetes_project, *words))
    again = fresh_diabetes_project / "reports" / summary["run"]
    before = hash_contents(run)
    assert {
        "features",
        "recipe",
        "trials",
        "held_out_scores",
        "model",
        "metrics",
        "verdicts",
        "card",
    } <= set(hash_contents(again))
    assert hash_contents(again).items() <= before.items()
    assert read(again, "metrics").to_frame().equals(read(run, "metrics").to_frame())
    for name in ("prepare", "train", "review"):
        assert (
            read_manifest(again)["stages"][name]["logged"]
            == read_manifest(run)["stages"][name]["logged"]
        )


# Manual execution


def execute_by_papermill(notebook: Path, out: Path, home: Path) -> None:
    """Execute a notebook in its folder by papermill's own function, in a process of its own."""
    script = (
        "import sys, papermill\n"
        "papermill.execute_notebook(sys.argv[1], sys.argv[2], progress_bar=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, notebook.name, str(out)],
        cwd=notebook.parent,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def execute_as_run_all(notebook: Path, out: Path, home: Path) -> None:
    """Execute a notebook as JupyterLab does, in a kernel started in its folder."""
    client = NotebookClient(
        nbformat.read(notebook, as_version=4),
        kernel_name="python3",
        resources={"metadata": {"path": str(notebook.parent)}},
        timeout=300,
    )
    nbformat.write(client.execute(env=environment(home)), out)


MANUAL_WAYS = [execute_as_run_all, execute_by_papermill]


@of_flights
def test_manual_execution_writes_the_same_into_a_draft(run: Path, tmp_path: Path) -> None:
    run = copy_project(run, tmp_path / "copy")
    home, before = run.parents[1], hash_files(run)
    project = loader.load_project(home)
    for number, stage in enumerate(pipeline.DEFAULT_STAGES):  # by both ways in turn
        execute = MANUAL_WAYS[number % len(MANUAL_WAYS)]
        execute(project.get_notebook_path(stage), tmp_path / "out.ipynb", home)
    draft = home / "reports" / "draft"
    assert hash_contents(draft) == hash_contents(run)
    drafted = run_folder.read_stage_records(draft)
    recorded = run_folder.read_stage_records(run)
    for name in set(pipeline.DEFAULT_STAGES) - {
        "review",
        "deploy",
    }:  # these two mention the versions that the run has registered
        assert drafted[name]["sentence"] == recorded[name]["sentence"], name
        assert [s["sentence"] for s in drafted[name]["shown"]] == [
            s["sentence"] for s in recorded[name]["shown"]
        ], name
    assert read(draft, "promotion")["promoted"] is False
    assert hash_files(run) == before
    assert [p.name for p in run_folder.list_run_folders(home / "reports")] == [run.name]


# Without mlops_kit


LOAD = """
import sys
try:
    import mlops_kit.stages.stage
except ModuleNotFoundError:
    pass
else:
    raise SystemExit(f"mlops_kit is installed: {mlops_kit.__path__}")
import mlflow, numpy, pandas
mlflow.set_tracking_uri(sys.argv[1])
rows = pandas.read_parquet(sys.argv[3])
numpy.save(sys.argv[4], mlflow.pyfunc.load_model(sys.argv[2]).predict(rows))
"""


def score_without_mlops_kit(home: Path, uri: str, rows: pd.DataFrame, tmp_path: Path) -> np.ndarray:
    """Score rows in an environment that has the model's libraries but not mlops_kit."""
    bare = tmp_path / "bare"
    venv.create(bare, with_pip=False, symlinks=True)
    site = next(bare.glob("lib/python*/site-packages"))
    (site / "libraries.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # an editable install's own .pth is not read there
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    words = [
        f"sqlite:///{home}/.mlops/mlflow.db",
        uri,
        str(tmp_path / "rows.parquet"),
        str(tmp_path / "answers.npy"),
    ]
    env = {
        k: v
        for k, v in environment(home).items()
        if k not in {"PYTHONPATH", "MLOPS_PROJECT", "VIRTUAL_ENV"}
    } | {"MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [str(bare / "bin" / "python"), "-c", LOAD, *words],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers: np.ndarray = np.load(tmp_path / "answers.npy")
    return answers


@of_flights
def test_model_scores_like_the_batch_without_mlops_kit(run: Path, tmp_path: Path) -> None:
    run = copy_project(run, tmp_path / "copy")
    scores, model = read(run, "scores"), read(run, "model")
    with store.connect_mlflow(loader.load_project(run.parents[1])):  # updates the paths of the copy
        pass
    answers = score_without_mlops_kit(
        run.parents[1], model["uri"], scores[model["features"]], tmp_path
    )
    assert answers.shape == (len(scores), 2)
    np.testing.assert_allclose(answers[:, 1], scores["score"], *[SCORE_TOLERANCE] * 2)


@of_diabetes
def test_champion_scores_like_mlops_predict_without_mlops_kit(
    run: Path, run_mlops: RunMlops, tmp_path: Path
) -> None:
    run = copy_project(run, tmp_path / "copy")
    home = run.parents[1]
    scored = predict_by_command(run_mlops, home, tmp_path)
    features = read(run, "features").set_index("patient").loc[scored["patient"]]
    answers = score_without_mlops_kit(
        home, "models:/diabetes@champion", features[read(run, "model")["features"]], tmp_path
    )
    np.testing.assert_allclose(answers, scored["score"], *[SCORE_TOLERANCE] * 2)


def predict_by_command(run_mlops: RunMlops, home: Path, where: Path) -> pd.DataFrame:
    """Score fifty raw rows without their target by ``mlops predict``."""
    project = loader.load_project(home)
    source.read_source(project).drop(columns=project.config.target).head(50).to_parquet(
        where / "raw.parquet", index=False
    )
    output = where / "scored.parquet"
    mlops(run_mlops, home, "predict", str(where / "raw.parquet"), "--out", str(output))
    return pd.read_parquet(output)


# Moved projects


@of_diabetes
def test_moved_project_opens_and_scores(run: Path, run_mlops: RunMlops, tmp_path: Path) -> None:
    here, there = (
        copy_project(run, tmp_path / "here").parents[1],
        tmp_path / "other place" / "there",
    )
    before = predict_by_command(run_mlops, here, tmp_path)
    there.parent.mkdir()
    here.rename(there)
    pd.testing.assert_frame_equal(predict_by_command(run_mlops, there, tmp_path), before)
    assert json.loads(mlops(run_mlops, there, "status", "--json"))["run"] == run.name
    opened = ProjectClient(there)
    assert len(opened.load_champion().predict(pd.read_parquet(tmp_path / "raw.parquet"))) == 50
    assert opened.read_artifact("metrics").sentence == read(run, "metrics").sentence
    with sqlite3.connect(there / ".mlops" / "mlflow.db") as connection:
        dump = [
            line for line in connection.iterdump() if "'Default'" not in line
        ]  # MLflow's own experiment, which holds nothing
    connection.close()
    assert not [line for line in dump if str(here) in line or str(run.parents[1]) in line]
    assert json.loads(mlops(run_mlops, there, "run", "--json"))["is_up_to_date"] is True


# Reading pages


def squeezed(text: str) -> str:
    return " ".join(text.split())


def text_of(page: Path) -> str:
    """What a page says, without its style and scripts."""
    return squeezed(Loads(page).text)


class Loads(HTMLParser):
    """The addresses a page loads by itself (a link to follow is none), and its text."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.silent = ""
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {k: v or "" for k, v in attrs}
        self.silent = tag if tag in {"style", "script"} else self.silent
        named = [
            "src",
            "data",
            "poster",
            "background",
            "xlink:href",
            *(["href"] if tag in {"link", "image", "use", "base"} else []),
        ]
        self.found += [given[n] for n in named if n in given]
        self.found += [
            part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()
        ]
        self.styled(given.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        self.silent = "" if tag == self.silent else self.silent

    def handle_data(self, data: str) -> None:
        if self.silent == "style":
            self.styled(data)
        elif not self.silent:
            self.text += data + " "

    def styled(self, css: str) -> None:
        self.found += [part.split(")")[0].strip("'\" ") for part in css.split("url(")[1:]]
        self.found += [part.split(";")[0].strip("'\" ") for part in css.split("@import")[1:]]


def put_sample_in_service(project: loader.Project, version: str) -> None:
    """Record a promotion of a version that was trained on a sample, which no command does."""
    facts = replace(versions.load_version(project, version), review="passed", sample_rows=0)
    approvals.record_approval(project, facts, ApprovalOutcome.APPROVED, "the test", "to serve")
    approvals.record_promotion(project, facts, None, "the test", "to serve")
    versions.sync_aliases(project)


def test_example_of_the_endpoint_is_scored(run: Path, tmp_path: Path) -> None:
    home = copy_project(run, tmp_path / "copy").parents[1]
    project = loader.load_project(home)
    if versions.find_champion(project) is None:
        put_sample_in_service(project, read(run, "version")["version"])
    application = app.build_app(project)
    with TestClient(application, base_url="http://localhost:8000") as client:
        assert application.state.service.follower.champion_checked.wait(300)
        route = client.get("/openapi.json").json()["paths"]["/predict"]["post"]
        example = route["requestBody"]["content"]["application/json"]["example"]
        response = client.post("/predict", json=example)
        assert response.status_code == 200, response.text
        assert response.json()["notes"] == []
        empty = client.post("/predict", json={"rows": [{}]})
        assert empty.status_code == 422


@of_diabetes
@pytest.mark.parametrize("state", page_states.STATES)
def test_each_number_on_the_pages_is_a_stored_one_in_each_state(
    run: Path, state: str, tmp_path: Path
) -> None:
    project = page_states.copy_in_state(run.parent.parent, tmp_path / "home", state)
    assert page_states.find_page_problems(project) == {}
