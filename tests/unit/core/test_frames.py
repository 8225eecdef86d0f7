"""Tables of other libraries: converted where a public function takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

import mlops_kit
from mlops_kit.core.errors import KitError
from mlops_kit.core.frames import convert_foreign_frame, to_pandas
from mlops_kit.core.results import Table
from mlops_kit.project import artifacts, loader
from mlops_kit.registry import scoring

ROWS = {"a": [1, 2, None], "b": ["x", None, "z"], "c": [True, False, True]}


def test_arrow_table_becomes_a_data_frame() -> None:
    frame = to_pandas(pa.table(ROWS))
    assert isinstance(frame, pd.DataFrame)
    assert frame["a"].isna().tolist() == [False, False, True]
    assert frame["b"].tolist() == ["x", None, "z"]
    assert frame["c"].dtype == bool


def test_lazy_table_is_computed() -> None:
    arrow = pa.table(ROWS)
    relation = duckdb.sql("SELECT a + 1 AS a FROM arrow WHERE a IS NOT NULL ORDER BY a")
    assert arrow.num_rows == 3
    assert to_pandas(relation)["a"].tolist() == [2, 3]


def test_polars_frame_becomes_a_data_frame() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(ROWS)
    for table in (frame, frame.lazy()):
        pd.testing.assert_frame_equal(to_pandas(table), frame.to_pandas())


def test_data_frame_is_not_copied() -> None:
    frame = pd.DataFrame(ROWS)
    assert to_pandas(frame) is frame
    assert convert_foreign_frame(frame) is frame


@pytest.mark.parametrize("value", [[1], {"a": [1]}, "text", None, pd.Series([1])])
def test_what_is_no_table_is_an_error(value: Any) -> None:
    with pytest.raises(KitError, match="is not a table") as error:
        to_pandas(value)
    assert error.value.hint
    assert convert_foreign_frame(value) is value


def test_champion_scores_an_arrow_table(served: loader.Project) -> None:
    rows = pd.read_csv(served.root / "t.csv").head(5).drop(columns="y")
    expected = scoring.predict_with_champion(served, rows)
    arrow = pa.Table.from_pandas(rows)
    pd.testing.assert_frame_equal(scoring.predict_with_champion(served, arrow), expected)
    champion = mlops_kit.open(served.root).load_champion()
    pd.testing.assert_frame_equal(champion.predict(arrow), expected)


def test_stage_writes_and_a_result_shows_an_arrow_table(tmp_path: Path) -> None:
    artifact = artifacts.write_artifact(tmp_path, "explore", "rows", pa.table(ROWS))
    assert (artifact.rows, artifact.columns) == (3, 3)
    pd.testing.assert_frame_equal(
        artifacts.read_artifact(tmp_path, artifact), to_pandas(pa.table(ROWS))
    )
    assert "<td>x</td>" in Table("T", "S.", pa.table(ROWS))._repr_html_()


def test_public_functions_take_an_arrow_table(served: loader.Project) -> None:
    rows = pd.read_csv(served.root / "t.csv")
    arrow = pa.Table.from_pandas(rows)
    config = served.config
    assert mlops_kit.list_feature_columns(config, arrow) == ["a", "b"]
    overview = mlops_kit.explore.summarize_missing(arrow)
    assert overview.sentence == mlops_kit.explore.summarize_missing(rows).sentence
    encoded, _ = mlops_kit.prepare.encode_target(arrow, config)
    pd.testing.assert_frame_equal(encoded, mlops_kit.prepare.encode_target(rows, config)[0])
    measured = mlops_kit.monitor.measure_drift(arrow, arrow, ["a"], config.monitor)
    assert measured.data["status"].tolist() == ["none"]
