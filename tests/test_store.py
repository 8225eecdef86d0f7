"""Artifacts: read back as written, hashed by content, refused when damaged; half-written files never show."""

from __future__ import annotations

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


@pytest.mark.parametrize("name", VALUES)
def test_an_artifact_is_read_back_as_written(tmp_path: Path, name: str) -> None:
    made = artifacts.write_artifact(tmp_path, "prepare", name, VALUES[name])
    back = artifacts.read_artifact(tmp_path, made)
    assert artifacts.are_artifacts_intact(tmp_path, [made])
    assert made.bytes > 0
    assert made.stage == "prepare"
    if name == "table":
        pd.testing.assert_frame_equal(back, FRAME)
        assert (made.rows, made.columns) == (3, 3)
    elif name == "result":
        assert back.sentence == "S."
        assert back.data["a"].tolist() == [1, 2, 3]
    else:
        assert back == VALUES[name]


def test_a_page_is_html_and_a_text_markdown(tmp_path: Path) -> None:
    assert (
        artifacts.write_artifact(tmp_path, "s", "page", VALUES["page"]).path
        == "artifacts/page.html"
    )
    assert (
        artifacts.write_artifact(tmp_path, "s", "text", VALUES["text"]).path == "artifacts/text.md"
    )


@pytest.mark.parametrize(
    "change", [lambda p: p.unlink(), lambda p: p.write_bytes(b"x")], ids=["gone", "damaged"]
)
def test_a_gone_or_damaged_artifact_names_the_cure(tmp_path: Path, change: object) -> None:
    made = artifacts.write_artifact(tmp_path, "train", "recipe", {"a": 1})
    change(tmp_path / made.path)  # type: ignore[operator]
    with pytest.raises(RunFailedError, match="mlops run --from train"):
        artifacts.read_artifact(tmp_path, made)
    assert not artifacts.are_artifacts_intact(tmp_path, [made])


def test_what_is_volatile_is_not_part_of_the_content(tmp_path: Path) -> None:
    one = artifacts.write_artifact(tmp_path / "1", "s", "t", FRAME, volatile=["t"])
    two = artifacts.write_artifact(
        tmp_path / "2", "s", "t", FRAME.assign(t="other"), volatile=["t"]
    )
    assert one.content == two.content
    assert one.sha256 != two.sha256
    left, right = (
        artifacts.write_artifact(tmp_path / n, "s", "d", {"a": 1, "took": s}, volatile=["took"])
        for n, s in (("1", 3), ("2", 4))
    )
    assert left.content == right.content


def test_a_record_has_no_content(tmp_path: Path) -> None:
    assert artifacts.write_artifact(tmp_path, "s", "version", {"v": 1}, record=True).content is None


def test_a_partitioned_table_has_a_folder_a_value_and_is_replaced_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"day": ["2013-07-01", "2013-07-02"], "a": [1, 2]})
    artifacts.write_artifact(tmp_path, "s", "scores", frame, partition="day")
    made = artifacts.write_artifact(tmp_path, "s", "scores", frame.head(1), partition="day")
    assert [p.name for p in (tmp_path / made.path).iterdir()] == ["day=2013-07-01"]
    assert artifacts.read_artifact(tmp_path, made)["a"].tolist() == [1]


def test_the_hash_sees_values_order_and_names_and_takes_missing_as_one() -> None:
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
    assert base not in {files.hash_table(f) for f in changed}


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_an_unknown_artifact_lists_those_there_are(tmp_path: Path) -> None:
    made = artifacts.write_artifact(tmp_path, "s", "recipe", {})
    with pytest.raises(KitError, match="'recipe'"):
        artifacts.find_artifact({"recipe": made}, "recipes", "the run")
    with pytest.raises(KitError, match="got that far"):
        artifacts.find_artifact({}, "recipes", "the run")
