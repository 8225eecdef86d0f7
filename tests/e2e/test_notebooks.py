"""The seven notebooks, run for real on both tables: by the pipeline, by plain papermill, by Run All.

One run a table is made for the whole session (``conftest.py``); what is asked here of a run is asked
of both, and then of each what only it can show.
"""

from __future__ import annotations

import getpass
import json
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient

from mlops_kit.client import ProjectClient
from mlops_kit.core import files
from mlops_kit.data import source
from mlops_kit.db import approvals
from mlops_kit.project import artifacts, loader, run_folder
from mlops_kit.project.config import pipeline
from mlops_kit.registry import store, versions
from mlops_kit.registry.batch_independence import SCORE_TOLERANCE
from tests.support.environment import make_clean_environment

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
    """What a person's shell would have: nothing of ours but the project."""
    return {
        **make_clean_environment(),
        "MLOPS_PROJECT": str(home),
    }


def attempt(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command, however it ends."""
    return subprocess.run(
        [sys.executable, "-m", "mlops_kit.cli", *words],
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def mlops(home: Path, *words: str) -> str:
    done = attempt(home, *words)
    assert done.returncode == 0 and "leaked" not in done.stderr, done.stderr
    return done.stdout


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = files.read_json(run / "manifest.json")
    return found


def contents(run: Path) -> dict[str, str]:
    """What a run handed on, by content; records are left out."""
    return {name: a.content for name, a in run_folder.list_artifacts(run).items() if a.content}


def read(run: Path, name: str) -> Any:
    return artifacts.read_artifact(run, run_folder.list_artifacts(run)[name])


def every_file(run: Path) -> dict[str, str]:
    return {str(p.relative_to(run)): files.hash_file(p) for p in run.rglob("*") if p.is_file()}


def copied(run: Path, where: Path) -> Path:
    """The run's whole project in another place; its run there."""
    home = run.parents[1]
    shutil.copytree(home, where)
    return where / run.relative_to(home)


# What holds for a run of either table


def test_every_stage_succeeds_with_a_sentence_and_what_it_promised(run: Path) -> None:
    found = manifest(run)
    assert found["status"] == "succeeded"
    assert list(found["stages"]) == list(pipeline.DEFAULT_STAGES)
    for name, entry in found["stages"].items():
        assert entry["status"] == "succeeded", name
        assert entry["sentence"].endswith("."), name
        assert set(pipeline.DEFAULT_STAGES[name]["writes"]) <= set(entry["artifacts"]), name


def test_every_artifact_is_whole_and_says_what_it_was_made_from(run: Path) -> None:
    found = run_folder.list_artifacts(run)
    assert artifacts.are_artifacts_intact(run, found.values())
    assert {name for name, a in found.items() if a.content is None} == RECORDS
    known = {a.content or a.sha256 for a in found.values()}
    for name, artifact in found.items():
        assert set(artifact.made_from.values()) <= known, name
    assert {"features"} <= set(found["model"].made_from)
    assert {"model"} <= set(found["version"].made_from)


def test_every_notebook_is_kept_executed_and_has_a_page_without_its_code(run: Path) -> None:
    for name in BOOKS:
        book = nbformat.read(run / "notebooks" / name, as_version=4)
        assert all(c.execution_count for c in book.cells if c.cell_type == "code"), name
        page = (run / "notebooks" / name).with_suffix(".html").read_text()
        assert "open_stage(" not in page
        assert "stage.hand_over(" not in page
        assert f"notebooks/{Path(name).stem}.html" in (run / "index.html").read_text()


def test_the_index_says_what_every_stage_says(run: Path) -> None:
    seen = text_of(run / "index.html")
    for name, entry in manifest(run)["stages"].items():
        assert squeezed(entry["sentence"]) in seen, name


def test_the_pages_load_nothing_from_another_host(run: Path) -> None:
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


def test_the_metrics_stand_with_an_interval_beside_a_linear_model(run: Path) -> None:
    headline = "r2" if manifest(run)["project"] == "diabetes" else "roc_auc"
    first = read(run, "metrics").frame().set_index("metric").loc[headline]
    assert first["low"] < first["value"] < first["high"]
    assert np.isfinite(first["baseline_linear"])
    assert first["baseline_linear"] > first["baseline_constant"]
    said = manifest(run)["stages"]["review"]["sentence"]
    assert f"[{first['low']:.3f}, {first['high']:.3f}]" in said
    assert f"linear model has {first['baseline_linear']:.3f}" in said


def test_mlflow_has_a_run_with_a_child_for_each_stage(run: Path, tmp_path: Path) -> None:
    ids = manifest(run)["mlflow"]
    with store.connect_mlflow(
        loader.load_project(copied(run, tmp_path / "copy").parents[1])
    ) as client:
        assert client.get_run(ids["run"]).info.status == "FINISHED"
        for name in pipeline.DEFAULT_STAGES:
            child = client.get_run(ids[name])
            assert child.data.tags["mlflow.parentRunId"] == ids["run"]
            assert child.data.tags["mlflow.runName"] == name


# A sample


@of_flights
def test_a_sample_says_so_everywhere(run: Path) -> None:
    assert run.name.endswith("-sample")
    assert manifest(run)["sample"] == 5000
    for page in (
        "index.html",
        "artifacts/card.html",
        *(f"notebooks/{Path(b).stem}.html" for b in BOOKS),
    ):
        assert "sample of 5,000" in text_of(run / page).lower(), page
    assert "sample" in mlops(run.parents[1], "status")


@of_flights
def test_a_sample_is_not_promoted(run: Path, tmp_path: Path) -> None:
    made = read(run, "promotion")
    assert made["promoted"] is False
    assert "sample of 5,000 rows" in made["sentence"]
    home = loader.load_project(copied(run, tmp_path / "copy").parents[1])
    assert versions.find_champion(home) is None
    with store.connect_mlflow(home) as client:
        assert (
            str(client.get_model_version_by_alias(home.config.name, "challenger").version)
            == read(run, "version")["version"]
        )


@of_flights
def test_flights_of_the_period_are_scored_and_watched(run: Path) -> None:
    scores = read(run, "scores")
    assert scores["prediction_id"].is_unique
    assert scores["score"].between(0, 1).all()
    assert scores["day"].astype(str).min() == "2013-07-01"
    assert scores["day"].astype(str).max() == "2013-07-31"
    assert len(read(run, "drift").frame()) > 10
    assert "roc_auc" in read(run, "realized_performance").frame()["metric"].tolist()


# A table without time


@of_diabetes
def test_a_reviewed_model_is_promoted_by_the_rule_and_the_pages_say_whose_rule(
    run: Path, tmp_path: Path
) -> None:
    made = read(run, "promotion")
    assert made["promoted"] is True
    assert "automatic" in made["actor"]
    assert made["promoted_at"]
    present = versions.require_champion(
        loader.load_project(copied(run, tmp_path / "copy").parents[1])
    )
    assert present.version == made["version"]
    assert present.model_hash == run_folder.list_artifacts(run)["model"].content
    assert "approval is automatic" in text_of(run / "index.html").lower()


@of_diabetes
def test_a_person_approves_and_the_run_that_waited_goes_on(run: Path, tmp_path: Path) -> None:
    home = copied(run, tmp_path / "copy").parents[1]
    for file in (home / ".mlops").glob("mlops.db*"):
        file.unlink()  # as if nobody had ever decided anything
    text = (home / "mlops.yaml").read_text()
    (home / "mlops.yaml").write_text(
        text.replace(
            "approval: automatic", "approval: manual\npeople: {approvers: [somebody-else]}"
        )
    )
    waits = attempt(home, "run", "--from", "deploy", "--json")
    made = json.loads(waits.stdout)
    assert (waits.returncode, made["status"], made["stages"]["monitor"]["status"]) == (
        3,
        "waiting (approval)",
        "not run",
    )
    assert f"mlops approve {made['run']}" in waits.stderr
    assert "Traceback" not in waits.stderr
    assert versions.find_champion(loader.load_project(home)) is None
    assert "waits for an approval" in text_of(home / "reports" / made["run"] / "index.html")
    refused = attempt(home, "approve", "--reason", "it is fit")
    assert refused.returncode == 2
    assert "may not decide this" in refused.stderr
    assert "somebody-else" in refused.stderr
    (home / "mlops.yaml").write_text(text.replace("approval: automatic", "approval: manual"))
    done = attempt(home, "approve", made["run"], "--reason", "it is <b>fit</b>")
    assert done.returncode == 0, done.stderr
    present = approvals.get_current_promotion(loader.load_project(home))
    assert present is not None
    assert present.reason == "it is <b>fit</b>"
    assert present.actor == getpass.getuser()
    late = attempt(home, "reject", "--reason", "on second thoughts")
    assert late.returncode == 2
    assert "is already in service" in late.stderr
    assert "mlops rollback" in late.stderr
    ended = json.loads((home / "reports" / made["run"] / "manifest.json").read_text())
    assert ended["status"] == "succeeded"
    assert {e["status"] for e in ended["stages"].values()} == {
        "succeeded",
        "skipped",
    }
    assert "it is <b>fit</b>" not in (home / "reports" / made["run"] / "index.html").read_text()


@of_diabetes
def test_what_needs_time_is_said_to_be_not_applicable(run: Path) -> None:
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
def test_the_same_seed_makes_the_same_again(run: Path, fresh_diabetes_project: Path) -> None:
    made = json.loads(
        mlops(fresh_diabetes_project, "run", "--from", "prepare", "--to", "review", "--json")
    )
    again, before = fresh_diabetes_project / "reports" / made["run"], contents(run)
    assert {
        "features",
        "recipe",
        "trials",
        "held_out_scores",
        "model",
        "metrics",
        "verdicts",
        "card",
    } <= set(contents(again))
    assert contents(again).items() <= before.items()
    assert read(again, "metrics").frame().equals(read(run, "metrics").frame())
    for name in ("prepare", "train", "review"):
        assert manifest(again)["stages"][name]["logged"] == manifest(run)["stages"][name]["logged"]


# By hand


def papermill(books: list[Path], out: Path, home: Path) -> None:
    """As a person calls it in the notebooks' folder, one notebook after the other in one script."""
    script = "import sys, papermill\nfor book in sys.argv[2:]:\n    papermill.execute_notebook(book, sys.argv[1], progress_bar=False)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(out), *(b.name for b in books)],
        cwd=books[0].parent,
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def run_all(books: list[Path], out: Path, home: Path) -> None:
    """As JupyterLab does: each cell in turn, in a kernel that stands in the notebooks' folder."""
    for book in books:
        client = NotebookClient(
            nbformat.read(book, as_version=4),
            kernel_name="python3",
            resources={"metadata": {"path": str(book.parent)}},
            timeout=300,
        )
        nbformat.write(client.execute(env=environment(home)), out)


@pytest.mark.parametrize(
    ("run", "how"), [("diabetes", papermill), ("flights", run_all)], indirect=["run"]
)
def test_by_hand_the_notebooks_make_the_same_into_a_draft(
    run: Path, how: Callable[[list[Path], Path, Path], None], tmp_path: Path
) -> None:
    run = copied(run, tmp_path / "copy")
    home, before = run.parents[1], every_file(run)
    project = loader.load_project(home)
    how(
        [project.get_notebook_path(name) for name in pipeline.DEFAULT_STAGES],
        tmp_path / "out.ipynb",
        home,
    )
    draft = home / "reports" / "draft"
    assert contents(draft) == contents(run)
    # the diabetes' champion is this very model; a sample has none
    assert set(read(draft, "against").frame()["verdict"]) == (
        {"no worse"} if how is papermill else set()
    )
    said, recorded = run_folder.read_stage_records(draft), run_folder.read_stage_records(run)
    for name in set(pipeline.DEFAULT_STAGES) - {
        "review",
        "deploy",
    }:  # these two speak of the champion, which the run has made
        assert said[name]["sentence"] == recorded[name]["sentence"], name
        assert [s["sentence"] for s in said[name]["shown"]] == [
            s["sentence"] for s in recorded[name]["shown"]
        ], name
    assert read(draft, "promotion")["promoted"] is False
    assert every_file(run) == before
    assert [p.name for p in run_folder.list_run_folders(home / "reports")] == [run.name]


# Where mlops_kit is not


LOAD = """
import sys
try:
    import mlops_kit.stage
except ModuleNotFoundError:
    pass
else:
    raise SystemExit(f"mlops_kit is here: {mlops_kit.__path__}")
import mlflow, numpy, pandas
mlflow.set_tracking_uri(sys.argv[1])
numpy.save(sys.argv[4], mlflow.pyfunc.load_model(sys.argv[2]).predict(pandas.read_parquet(sys.argv[3])))
"""


def elsewhere(home: Path, uri: str, rows: pd.DataFrame, tmp_path: Path) -> np.ndarray:
    """A model's answers in an environment that has its libraries and not ours."""
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
def test_without_mlops_kit_the_model_gives_the_scores_of_the_batch(
    run: Path, tmp_path: Path
) -> None:
    run = copied(run, tmp_path / "copy")
    scores, model = read(run, "scores"), read(run, "model")
    with store.connect_mlflow(loader.load_project(run.parents[1])):  # mends the paths of the copy
        pass
    answers = elsewhere(run.parents[1], model["uri"], scores[model["features"]], tmp_path)
    assert answers.shape == (len(scores), 2)
    np.testing.assert_allclose(answers[:, 1], scores["score"], *[SCORE_TOLERANCE] * 2)


@of_diabetes
def test_without_mlops_kit_the_champion_gives_the_scores_of_mlops_predict(
    run: Path, tmp_path: Path
) -> None:
    run = copied(run, tmp_path / "copy")
    home = run.parents[1]
    scored = predicted(home, tmp_path)
    features = read(run, "features").set_index("patient").loc[scored["patient"]]
    answers = elsewhere(
        home, "models:/diabetes@champion", features[read(run, "model")["features"]], tmp_path
    )
    np.testing.assert_allclose(answers, scored["score"], *[SCORE_TOLERANCE] * 2)


def predicted(home: Path, where: Path) -> pd.DataFrame:
    """Fifty raw rows without their target, scored by the command line."""
    project = loader.load_project(home)
    source.read_source(project).drop(columns=project.config.target).head(50).to_parquet(
        where / "raw.parquet", index=False
    )
    mlops(home, "predict", str(where / "raw.parquet"), "--out", str(where / "scored.parquet"))
    return pd.read_parquet(where / "scored.parquet")


# Elsewhere


@of_diabetes
def test_a_moved_project_still_opens_and_scores(run: Path, tmp_path: Path) -> None:
    here, there = copied(run, tmp_path / "here").parents[1], tmp_path / "other place" / "there"
    before = predicted(here, tmp_path)
    there.parent.mkdir()
    here.rename(there)
    pd.testing.assert_frame_equal(predicted(there, tmp_path), before)
    assert json.loads(mlops(there, "status", "--json"))["run"] == run.name
    opened = ProjectClient(there)
    assert len(opened.load_champion().predict(pd.read_parquet(tmp_path / "raw.parquet"))) == 50
    assert opened.read_artifact("metrics").sentence == read(run, "metrics").sentence
    with sqlite3.connect(there / ".mlops" / "mlflow.db") as connection:
        dump = [
            line for line in connection.iterdump() if "'Default'" not in line
        ]  # MLflow's own experiment, which holds nothing
    connection.close()
    assert not [line for line in dump if str(here) in line or str(run.parents[1]) in line]
    assert json.loads(mlops(there, "run", "--json"))["nothing_to_do"] is True


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
