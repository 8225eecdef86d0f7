"""The Stage handle: what it writes into a run; by hand it changes no recorded run."""

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


def open_pipeline_stage(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str = "first",
    run: str = RUN,
    **parameters: Any,
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
    stage = open_stage(name, **parameters)
    monkeypatch.delenv("MLOPS_RUN")
    return stage


def hash_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_pipeline_stage_records_its_work_in_its_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
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


def test_artifact_lists_the_artifacts_it_was_made_from(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pipeline_stage(home, monkeypatch).write("numbers", {"a": [1, 2]})
    stage = open_pipeline_stage(home, monkeypatch, "second")
    assert stage.read("numbers") == {"a": [1, 2]}
    stage.write("total", {"total": 3})
    artifacts = run_folder.list_artifacts(stage.run_folder)
    assert artifacts["total"].made_from == {"numbers": artifacts["numbers"].content}
    assert artifacts["numbers"].made_from == {}


def test_figure_is_stored_as_svg_in_the_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
    stage.show(Figure("Line", "It rises.", "<svg></svg>", pd.DataFrame({"x": [1]})))
    entry = run_folder.read_stage_records(stage.run_folder)["first"]["shown"][0]
    assert entry["figure"] == "figures/first/00.svg"
    assert (stage.run_folder / entry["figure"]).read_text() == "<svg></svg>"


def test_blocking_verdict_stops_after_all_are_recorded(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
    verdicts = [
        Verdict("a", "A", "failed", "blocks", "A is too low.", "1", "2", "raise it"),
        Verdict("b", "B", "failed", "warns", "B is odd."),
        Verdict("c", "C", "passed", "blocks", "C is well."),
    ]
    with pytest.raises(RunFailedError) as error:
        stage.enforce_verdicts(verdicts)
    assert (error.value.message, error.value.expected, error.value.hint) == (
        "A is too low.",
        "2",
        "raise it",
    )
    assert [
        v["check"]
        for v in json.loads((stage.run_folder / "stages" / "first.json").read_text())["verdicts"]
    ] == ["a", "b", "c"]


def test_stage_may_continue_despite_blocking_verdict(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pipeline_stage(home, monkeypatch).enforce_verdicts(
        [Verdict("a", "A", "failed", "blocks", "A is too low.")], stop=False
    )


def test_warning_and_cannot_tell_do_not_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_pipeline_stage(home, monkeypatch).enforce_verdicts(
        [
            Verdict("a", "A", "failed", "warns", "A is odd."),
            Verdict("b", "B", "cannot tell", "warns", "Too few rows."),
        ]
    )


def test_missing_declared_artifact_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
    with pytest.raises(RunFailedError, match="first did not write 'numbers'"):
        stage.hand_over("Nothing.")
    assert "done" not in run_folder.read_stage_records(stage.run_folder).get("first", {})


@pytest.mark.slow
def test_manual_stage_reads_latest_run_and_writes_a_draft(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pipeline_stage(home, monkeypatch, run="20240103-000000-0000").write("numbers", {"a": [0]})
    recorded = open_pipeline_stage(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    before = hash_files(home / "reports")
    stage = open_stage("second")
    assert (stage.is_draft, stage.run_id) == (True, "draft")
    assert stage.read("numbers") == {"a": [1, 2]}
    stage.write("total", {"total": 3})
    stage.log(total=3)
    stage.show(TABLE)
    stage.enforce_verdicts([Verdict("a", "A", "passed", "blocks", "A is well.")])
    stage.alerts_file.write_text("{}\n")
    stage.hand_over("A total.")
    after = hash_files(home / "reports")
    assert {k: v for k, v in after.items() if not k.startswith("draft/")} == before
    assert "draft/artifacts/total.json" in after
    assert "draft/alerts.jsonl" in after


def test_newer_draft_is_read_before_the_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = open_pipeline_stage(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    open_stage("first").write("numbers", {"a": [5]})
    assert open_stage("second").read("numbers") == {"a": [5]}


def test_newer_run_is_read_before_the_draft(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_stage("first").write("numbers", {"a": [5]})
    recorded = open_pipeline_stage(home, monkeypatch)
    recorded.write("numbers", {"a": [1, 2]})
    past = (recorded.run_folder / "manifest.json").stat().st_mtime - 60
    os.utime(home / "reports" / "draft" / "stages", (past, past))
    assert open_stage("second").read("numbers") == {"a": [1, 2]}


def test_manual_sample_does_not_read_a_full_run(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pipeline_stage(home, monkeypatch).write("numbers", {"a": [1, 2]})
    with pytest.raises(KitError, match="'numbers' cannot be read: there is no run yet"):
        open_stage("second", sample=2).read("numbers")


def test_unknown_artifact_error_suggests_nearest(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
    stage.write("numbers", {"a": [1]})
    with pytest.raises(KitError, match=f"no artifact 'nubmers' in {RUN}") as error:
        stage.read("nubmers")
    assert error.value.expected == "'numbers' (of: numbers)"
    assert error.value.hint == "mlops run"


def test_hint_without_any_run_is_to_run(home: Path) -> None:
    with pytest.raises(KitError, match="'numbers' cannot be read: there is no run yet") as error:
        open_stage("second").read("numbers")
    assert error.value.hint == "mlops run"


def test_unknown_stage_error_suggests_nearest(home: Path) -> None:
    with pytest.raises(KitError, match="unknown stage 'frist'") as error:
        open_stage("frist")
    assert error.value.expected.startswith("'first'")


def test_parameter_that_is_no_setting_is_left_to_the_notebook(home: Path) -> None:
    with pytest.raises(
        KitError, match=r"open_stage\('first', …\): limit is not a setting"
    ) as error:
        open_stage("first", seed=5, limit=3)
    assert "leave a parameter of the notebook's own out" in (error.value.hint or "")


def test_run_keeps_its_config_when_mlops_yaml_is_edited(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_pipeline_stage(home, monkeypatch)
    (home / "mlops.yaml").write_text(YAML + "seed: 7\n")
    assert open_pipeline_stage(home, monkeypatch).seed == 0
    assert open_stage("first").seed == 7


def test_parameters_override_the_config_unless_empty(home: Path) -> None:
    stage = open_stage("first", as_of="2024-01-02", until="", sample=0, seed=5)
    assert (str(stage.as_of), str(stage.until), stage.sample, stage.seed) == (
        "2024-01-02 00:00:00+00:00",
        "2024-01-04 00:00:00+00:00",
        0,
        5,
    )


def test_invalid_parameter_is_rejected(home: Path) -> None:
    with pytest.raises(KitError, match="the notebook's parameters has a mistake:\n  as_of: 'soon'"):
        open_stage("first", as_of="soon")


def test_source_is_read_as_of_the_cutoff_or_another_time(home: Path) -> None:
    stage = open_stage("first")
    assert stage.read_source()["k"].tolist() == [1, 2]
    assert stage.read_source()["y"].tolist() == [
        1,
        2,
    ]
    assert stage.read_source(stage.until)["k"].tolist() == [1, 2, 3]


def test_contract_is_inferred_once_and_violation_is_reported_first(
    home: Path,
) -> None:
    stage = open_stage("first")
    report, good, bad = stage.check_contract(stage.read_source())
    assert (len(good), len(bad), report.is_broken) == (2, 0, False)
    text = (home / "contract.yaml").read_text()
    with pytest.raises(RunFailedError, match="the source has no column 'y'"):
        stage.check_contract(stage.read_source().drop(columns="y"))
    assert isinstance(stage.read("contract_report"), contract_validation.ContractReport)
    assert stage.read("contract_report").is_broken
    assert (home / "contract.yaml").read_text() == text


def test_alerts_file_is_the_projects_or_the_drafts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_pipeline_stage(home, monkeypatch).alerts_file == home / "reports" / "alerts.jsonl"
    assert open_stage("first").alerts_file == home / "reports" / "draft" / "alerts.jsonl"


def test_repeated_cell_replaces_what_it_showed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = open_pipeline_stage(home, monkeypatch)
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


def test_sample_continues_despite_blocking_verdict(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocking = [Verdict("a", "A", "failed", "blocks", "It is bad.")]
    with pytest.raises(RunFailedError, match="It is bad"):
        open_pipeline_stage(home, monkeypatch).enforce_verdicts(blocking)
    stage = open_pipeline_stage(home, monkeypatch)
    stage.config = stage.config.model_copy(update={"sample": 50})
    stage.enforce_verdicts(blocking)
    assert stage.record.verdicts[0]["outcome"] == "failed"


def test_handle_displays_run_or_draft(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        "first · draft · as of 2024-01-03, until 2024-01-04 · <b>sample of 1,000 rows</b>"
        in open_stage("first", sample=1000)._repr_html_()
    )
    assert f"run {RUN}" in open_pipeline_stage(home, monkeypatch)._repr_html_()


def test_runs_are_listed_newest_first_without_drafts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_folder.list_run_folders(home / "reports") == []
    for run in ("20240101-000000-ffff", RUN, "20230101-000000-0000"):
        open_pipeline_stage(home, monkeypatch, run=run)
    open_stage("first").log(n=1)
    assert [p.name for p in run_folder.list_run_folders(home / "reports")] == [
        RUN,
        "20240101-000000-ffff",
        "20230101-000000-0000",
    ]
