"""Artifacts and files: read as written, hashed by content, refused when damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.results import Table
from mlops_kit.project import artifacts

FRAME = pd.DataFrame(
    {
        "a": [1, 2, 3],
        "t": ["x", None, "z"],
        "at": pd.to_datetime(["2013-01-01", None, "2013-01-03"], utc=True),
    }
)
VALUES = {
    "table": FRAME,
    "result": Table("T", "S.", FRAME[["a"]]),
    "dict": {"a": [1, None], "b": {"c": 0.5}},
    "text": "# A card",
    "page": "<p>A card</p>",
}

# Hashes of FRAME and of a JSON value as the first version computed them.
OLD_TABLE_HASH = "dd0f4a4a218013bc1d3283b837514c5900a6bce93ef71bf5a511eec540cf0acc"
OLD_JSON_HASH = "37a34322c476b69c13593bf4278ad17a73e0fc59f37c3b138f41c0f6805412a0"


@pytest.mark.parametrize("name", VALUES)
def test_artifact_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    artifact = artifacts.write_artifact(tmp_path, "prepare", name, VALUES[name])
    value = artifacts.read_artifact(tmp_path, artifact)
    assert artifacts.are_artifacts_intact(tmp_path, [artifact])
    assert artifact.bytes > 0
    assert artifact.stage == "prepare"
    if name == "table":
        pd.testing.assert_frame_equal(value, FRAME)
        assert (artifact.rows, artifact.columns) == (3, 3)
    elif name == "result":
        assert value.sentence == "S."
        assert value.data["a"].tolist() == [1, 2, 3]
    else:
        assert value == VALUES[name]


def test_document_is_html_if_it_begins_with_a_tag_else_markdown(tmp_path: Path) -> None:
    page = artifacts.write_artifact(tmp_path, "s", "page", VALUES["page"])
    text = artifacts.write_artifact(tmp_path, "s", "text", VALUES["text"])
    assert page.path == "artifacts/page.html"
    assert text.path == "artifacts/text.md"


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"x")], ids=["missing", "damaged"]
)
def test_missing_or_damaged_artifact_is_an_error_with_a_hint(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    artifact = artifacts.write_artifact(tmp_path, "train", "recipe", {"a": 1})
    change(tmp_path / artifact.path)
    with pytest.raises(RunFailedError, match="mlops run --from train"):
        artifacts.read_artifact(tmp_path, artifact)
    assert not artifacts.are_artifacts_intact(tmp_path, [artifact])


def test_volatile_columns_and_keys_do_not_change_the_content_hash(tmp_path: Path) -> None:
    first_table = artifacts.write_artifact(tmp_path / "1", "s", "t", FRAME, volatile=["t"])
    changed_frame = FRAME.assign(t="other")
    second_table = artifacts.write_artifact(tmp_path / "2", "s", "t", changed_frame, volatile=["t"])
    assert first_table.content == second_table.content
    assert first_table.sha256 != second_table.sha256
    hashes = set()
    for seconds in (3, 4):
        value = {"a": 1, "took": seconds}
        artifact = artifacts.write_artifact(tmp_path / "1", "s", "d", value, volatile=["took"])
        hashes.add(artifact.content)
    assert len(hashes) == 1


def test_record_has_no_content_hash(tmp_path: Path) -> None:
    artifact = artifacts.write_artifact(tmp_path, "s", "version", {"v": 1}, record=True)
    assert artifact.content is None


def test_partitioned_table_has_a_folder_per_value_and_is_replaced_as_a_whole(
    tmp_path: Path,
) -> None:
    frame = pd.DataFrame({"day": ["2013-07-01", "2013-07-02"], "a": [1, 2]})
    artifacts.write_partitioned_artifact(tmp_path, "s", "scores", frame, "day")
    artifact = artifacts.write_partitioned_artifact(tmp_path, "s", "scores", frame.head(1), "day")
    assert [p.name for p in (tmp_path / artifact.path).iterdir()] == ["day=2013-07-01"]
    assert artifacts.read_artifact(tmp_path, artifact)["a"].tolist() == [1]
    assert artifact.content == files.hash_table(frame.head(1))


def test_table_hash_covers_values_order_and_names_and_missing_values_are_equal() -> None:
    base = files.hash_table(FRAME)
    assert files.hash_table(FRAME.copy()) == base
    assert files.hash_table(FRAME.assign(t=["x", float("nan"), "z"])) == base
    assert files.hash_table(FRAME.assign(t=FRAME["t"].astype("category"))) == base
    changed = [
        FRAME.assign(a=[1, 2, 4]),
        FRAME.iloc[::-1],
        FRAME.rename(columns={"a": "b"}),
        FRAME.head(2),
    ]
    assert base not in {files.hash_table(frame) for frame in changed}


def test_hashes_are_those_of_earlier_versions() -> None:
    assert files.hash_table(FRAME) == OLD_TABLE_HASH
    assert files.hash_json({"b": [1, None, 0.5], "a": "ü"}) == OLD_JSON_HASH


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(temporary_path: Path) -> None:
        temporary_path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_unknown_artifact_lists_the_known_ones(tmp_path: Path) -> None:
    artifact = artifacts.write_artifact(tmp_path, "s", "recipe", {})
    with pytest.raises(KitError, match="'recipe'"):
        artifacts.find_artifact({"recipe": artifact}, "recipes", "the run")
    with pytest.raises(KitError, match="a run that wrote it"):
        artifacts.find_artifact({}, "recipes", "the run")
