"""One contract, four ways for a row to come in: a run, a file, a request, the watch."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from mlops_kit.cli import application
from mlops_kit.data import contract, source
from mlops_kit.db.tables import IncidentRecord, PredictionRecord, WindowRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring
from mlops_kit.serving import app
from mlops_kit.stages.stage import Stage
from mlops_kit.watch import loop
from mlops_kit.watch.records import WindowMonitoring
from tests.support import watched_project

AS_OF = datetime(2024, 2, 8, tzinfo=UTC)
FIRST_FAULTY_ROW = 31 * watched_project.ROWS_PER_DAY
ROWS_BETWEEN_FAULTS = 3
COLUMNS = ["k", "at", "a", "b", "c"]
NEW_CATEGORY = "w"

# Column and value of each fault, as JSON has it; the file has its text.
FAULTS: list[tuple[str, Any]] = [
    ("a", "high"),
    ("a", None),
    ("a", ""),
    ("a", 1e9),
    ("a", -1e9),
    ("a", 1e300),
    ("b", True),
    ("b", None),
    ("b", 12345.5),
    ("b", "1.5.2"),
    ("c", NEW_CATEGORY),
    ("c", "X"),
    ("c", " x"),
    ("c", None),
    ("c", "x,y"),
    ("k", None),
    ("k", 1.5),
    ("k", "abc"),
    ("at", None),
    ("at", "soon"),
    ("note", "see mail"),
]


class Faults(NamedTuple):
    """A project whose source has faults, and the rows around them as a client sends them."""

    project: loader.Project
    requests: list[dict[str, Any]]
    faulty: list[bool]


def make_requests() -> tuple[list[dict[str, Any]], list[bool]]:
    """The rows from the first fault on, as a client sends them, and which have a fault."""
    rows = watched_project.make_rows()[COLUMNS].iloc[FIRST_FAULTY_ROW:]
    requests = json.loads(rows.to_json(orient="records", date_format="iso", double_precision=15))
    for request in requests:
        request["at"] = request["at"].removesuffix(".000").removesuffix(".000Z")
    faulty = [False] * len(requests)
    for number, (column, value) in enumerate(FAULTS):
        position = number * ROWS_BETWEEN_FAULTS
        requests[position][column] = value
        faulty[position] = True
    checked = len(FAULTS) * ROWS_BETWEEN_FAULTS
    return requests[:checked], faulty[:checked]


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Faults:
    """The watched project with a strict contract and the faults in its source."""
    project = watched_project.build_project(
        tmp_path_factory.mktemp("contract") / "home", watched_project.YAML_WITHOUT_RETRAINING
    )
    set_contract(project, unknown_columns="reject", new_values="reject")
    requests, faulty = make_requests()
    rows = watched_project.make_rows().astype(object)
    rows["note"] = None
    for offset, request in enumerate(requests):
        for column, value in request.items():
            if faulty[offset]:
                rows.loc[FIRST_FAULTY_ROW + offset, column] = value
    rows.to_csv(project.root / "t.csv", index=False)
    return Faults(project, requests, faulty)


def set_contract(project: loader.Project, unknown_columns: str, new_values: str) -> None:
    """Edit the inferred contract, as a person does."""
    path = project.root / "contract.yaml"
    inferred = contract.load_contract(path)
    column = inferred.columns["c"].model_copy(update={"new_values": contract.NewValues(new_values)})
    changed = {"unknown_columns": unknown_columns, "columns": {**inferred.columns, "c": column}}
    contract.save_contract(path, contract.DataContract(**{**inferred.model_dump(), **changed}))


def select_by_number(frame: pd.DataFrame, faults: Faults) -> list[bool]:
    """Say of each checked row whether it is missing from a table, by its number."""
    numbers = set(pd.to_numeric(frame["k"], errors="coerce").dropna())
    first = FIRST_FAULTY_ROW
    return [first + offset not in numbers for offset in range(len(faults.requests))]


def test_run_quarantines_the_faulty_rows(faults: Faults) -> None:
    stage = Stage("prepare", faults.project, faults.project.reports_folder / "prepare", draft=True)
    report, accepted, _ = stage.check_contract(source.read_source(faults.project))
    assert not report.is_broken, report.sentence
    assert select_by_number(accepted, faults) == faults.faulty


def test_file_with_the_faulty_rows_gets_no_score_for_them(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    lines = (faults.project.root / "t.csv").read_text().splitlines()
    first = FIRST_FAULTY_ROW + 1  # after the header
    checked_lines = lines[first : first + len(faults.requests)]
    # Rows without a fault, so that the faults are few, as in the source.
    (tmp_path / "rows.csv").write_text("\n".join([*lines[:first], *checked_lines]))
    out = tmp_path / "scores.csv"
    arguments = ["mlops", "predict", str(tmp_path / "rows.csv"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--project", str(faults.project.root)])
    with pytest.raises(SystemExit) as ended:
        application.main()
    assert ended.value.code == 1
    scores = pd.read_csv(out)
    assert select_by_number(scores[scores["score"].notna()], faults) == faults.faulty
    assert (scores["problems"].notna() == scores["score"].isna()).all()
    error = capsys.readouterr().err
    assert "rows were rejected (lines " in error
    assert "`c` is not one of x, y, z in 4 (w, X,  x)" in error


def test_request_with_a_faulty_row_is_refused(faults: Faults) -> None:
    application = app.build_app(faults.project)
    with TestClient(application, base_url="http://localhost:8000") as client:
        assert application.state.service.follower.champion_checked.wait(120)
        refused = []
        for request, is_faulty in zip(faults.requests, faults.faulty, strict=True):
            response = client.post("/predict", json={"rows": [request]})
            assert response.status_code in (200, 422)
            refused.append(response.status_code == 422)
            if is_faulty:
                assert len(response.json().get("problems", [])) == 1
        assert refused == faults.faulty
        empty = client.post("/predict", json={"rows": [{}]}).json()
        assert {problem["field"] for problem in empty["problems"]} == {"at", "a", "b", "c"}


def test_watch_does_not_score_the_faulty_rows_and_counts_them(faults: Faults) -> None:
    lines: list[str] = []
    loop.run_single_pass(faults.project, AS_OF, lambda line, transient=False: lines.append(line))
    predictions = watched_project.list_records(faults.project, PredictionRecord)
    scored = pd.DataFrame({"k": [json.loads(record.row_key)[0] for record in predictions]})
    assert select_by_number(scored, faults) == faults.faulty
    [window, *_] = watched_project.list_records(faults.project, WindowRecord)
    monitoring = WindowMonitoring.from_json(window.monitoring_json)
    # The reader rejects rows that cannot be read; a row without a time belongs to no window.
    unreadable = source.read_known_table(faults.project).report.rejected_count
    assert unreadable > 0
    assert monitoring.rejected_rows + unreadable == len(FAULTS) - 1
    assert f"`c` is not one of x, y, z in 4 ({NEW_CATEGORY}, X" in monitoring.contract_sentence
    assert any(monitoring.contract_sentence in line for line in lines)
    incidents = watched_project.list_records(faults.project, IncidentRecord)
    assert "rejected_rows" in {incident.signal for incident in incidents}
    assert any("rows were rejected (lines " in line for line in lines)
    rejected = f"{monitoring.rejected_rows} rows rejected by the data contract"
    assert rejected in loop.summarize_watch(faults.project)


def test_new_category_that_the_contract_accepts_is_scored_and_reported(
    faults: Faults, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("mlops.yaml", "contract.yaml"):
        (home / name).write_text((faults.project.root / name).read_text())
    (home / ".mlops").symlink_to(faults.project.root / ".mlops")
    watched_project.make_rows().to_csv(home / "t.csv", index=False)
    project = loader.load_project(home)
    set_contract(project, unknown_columns="accept", new_values="accept")
    rows = source.read_raw_source(project).head(3).drop(columns="y")
    prediction = scoring.predict_table(project, rows.assign(c=["x", NEW_CATEGORY, "y"], note="-"))
    assert prediction.scores["score"].notna().all()
    assert prediction.check.table.sentence == (
        "All 3 rows satisfy the contract. Accepted although new: `c` is not one of x, y, z in 1 "
        "(w); `note` is not a known column in 3 (-)."
    )


def test_rows_without_a_fault_are_accepted(faults: Faults) -> None:
    history = source.read_source(faults.project)
    clean = watched_project.make_rows().drop(columns="y")
    check = scoring.check_rows_to_score(faults.project, clean, history)
    assert check.violations == []
    assert check.table.sentence == "All 2,400 rows satisfy the contract."
