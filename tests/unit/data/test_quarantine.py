"""Rows that cannot be read are counted and stored with those that violate the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from mlops_kit.data import features, quarantine, source
from mlops_kit.data.columns import list_feature_columns
from mlops_kit.data.splits import split_rows
from mlops_kit.data.target import encode_target
from mlops_kit.project import loader

RESERVED = ["part", "row_id", "row", "score", "decision", "index", "prediction_id"]
CONFIG = """
name: tiny
source: {file: t.csv, dates: {at: day-first}}
target: late
task: binary
id: nr
time: at
"""


def make_project(folder: Path, rows: list[str], header: str = "nr,at,x,late") -> loader.Project:
    """Write a project with a table."""
    (folder / "mlops.yaml").write_text(CONFIG)
    (folder / "t.csv").write_text("\n".join([header, *rows]) + "\n")
    return loader.load_project(folder)


def make_rows(count: int = 200) -> list[str]:
    """Return regular rows."""
    return [
        f"{number},{number % 12 + 1:02d}/01/2024,{number}.5,{number % 2}" for number in range(count)
    ]


def check(project: loader.Project) -> tuple[quarantine.ContractReport, pd.DataFrame, pd.DataFrame]:
    """Read the source and check it against the contract."""
    table = source.read_known_table(project)
    return quarantine.check_source_rows(project, table.frame, table.report)


def test_unreadable_rows_are_in_the_report_and_in_quarantine(tmp_path: Path) -> None:
    rows = make_rows()
    rows[10] = "10,11/01/2024"
    rows[20] = "20,09/01/2024,oops,0"
    report, accepted, quarantined = check(make_project(tmp_path, rows))
    assert len(accepted) == report.good_rows == 198
    assert report.quarantined_rows == len(quarantined) == 2
    assert not report.is_broken
    assert "2 rows were rejected (lines 12, 22)" in report.sentence
    assert report.sentence.endswith("In all, 2 of 200 rows are in quarantine.")
    assert quarantined["quarantine_line"].tolist() == [12, 22]
    assert "oops" in quarantined["quarantine_reason"].iloc[1]
    assert report.data.iloc[-1]["rows"] == 2


def test_counts_of_read_quarantined_and_split_rows_add_up(tmp_path: Path) -> None:
    project = make_project(tmp_path, make_rows())
    check(project)  # infers the contract
    rows = make_rows()
    rows[10] = "10,11/01/2024"  # cannot be read
    rows[30] = rows[31]  # twice the same key
    rows[199] = rows[199].rsplit(",", 1)[0] + ","
    report, accepted, _ = check(make_project(tmp_path, rows))
    assert "1 of 199 rows (0.5%) are quarantined; most often `nr` is not unique." in report.sentence
    assert report.sentence.endswith("In all, 2 of 200 rows are in quarantine.")
    encoded, _ = encode_target(accepted, project.config)
    _, table = split_rows(encoded, project.config, 0)
    total, *parts = [int(count) for count in re.findall(r"\b\d+\b(?!%)", table.sentence)]
    assert table.sentence.startswith("198 accepted rows: ")
    assert table.sentence.endswith(" 1 without a label.")
    assert report.quarantined_rows + total == 200
    assert sum(parts) == total


def test_too_many_unreadable_rows_break_the_contract(tmp_path: Path) -> None:
    rows = make_rows()
    rows[10:30] = ["10"] * 20
    report, _, _ = check(make_project(tmp_path, rows))
    assert report.is_broken
    assert "20 of 200 rows (10%) would be quarantined" in report.sentence


def test_rows_of_excluded_days_are_quarantined_but_do_not_break_the_contract(
    tmp_path: Path,
) -> None:
    project = make_project(tmp_path, make_rows())
    check(project)  # infers the contract
    rows = []
    for row in make_rows():
        number, day, value, label = row.split(",")
        is_faulty = day == "03/01/2024"
        rows.append(f"{number},{day},{10_000 if is_faulty else value},{label}")
    rows[50] = "50"  # cannot be read
    project = make_project(tmp_path, rows)
    report, _, quarantined = check(project)
    faulty_rows = sum(",03/01/2024," in row for row in rows)
    assert report.is_broken
    assert f"{faulty_rows} of 199 rows" in report.sentence
    excluded = project.with_values("the test", validation={"excluded_days": ["2024-01-03"]})
    report, accepted, quarantined = check(excluded)
    assert not report.is_broken
    assert report.uncounted_rows == faulty_rows
    assert len(quarantined) == report.quarantined_rows == faulty_rows + 1
    assert len(accepted) == 199 - faulty_rows
    assert f"{faulty_rows} quarantined rows are of excluded days" in " ".join(report.notes)


def test_readable_source_changes_nothing(tmp_path: Path) -> None:
    report, accepted, quarantined = check(make_project(tmp_path, make_rows()))
    assert report.sentence == "All 200 rows satisfy the contract."
    assert len(accepted) == 200
    assert list(quarantined.columns) == ["nr", "at", "x", "late"]


def test_columns_with_names_of_the_chain_become_features(tmp_path: Path) -> None:
    rows = [f"{row},1,2,3,4.5,yes,6,7" for row in make_rows()]
    project = make_project(tmp_path, rows, f"nr,at,x,late,{','.join(RESERVED)}")
    assert source.list_source_columns(project)[5] == "row_id_1"
    _, history, _ = check(project)
    encoded, _ = encode_target(history, project.config)
    table = features.build_features(project, encoded, history)
    table, _ = split_rows(table, project.config, 0)
    assert {"train", "test"} <= set(table["part"])
    assert list_feature_columns(project.config, table) == [
        "x",
        "part_1",
        "row_id_1",
        "row",
        "score_1",
        "decision_1",
        "index",
        "prediction_id_1",
    ]
