"""A source may say how its file is written, in mlops.yaml and for labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data import source
from mlops_kit.project import explain, loader
from mlops_kit.project.config.data import FileSource, QuerySource, get_file_location
from mlops_kit.project.validation import validate_config


def make_config(source_setting: Any) -> Any:
    """Return a configuration with a source."""
    settings = {"name": "p", "source": source_setting, "target": "y", "task": "regression"}
    return validate_config(settings, "mlops.yaml")


def test_source_is_a_path_a_file_or_a_query() -> None:
    assert make_config("t.csv").source == "t.csv"
    file = make_config({"file": "t.csv", "separator": "tab", "missing": "none"}).source
    assert file == FileSource(file="t.csv", separator="\t", missing=["none"])
    query = make_config({"sql": "SELECT 1", "url": "sqlite://"}).source
    assert query == QuerySource(sql="SELECT 1", url="sqlite://")
    assert [get_file_location(one) for one in ("t.csv", file, query)] == ["t.csv", "t.csv", ""]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            {"file": "t.csv", "separater": ";"},
            "source.separater: unknown key; expected 'sep",
        ),
        ({"file": "t.csv", "separator": "::"}, "source.separator: '::'; expected one character"),
        ({"file": "t.csv", "decimal": ";"}, "source.decimal"),
        ({"separator": ";"}, "source.file: missing"),
        ({"sql": "SELECT 1"}, "source.url: missing"),
    ],
)
def test_mistake_in_a_source_is_described(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(KitError) as error:
        make_config(setting)
    assert message in error.value.message
    assert "has a mistake" in error.value.message


def test_settings_of_a_source_are_used_and_explained(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(
        "name: p\nsource: {file: t.txt, separator: ';', header: false, dates: day-first}\n"
        "target: column_1\ntask: regression\n"
    )
    (tmp_path / "t.txt").write_text("1;03/04/2024\n2;05/04/2024\n")
    project = loader.load_project(tmp_path)
    assert source.list_source_columns(project) == ["column_1", "column_2"]
    frame = source.read_raw_source(project)
    assert str(frame["column_2"].iloc[0]) == "2024-04-03 00:00:00"
    (row,) = [row for row in explain.explain_settings(project) if row.name == "source"]
    assert row.value["separator"] == ";"
    assert source.SourceHistory(project).describe_files()[0][0].endswith("t.txt")


def test_dates_with_two_readings_are_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text("name: p\nsource: t.csv\ntarget: y\ntask: regression\n")
    (tmp_path / "t.csv").write_text("y,opened\n1,03/04/2024\n2,05/04/2024\n")
    project = loader.load_project(tmp_path)
    with pytest.raises(KitError, match="'opened' cannot be read") as error:
        source.read_raw_source(project)
    assert "dates" in error.value.hint
    excluded = project.with_values("the test", excluded_columns=["opened"])
    assert source.read_raw_source(excluded)["opened"].iloc[0] == "03/04/2024"


@pytest.mark.parametrize(
    ("share", "rows", "kind"), [(0.01, 100, "object"), (0.05, 96, "float64"), (0, 100, "object")]
)
def test_tolerated_share_of_unreadable_values_is_set(
    tmp_path: Path, share: float, rows: int, kind: str
) -> None:
    values = [f"{number}.5" for number in range(96)] + ["w", "x", "y", "z"]
    (tmp_path / "t.csv").write_text("k,y\n" + "".join(f"1,{value}\n" for value in values))
    (tmp_path / "mlops.yaml").write_text(
        f"name: p\nsource: {{file: t.csv, max_unreadable_share: {share}}}\ntarget: y\n"
        "task: regression\n"
    )
    table = source.read_source_table(loader.load_project(tmp_path))
    assert len(table.frame) == rows
    assert str(table.frame["y"].dtype) == kind
    assert table.report.rejected_count == 100 - rows


def test_share_of_zero_tolerates_no_value(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("k,y\n" + "1,2.5\n" * 50 + "1,x\n")
    (tmp_path / "mlops.yaml").write_text("name: p\nsource: t.csv\ntarget: y\ntask: regression\n")
    project = loader.load_project(tmp_path)
    assert len(source.read_source_table(project).frame) == 50
    strict = project.with_values(
        "the test", source=FileSource(file="t.csv", max_unreadable_share=0)
    )
    assert len(source.read_source_table(strict).frame) == 51
