"""``mlops data show`` prints what was read, of any file and of the source of a project."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from mlops_kit.cli.application import app
from mlops_kit.core.errors import KitError

TEXT = "# by hand\nid;zip;x\n1;007;1,5\n2;012;n/a\n3;013\n4;014;2,5\n"


def run(*arguments: object) -> Result:
    """Run a command; an error is raised."""
    return CliRunner().invoke(app, list(map(str, arguments)), catch_exceptions=False)


def test_file_is_shown_without_a_project(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(TEXT)
    output = run("data", "show", "--source", file).output
    assert "3 of 4 rows of t.csv were read" in output
    assert "separator semicolon" in output
    assert "decimal comma" in output
    assert "n/a: 1" in output
    assert "t.csv, line 5: 2 fields instead of 3: 3;013" in output


def test_report_is_printed_as_json(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(TEXT)
    report = json.loads(run("data", "show", "--json", "--source", file).output)
    assert report["schema_version"] == 1
    assert report["rows_in_file"] == report["rows_kept"] + report["rejected_count"] == 4
    assert [column["type"] for column in report["columns"]] == ["integer", "text", "number"]


def test_source_of_a_project_is_shown_although_no_stage_could_use_it(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"y": 1, "tags": ["a"]}\n{"y": 2, "tags": []}\n')
    (tmp_path / "mlops.yaml").write_text(
        "name: p\nsource: {file: t.jsonl}\ntarget: y\ntask: regression\n"
    )
    output = run("data", "show", "--project", tmp_path).output
    assert "tags: The values are lists or objects" in output


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="does not exist"):
        run("data", "show", "--source", tmp_path / "t.csv")
