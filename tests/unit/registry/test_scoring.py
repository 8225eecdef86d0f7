"""Batch scoring: which rows, one line per row, stable ids, and the same scores for a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mlops_kit
from mlops_kit.cli import application
from mlops_kit.core.errors import KitError
from mlops_kit.data import source
from mlops_kit.project import loader
from mlops_kit.registry import scoring, versions
from mlops_kit.stages import deploy
from mlops_kit.stages.deploy import batch
from mlops_kit.stages.stage import Stage

Staged = Callable[..., Stage]


def score_batch(stage: Stage, rows: pd.DataFrame | None = None, **changes: Any) -> pd.DataFrame:
    """The batch as the notebook makes it, by the champion."""
    champion, model = versions.load_champion(stage.project)
    model_record = replace(champion, **{"threshold": 0.5, **changes})
    return scoring.score_rows(
        stage.project,
        model,
        model_record,
        deploy.select_period_rows(stage) if rows is None else rows,
        stage.read_source(stage.until),
    )


def test_period_begins_at_as_of_and_ends_before_until(
    served: loader.Project, staged: Staged
) -> None:
    found = (
        deploy.select_period_rows(staged(served))["at"]
        .dt.tz_convert("America/New_York")
        .dt.strftime("%m-%d %H:%M")
    )
    assert (found.iloc[0], found.iloc[-1], len(found)) == ("01-05 00:00", "01-07 23:00", 72)


def test_known_rows_and_period_are_all_rows_known_by_until(
    served: loader.Project, staged: Staged
) -> None:
    stage = staged(served)
    before, after = set(stage.read_source()["k"]), set(deploy.select_period_rows(stage)["k"])
    assert not before & after
    assert before | after == set(stage.read_source(stage.until)["k"])


def test_period_between_equal_times_is_empty(served: loader.Project, staged: Staged) -> None:
    assert deploy.select_period_rows(staged(served, until="2024-01-05")).empty


def test_unlabeled_rows_are_due_without_time(copied: loader.Project, staged: Staged) -> None:
    (copied.root / "mlops.yaml").write_text(
        "name: small\nsource: t.csv\ntarget: y\ntask: binary\nid: k\n"
    )
    (copied.root / "t.csv").write_text("k,a,b,y\n1,1,1,0\n2,1,1,\n3,1,1,1\n")
    assert deploy.select_period_rows(staged(loader.load_project(copied.root)))["k"].tolist() == [2]


def test_prediction_id_is_stable(served: loader.Project) -> None:
    prediction_id = scoring.compute_prediction_id(served, "hash", (7, "x"))
    assert prediction_id == "4da9d1636c47e9556893"  # sha256 of ["small", "hash", "7", "x"]
    others = {
        scoring.compute_prediction_id(served, h, k)
        for h, k in (
            ("other", (7, "x")),
            ("hash", (8, "x")),
            ("hash", ("x", 7)),
            ("hash", ("7|x",)),
            ("hash|7", ("x",)),
        )
    }
    assert len(others | {prediction_id}) == 6


def test_scores_have_one_row_per_input_row_in_order(served: loader.Project, staged: Staged) -> None:
    stage = staged(served)
    due = deploy.select_period_rows(stage)
    found = score_batch(stage, due)
    assert found["k"].tolist() == due["k"].tolist()
    assert found["prediction_id"].is_unique
    assert list(found.columns) == [
        "prediction_id",
        "k",
        "at",
        "score",
        "decision",
        "model_version",
        "day",
        "a",
        "b",
    ]
    assert found["score"].between(0, 1).all()
    assert (found["decision"] == (found["score"] >= 0.5)).all()
    assert set(found["model_version"]) == {"1"}
    assert "y" not in found


def test_row_order_changes_no_score(served: loader.Project, staged: Staged) -> None:
    stage = staged(served)
    due = deploy.select_period_rows(stage)
    scores = score_batch(stage, due)
    reversed_scores = score_batch(stage, due.iloc[::-1].reset_index(drop=True))
    pd.testing.assert_frame_equal(scores, reversed_scores.iloc[::-1].reset_index(drop=True))


def test_day_is_in_project_timezone(served: loader.Project, staged: Staged) -> None:
    assert sorted(score_batch(staged(served))["day"].unique()) == [
        "2024-01-05",
        "2024-01-06",
        "2024-01-07",
    ]


def test_without_threshold_there_is_no_decision(served: loader.Project, staged: Staged) -> None:
    assert score_batch(staged(served), threshold=None)["decision"].isna().all()


def test_no_rows_give_an_empty_table_with_the_same_columns(
    served: loader.Project, staged: Staged
) -> None:
    stage = staged(served)
    empty, full = score_batch(stage, deploy.select_period_rows(stage).head(0)), score_batch(stage)
    assert empty.empty
    assert list(empty.columns) == list(full.columns)
    assert (
        batch.summarize_scores_by_day(empty, stage.config).sentence
        == "Nothing to score: no row is between as_of and until."
    )


def test_value_of_another_type_is_missing_for_the_model(
    served: loader.Project, staged: Staged
) -> None:
    stage = staged(served)
    due = deploy.select_period_rows(stage)
    spoiled, missing = due.astype({"a": object}), due.copy()
    spoiled.loc[0, "a"], missing.loc[0, "a"] = "unknown", np.nan
    assert (
        score_batch(stage, spoiled)["score"].tolist()
        == score_batch(stage, missing)["score"].tolist()
    )


def test_summary_by_day_counts_each_row_once(served: loader.Project, staged: Staged) -> None:
    stage = staged(served)
    table = batch.summarize_scores_by_day(score_batch(stage), stage.config)
    assert table.data["rows"].tolist() == [24, 24, 24]
    assert table.sentence.startswith("72 rows were scored over 3 days; ")


def test_file_scores_match_batch_scores(served: loader.Project, staged: Staged) -> None:
    stage = staged(served)
    rows = source.read_raw_source(served).query("96 <= k < 168").drop(columns="y")
    answers = scoring.predict_with_champion(served, rows)
    assert list(answers.columns) == [
        "prediction_id",
        "k",
        "at",
        "score",
        "decision",
        "model_version",
    ]
    pd.testing.assert_frame_equal(answers, score_batch(stage)[list(answers.columns)])
    champion = mlops_kit.open(served.root).load_champion()
    assert champion.version == "1"
    pd.testing.assert_frame_equal(champion.predict(rows), answers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="a"), "the rows have no column 'a'"),
        (lambda f: f.drop(columns=["a", "b"]), "the rows have no column 'a' (nor b)"),
        (lambda f: f.assign(a="old"), "5 of 5 rows are rejected: `a` is not a number in 5 (old)"),
        (lambda f: f.assign(at="soon"), "`at` is not a timestamp in 5 (soon)"),
        (lambda f: f.head(0), "there are no rows to score"),
    ],
    ids=["no column", "two columns", "text for a number", "no moment", "no row"],
)
def test_file_that_cannot_be_scored_is_rejected(
    served: loader.Project, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(KitError) as error:
        scoring.predict_with_champion(served, change(source.read_raw_source(served).head(5)))
    assert message in str(error.value)
    assert error.value.hint
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("ending", "read"), [("csv", pd.read_csv), ("parquet", pd.read_parquet)])
def test_predict_command_writes_scores_of_a_file(
    served: loader.Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: str,
    read: Callable[[Path], pd.DataFrame],
) -> None:
    rows, out = (
        source.read_raw_source(served).head(5).drop(columns="y"),
        tmp_path / f"scores.{ending}",
    )
    rows.to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "mlops",
            "predict",
            str(tmp_path / "rows.csv"),
            "--project",
            str(served.root),
            "--out",
            str(out),
        ],
    )
    with pytest.raises(SystemExit) as ended:
        application.main()
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out == f"5 rows scored; written to {out}\n"
    assert (
        read(out)["prediction_id"].tolist()
        == scoring.predict_with_champion(served, rows)["prediction_id"].tolist()
    )


def test_predict_command_rejects_a_file_without_a_column(
    served: loader.Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source.read_raw_source(served).head(5).drop(columns="b").to_csv(
        tmp_path / "rows.csv", index=False
    )
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "mlops",
            "predict",
            str(tmp_path / "rows.csv"),
            "--project",
            str(served.root),
            "--out",
            str(tmp_path / "out.csv"),
        ],
    )
    with pytest.raises(SystemExit) as ended:
        application.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("error: the rows have no column 'b'")
    assert "Hint: add it to the file" in said.err
    assert not (tmp_path / "out.csv").exists()


def test_hint_without_a_champion_is_a_run(copied: loader.Project) -> None:
    with pytest.raises(KitError, match="newcomer has no champion yet") as error:
        scoring.predict_with_champion(
            copied.with_values("the test", name="newcomer"), source.read_raw_source(copied)
        )
    assert error.value.hint == "mlops run"
