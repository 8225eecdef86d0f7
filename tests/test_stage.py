"""A notebook's handle: what it files in a run, and that by hand it touches no recorded run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.files import read_json, write_json
from mlops_kit.core.results import Figure, Table, Verdict
from mlops_kit.data import contract_validation
from mlops_kit.project import loader, run_folder
from mlops_kit.stages.stage import Stage, open_stage

YAML = """
name: tiny
source: t.csv
target: y
task: regression
time: at
id: k
label_delay: 1d
as_of: 2024-01-03
until: 2024-01-04
stages:
  first: {notebook: first.ipynb, writes: [numbers]}
  second: {notebook: second.ipynb, needs: [first]}
"""
CSV = "k,at,y\n1,2024-01-01,1\n2,2024-01-02,2\n3,2024-01-03,3\n"
RUN = "20240104-000000-abcd"
TABLE = Table("Numbers", "Two numbers.", pd.DataFrame({"a": [1, 2]}))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, named as the pipeline and JupyterLab name it."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlops.yaml").write_text(YAML)
    (folder / "t.csv").write_text(CSV)
    monkeypatch.setenv("MLOPS_PROJECT", str(folder))
    return folder


def piped(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str = "first", run: str = RUN, **given: Any
) -> Stage:
    """A stage as the pipeline opens it, in its own run."""
    folder = home / "reports" / run
    if not folder.exists():
        write_json(
            folder / "config.json",
            loader.load_project(home).config.model_dump(mode="json", exclude_unset=True),
        )
        write_json(folder / "manifest.json", {"run": run, "status": "running"})
    monkeypatch.setenv("MLOPS_RUN", str(folder))
    made = open_stage(name, **given)
    monkeypatch.delenv("MLOPS_RUN")
    return made


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_a_stage_of_the_pipeline_files_what_it_did_in_its_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = piped(home, monkeypatch)
    assert (stage.is_draft, stage.run_id) == (False, RUN)
    stage.write("numbers", {"a": [1, 2]})
    stage.log(n=2)
    stage.show(TABLE)
    stage.hand_over("Two numbers.")
    record = run_folder.read_stage_records(stage.run_folder)["first"]
    assert record["done"]
    assert record["sentence"] == "Two numbers."
    assert record["logged"] == {"n": 2}
    assert [(s["title"], s["sentence"], s["figure"]) for s in record["shown"]] == [
        ("Numbers", "Two numbers.", None)
    ]
    assert read_json(stage.run_folder / "artifacts" / "numbers.json") == {"a": [1, 2]}


def test_a_result_says_what_it_was_made_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(home, monkeypatch).write("numbers", {"a": [1, 2]})
    stage = piped(home, monkeypatch, "second")
    assert stage.read("numbers") == {"a": [1, 2]}
    stage.write("total", {"total": 3})
    found = run_folder.list_artifacts(stage.run_folder)
    assert found["total"].made_from == {"numbers": found["numbers"].content}
    assert found["numbers"].made_from == {}


def test_a_figure_is_filed_as_an_image_of_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = piped(home, monkeypatch)
    stage.show(Figure("Line", "It rises.", "<svg></svg>", pd.DataFrame({"x": [1]})))
    entry = run_folder.read_stage_records(stage.run_folder)["first"]["shown"][0]
    assert entry["figure"] == "figures/first/00.svg"
    assert (stage.run_folder / entry["figure"]).read_text() == "<svg></svg>"


def test_what_blocks_stops_the_stage_after_all_verdicts_are_filed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = piped(home, monkeypatch)
    found = [
        Verdict("a", "A", "failed", "blocks", "A is too low.", "1", "2", "raise it"),
        Verdict("b", "B", "failed", "warns", "B is odd."),
        Verdict("c", "C", "passed", "blocks", "C is well."),
    ]
    with pytest.raises(RunFailedError) as error:
        stage.enforce_verdicts(found)
    assert (error.value.message, error.value.expected, error.value.hint) == (
        "A is too low.",
        "2",
        "raise it",
    )
    assert [
        v["check"]
        for v in json.loads((stage.run_folder / "stages" / "first.json").read_text())["verdicts"]
    ] == ["a", "b", "c"]


def test_a_stage_may_go_on_though_something_blocks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(home, monkeypatch).enforce_verdicts(
        [Verdict("a", "A", "failed", "blocks", "A is too low.")], stop=False
    )


def test_a_warning_and_what_cannot_be_told_stop_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(home, monkeypatch).enforce_verdicts(
        [
            Verdict("a", "A", "failed", "warns", "A is odd."),
            Verdict("b", "B", "cannot tell", "warns", "Too few rows."),
        ]
    )


def test_a_promise_not_kept_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = piped(home, monkeypatch)
    with pytest.raises(RunFailedError, match="first did not write 'numbers'"):
        stage.hand_over("Nothing.")
    assert "done" not in run_folder.read_stage_records(stage.run_folder).get("first", {})


def test_by_hand_the_latest_run_is_read_and_a_draft_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(home, monkeypatch, run="20240103-000000-0000").write("numbers", {"a": [0]})
    recorded = piped(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    before = files(home / "reports")
    stage = open_stage("second")
    assert (stage.is_draft, stage.run_id) == (True, "draft")
    assert stage.read("numbers") == {"a": [1, 2]}
    stage.write("total", {"total": 3})
    stage.log(total=3)
    stage.show(TABLE)
    stage.enforce_verdicts([Verdict("a", "A", "passed", "blocks", "A is well.")])
    stage.alerts_file.write_text("{}\n")
    stage.hand_over("A total.")
    after = files(home / "reports")
    assert {k: v for k, v in after.items() if not k.startswith("draft/")} == before
    assert "draft/artifacts/total.json" in after
    assert "draft/alerts.jsonl" in after


def test_a_draft_of_an_earlier_stage_is_read_before_the_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = piped(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    open_stage("first").write("numbers", {"a": [5]})
    assert open_stage("second").read("numbers") == {"a": [5]}


def test_a_run_newer_than_the_draft_is_read_before_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_stage("first").write("numbers", {"a": [5]})
    recorded = piped(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    past = (recorded.run_folder / "manifest.json").stat().st_mtime - 60
    os.utime(home / "reports" / "draft" / "stages", (past, past))
    assert open_stage("second").read("numbers") == {"a": [1, 2]}


def test_a_sample_by_hand_does_not_read_a_whole_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(home, monkeypatch).write("numbers", {"a": [1, 2]})
    with pytest.raises(KitError, match="'numbers' cannot be read: there is no run yet"):
        open_stage("second", sample=2).read("numbers")


def test_an_unknown_artifact_names_the_nearest(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = piped(home, monkeypatch)
    stage.write("numbers", {"a": [1]})
    with pytest.raises(KitError, match=f"no artifact 'nubmers' in {RUN}") as error:
        stage.read("nubmers")
    assert error.value.expected == "'numbers' (of: numbers)"
    assert error.value.hint == "mlops run"


def test_without_any_run_the_cure_is_a_run(home: Path) -> None:
    with pytest.raises(KitError, match="'numbers' cannot be read: there is no run yet") as error:
        open_stage("second").read("numbers")
    assert error.value.hint == "mlops run"


def test_an_unknown_stage_names_the_nearest(home: Path) -> None:
    with pytest.raises(KitError, match="unknown stage 'frist'") as error:
        open_stage("frist")
    assert error.value.expected.startswith("'first'")


def test_a_run_keeps_its_config_though_mlops_yaml_is_edited(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    piped(home, monkeypatch)
    (home / "mlops.yaml").write_text(YAML + "seed: 7\n")
    assert piped(home, monkeypatch).seed == 0
    assert open_stage("first").seed == 7


def test_parameters_stand_over_the_config_and_empty_ones_do_not(home: Path) -> None:
    laid = open_stage("first", as_of="2024-01-02", until="", sample=0, seed=5)
    assert (str(laid.as_of), str(laid.until), laid.sample, laid.seed) == (
        "2024-01-02 00:00:00+00:00",
        "2024-01-04 00:00:00+00:00",
        0,
        5,
    )


def test_a_wrong_parameter_is_worded(home: Path) -> None:
    with pytest.raises(KitError, match="the notebook's parameters has a mistake:\n  as_of: 'soon'"):
        open_stage("first", as_of="soon")


def test_the_source_is_seen_as_of_the_moment_or_of_another(home: Path) -> None:
    stage = open_stage("first")
    assert stage.read_source()["k"].tolist() == [1, 2]
    assert stage.read_source()["y"].tolist() == [
        1,
        2,
    ]
    assert stage.read_source(stage.until)["k"].tolist() == [1, 2, 3]


def test_a_contract_is_inferred_once_and_a_broken_one_is_reported_before_it_stops(
    home: Path,
) -> None:
    stage = open_stage("first")
    report, good, bad = stage.check_contract(stage.read_source())
    assert (len(good), len(bad), report.is_broken) == (2, 0, False)
    text = (home / "contract.yaml").read_text()
    with pytest.raises(RunFailedError, match="the column 'y' is gone"):
        stage.check_contract(stage.read_source().drop(columns="y"))
    assert isinstance(stage.read("contract_report"), contract_validation.ContractReport)
    assert stage.read("contract_report").is_broken
    assert (home / "contract.yaml").read_text() == text


def test_alerts_go_to_the_projects_file_and_a_drafts_to_its_own(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert piped(home, monkeypatch).alerts_file == home / "reports" / "alerts.jsonl"
    assert open_stage("first").alerts_file == home / "reports" / "draft" / "alerts.jsonl"


def test_a_cell_that_is_run_again_replaces_what_it_showed(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = piped(home, monkeypatch)
    for sentence in ("One.", "Two."):
        stage.show(Table("T", sentence, TABLE.data))
        stage.show(Figure("T", sentence, f"<svg>{sentence}</svg>", TABLE.data))
        stage.enforce_verdicts(
            [
                Verdict("a", "A", "passed", "blocks", sentence),
                Verdict("b", "B", "passed", "blocks", sentence),
            ]
        )
    assert [e.sentence for e in stage.record.shown] == ["Two.", "Two."]
    assert [v["sentence"] for v in stage.record.verdicts] == ["Two.", "Two."]
    assert [p.read_text() for p in (stage.run_folder / "figures" / "first").iterdir()] == [
        "<svg>Two.</svg>"
    ]


def test_a_sample_goes_on_whatever_blocks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocking = [Verdict("a", "A", "failed", "blocks", "It is bad.")]
    with pytest.raises(RunFailedError, match="It is bad"):
        piped(home, monkeypatch).enforce_verdicts(blocking)
    stage = piped(home, monkeypatch)
    stage.config = stage.config.model_copy(update={"sample": 50})
    stage.enforce_verdicts(blocking)
    assert stage.record.verdicts[0]["outcome"] == "failed"


def test_the_handle_says_where_it_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "first · draft · as of 2024-01-03, until 2024-01-04 · <b>sample of 1,000 rows</b>"
        in open_stage("first", sample=1000)._repr_html_()
    )
    assert f"run {RUN}" in piped(home, monkeypatch)._repr_html_()


def test_runs_are_told_the_newest_first_and_drafts_are_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_folder.list_run_folders(home / "reports") == []
    for run in ("20240101-000000-ffff", RUN, "20230101-000000-0000"):
        piped(home, monkeypatch, run=run)
    open_stage("first").log(n=1)
    assert [p.name for p in run_folder.list_run_folders(home / "reports")] == [
        RUN,
        "20240101-000000-ffff",
        "20230101-000000-0000",
    ]
