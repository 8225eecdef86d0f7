"""The registry: hashes, trusted types, a moved project, versions, concurrent processes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import skops.io
from mlflow.exceptions import MlflowException
from sklearn.linear_model import LinearRegression, LogisticRegression

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.results import Verdict
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import comparison, models, registration, run_log, store, versions
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.review import register_reviewed_model
from mlops_kit.stages.stage import Stage
from tests.support.mlflow_stores import write_empty_store

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n"


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mlops.yaml").write_text(YAML)
    write_empty_store(home)
    return loader.load_project(home)


def make_data() -> tuple[pd.DataFrame, np.ndarray]:
    x = pd.DataFrame({"a": np.linspace(0, 1, 50), "b": np.cos(np.arange(50))})
    return x, (2 * x["a"] - x["b"]).to_numpy()


def save_linear_model(project: loader.Project) -> tuple[models.SavedModel, LinearRegression]:
    import mlflow

    x, y = make_data()
    model = LinearRegression().fit(x, y)
    with (
        store.connect_mlflow(project) as client,
        mlflow.start_run(experiment_id=store.ensure_experiment(project, client)),
    ):
        return models.save_model(
            client, project, "model", model, x.head(3), {"threshold": None}
        ), model


def test_equal_fits_have_equal_hashes(tmp_path: Path) -> None:
    x, y = make_data()
    for name, target in (("a", y), ("b", y), ("c", y + x["a"] ** 2)):
        skops.io.dump(LinearRegression().fit(x, target), tmp_path / name)
    a, b, c = (models.compute_model_hash(tmp_path / n) for n in "abc")
    assert a == b != c


def test_untrusted_type_is_refused(tmp_path: Path) -> None:
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    skops.io.dump(Pipeline([("f", FunctionTransformer(shutil.rmtree))]), tmp_path / "m")
    with pytest.raises(RunFailedError, match="allow-list"):
        models.check_model_types(tmp_path / "m")


@pytest.mark.slow
def test_changed_file_is_not_loaded(project: loader.Project) -> None:
    record, _ = save_linear_model(project)
    with pytest.raises(RunFailedError, match="has changed"):
        models.load_model(project, replace(record, sha256="0" * 64))


@pytest.mark.slow
def test_record_that_points_at_another_model_is_not_loaded(project: loader.Project) -> None:
    record, _ = save_linear_model(project)
    with pytest.raises(RunFailedError, match="holds another model"):
        models.load_model(project, replace(record, model_hash="0" * 64))


@pytest.mark.slow
def test_moved_project_loads_its_model(project: loader.Project) -> None:
    record, model = save_linear_model(project)
    there = project.root.parent / "there"
    project.root.rename(there)
    again = models.load_model(loader.load_project(there), record)
    assert np.array_equal(again.coef_, model.coef_)


def register_version(project: loader.Project, review: str = "passed", sample: str = "0") -> str:
    record, _ = save_linear_model(project)
    tags = {
        **record.to_record(),
        "evidence_hash": "",
        "features": '["a", "b"]',
        "threshold": "null",
        "judged": "{}",
        "as_of": "None",
        "review": review,
        "sample": sample,
        "author": "",
    }
    with store.connect_mlflow(project) as client:
        version = registration.create_version(client, project, record.uri, tags)
    if review == "passed" and sample == "0":
        approvals.record_approval(
            project, versions.load_version(project, version), "approved", "somebody", "it is fit"
        )
    return version


def get_champion_alias(project: loader.Project) -> str:
    with store.connect_mlflow(project) as client:
        return str(client.get_model_version_by_alias(project.config.name, "champion").version)


@pytest.mark.slow
def test_alias_moved_by_hand_does_not_change_the_champion_and_is_corrected(
    project: loader.Project,
) -> None:
    first, second = register_version(project), register_version(project)
    versions.promote_version(project, first, "me", "why")
    with store.connect_mlflow(project) as client:
        client.set_registered_model_alias(project.config.name, "champion", second)
    assert versions.require_champion(project).version == first
    assert get_champion_alias(project) == second
    versions.sync_aliases(project)
    assert get_champion_alias(project) == first


@pytest.mark.slow
def test_version_changed_since_its_approval_is_refused(project: loader.Project) -> None:
    version = register_version(project)
    versions.promote_version(project, version, "me", "why")
    with store.connect_mlflow(project) as client:
        client.set_model_version_tag(project.config.name, version, "model_hash", "another")
    with pytest.raises(RunFailedError, match="has changed since it was approved"):
        versions.find_champion(project)
    with pytest.raises(RunFailedError, match="has no approval"):
        versions.promote_version(project, version, "me", "again")


@pytest.mark.slow
def test_version_that_no_review_registered_is_described(project: loader.Project) -> None:
    record, _ = save_linear_model(project)
    with store.connect_mlflow(project) as client:
        tags = {"review": "passed", **record.to_record()}
        version = registration.create_version(client, project, record.uri, tags)
    with pytest.raises(
        RunFailedError, match="has no record of as_of, author, evidence_hash, features"
    ):
        versions.promote_version(project, version, "me", "why")
    with pytest.raises(RunFailedError, match="the registry has no version '99'"):
        versions.promote_version(project, "99", "me", "why")


@pytest.mark.slow
def test_failed_review_or_sample_is_not_promoted(
    project: loader.Project,
) -> None:
    with pytest.raises(RunFailedError, match="did not pass"):
        versions.promote_version(project, register_version(project, review="failed"), "me", "why")
    with pytest.raises(RunFailedError, match="sample of 50 rows"):
        versions.promote_version(project, register_version(project, sample="50"), "me", "why")
    assert versions.find_champion(project) is None


@pytest.mark.slow
def test_rollback_restores_the_previous_version(project: loader.Project) -> None:
    first, second = register_version(project), register_version(project)
    versions.promote_version(project, first, "me", "why")
    done = versions.promote_version(project, second, "me", "better")
    assert (done.version, done.previous_version) == (second, first)
    assert versions.roll_back(project, "me", "worse after all").version == first
    assert versions.require_champion(project).version == first


def test_rollback_without_an_earlier_version_is_described(project: loader.Project) -> None:
    with pytest.raises(KitError, match="no earlier version"):
        versions.roll_back(project, "me", "why")


JUNE = "2013-06-01 00:00:00+00:00"


def make_champion(as_of: str, first_time: str, row_key_hash: str) -> versions.ModelVersion:
    return versions.ModelVersion(
        version="7",
        model_hash="m7",
        evidence_hash="e7",
        review="passed",
        sample_rows=0,
        author="ann",
        uri="final",
        sha256="s7",
        features=("a",),
        threshold=None,
        evaluation=versions.EvaluationModel("evaluated", "m6", "s6", first_time, row_key_hash),
        as_of=as_of,
    )


@pytest.mark.parametrize(
    ("first_row", "as_of", "compared_model", "explanation"),
    [
        ("2013-07-02", "2013-07-01", "final", "was trained on none"),
        ("2013-06-15", "2013-07-01", "evaluated", "is represented by its evaluation model"),
        ("2013-05-15", "2013-07-01", None, "was trained on some"),
    ],
)
def test_champion_is_compared_by_a_model_that_was_not_trained_on_the_rows(
    first_row: str, as_of: str, compared_model: str | None, explanation: str
) -> None:
    review = SimpleNamespace(require_gain=False)
    project: Any = SimpleNamespace(config=SimpleNamespace(time="m", review=review))
    champion = make_champion(f"{as_of} 00:00:00+00:00", JUNE, "")
    rows = pd.DataFrame({"m": pd.to_datetime([first_row, "2013-07-20"], utc=True)})
    model, sentence = comparison.select_comparison_model(project, champion, rows)
    assert (model.uri if model else None) == compared_model
    assert explanation in sentence


def test_without_time_the_held_out_rows_must_be_the_same(project: loader.Project) -> None:
    rows = pd.DataFrame({"row_id": [3, 1, 2]})
    champion = make_champion("None", "", comparison.hash_row_keys(project, rows))
    model, _ = comparison.select_comparison_model(project, champion, rows.iloc[::-1])
    assert model is not None
    assert model.uri == "evaluated"
    assert comparison.select_comparison_model(project, champion, rows.head(2))[0] is None


def test_baselines_and_best_trial_of_each_family_get_an_mlflow_run() -> None:
    trials = pd.DataFrame(
        {
            "trial": [1, 2, 3, 4],
            "family": ["a", "b", "a", "b"],
            "score": [0.5, 0.4, 0.3, 0.2],
            "status": ["complete", "complete", "complete", "pruned"],
            "parameters": "",
        }
    )
    recipe = Recipe(
        family="linear",
        params={},
        threshold=None,
        features=["x"],
        metric="rmse",
        less_is_better=True,
        score=0.5,
        rows=100,
        folds=3,
        trials=4,
        seconds=1.0,
        stopped_by_clock=False,
        baselines={"constant": 0.9},
    )
    notable = run_log.select_notable_trials(run_log.SearchResult(trials, recipe))
    assert [(trial.name, trial.score) for trial in notable] == [
        ("baseline constant", 0.9),
        ("best b", 0.4),
        ("best a", 0.3),
    ]


@pytest.mark.slow
def test_four_processes_can_create_a_store_at_once(project: loader.Project) -> None:
    code = (
        "from mlops_kit.project import loader\n"
        "from mlops_kit.registry import store\n"
        "with store.connect_mlflow(loader.load_project()) as client:\n"
        "    print(len(client.search_experiments()))"
    )
    shutil.rmtree(project.root / ".mlops")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=project.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [(p.communicate(timeout=180), p.returncode) for p in started]
    assert [code for _, code in ended] == [0] * 4, ended
    assert {out.strip() for (out, _), _ in ended} == {"2"}  # ours and MLflow's Default


@pytest.mark.slow
def test_pyfunc_predicts_probabilities_without_mlops_kit(
    project: loader.Project,
) -> None:
    import mlflow

    x, y = make_data()
    binary = loader.Project(project.root, project.config.model_copy(update={"task": "binary"}))
    model = LogisticRegression().fit(x, y > y.mean())
    with (
        store.connect_mlflow(binary) as client,
        mlflow.start_run(experiment_id=store.ensure_experiment(binary, client)),
    ):
        record = models.save_model(client, binary, "model", model, x.head(3), {"threshold": 0.5})
        folder = models.download_model_file(client, record.uri).parent
    x.to_parquet(project.root / "x.parquet")
    code = (
        "import sys, mlflow, pandas as pd, numpy as np\n"
        "model = mlflow.pyfunc.load_model(sys.argv[1])\n"
        "np.save(sys.argv[3], model.predict(pd.read_parquet(sys.argv[2])))\n"
        "assert 'mlops_kit' not in sys.modules"
    )
    out = project.root / "p.npy"
    subprocess.run(
        [sys.executable, "-c", code, str(folder), str(project.root / "x.parquet"), str(out)],
        cwd="/",
        check=True,
        timeout=180,
        capture_output=True,
    )
    assert np.array_equal(np.load(out), model.predict_proba(x))


@pytest.mark.slow
def test_later_review_renews_a_version_until_it_is_promoted(project: loader.Project) -> None:
    record, _ = save_linear_model(project)
    stage = Stage("review", project, project.reports_folder / "20240101-000000-abcd", draft=False)
    stage.write(
        "model",
        {
            **record.to_record(),
            "judged": record.to_record(),
            "features": ["a", "b"],
            "threshold": None,
        },
        record=True,
    )
    stage.write("held_out_scores", pd.DataFrame({"row_id": range(3), "score": 0.5}))

    def review_again(card: str, *verdicts: Verdict) -> versions.ModelVersion:
        stage.write("card", card)
        registered_version = register_reviewed_model(stage, verdicts)["version"]
        return versions.load_version(project, registered_version)

    first = review_again("no owner")
    approvals.record_approval(project, first, "approved", "ann", "fit")
    blocked = review_again(
        "an owner", Verdict("owner", "An owner", "failed", "blocks", "Nobody owns it.")
    )
    assert blocked.version == first.version
    assert blocked.evidence_hash != first.evidence_hash
    assert (blocked.review, blocked.author) == ("failed", first.author)
    assert approvals.find_approval(project, blocked) is None
    third = review_again("another owner")
    approvals.record_approval(project, third, "approved", "ann", "fit now")
    versions.promote_version(project, third.version, "ann", "fit now")
    assert review_again("yet another") == third
    assert versions.find_champion(project) == third


def test_models_are_loaded_where_mlflow_refuses_to(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    champion, model = versions.load_champion(served)
    with store.connect_mlflow(served), pytest.raises(MlflowException, match="is disallowed"):
        mlflow.sklearn.load_model(champion.uri)
    rows = pd.DataFrame({name: [0.5] for name in champion.features})
    assert 0 < model.predict_proba(rows)[0, 1] < 1
