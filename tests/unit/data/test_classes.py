"""Which class is positive, and what is refused instead of guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.data import classes, target
from mlops_kit.data.columns import ColumnKind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config


def make_project(root: Path, **more: Any) -> Project:
    data = {"name": "p", "source": "x.csv", "target": "y", "task": "binary"}
    return Project(root, validate_config({**data, **more}, "test"))


def make_config(**more: Any) -> ProjectConfig:
    return make_project(Path(), **more).config


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        (0, 1),
        (0.0, 1.0),
        ("0", "1"),
        ("0.0", "1.0"),
        (False, True),
        ("no", "yes"),
        ("NO", "Yes"),
        ("no", "YES"),  # in alphabetical order YES comes first
        ("n", "Y"),
        ("FALSE", "true"),
    ],
)
def test_known_pair_needs_no_setting(negative: Any, positive: Any) -> None:
    values = pd.Series([positive, negative, None, negative])
    coding = classes.resolve_column_coding(values, make_config())
    assert coding.classes == (negative, positive)
    assert coding.encode_column(values).fillna(-1).tolist() == [1, 0, -1, 0]


@pytest.mark.parametrize(("value", "code"), [("yes", 1.0), ("no", 0.0), (False, 0.0), (1, 1.0)])
def test_known_class_keeps_its_code_where_the_other_is_missing(value: Any, code: float) -> None:
    values = pd.Series([value, value])
    coding = classes.resolve_column_coding(values, make_config())
    assert set(coding.encode_column(values)) == {code}


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        (("good", "bad"), "positive: bad"),
        ((1, 2), "positive: 2"),
        ((1, -1), "positive: -1"),
        (("1", "2"), "positive: '2'"),
        (("yes", "maybe"), "positive: maybe"),
    ],
)
def test_other_pair_is_an_error_with_counts_and_the_line_to_add(
    pair: tuple[Any, Any], line: str
) -> None:
    frequent, rare = pair
    with pytest.raises(KitError) as error:
        classes.resolve_column_coding(pd.Series([frequent] * 3 + [rare] * 2), make_config())
    assert error.value.exit_code == 2
    assert f"{frequent!r} (3 rows), {rare!r} (2 rows)" in error.value.message
    assert error.value.hint == f"add to mlops.yaml: {line}"
    values = pd.Series([frequent, rare])
    config = make_config(**yaml.safe_load(line))
    assert classes.resolve_column_coding(values, config).classes == pair


def test_positive_that_is_not_a_class_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(KitError, match="positive: 'bat' is not a class of 'y'") as error:
        classes.resolve_column_coding(pd.Series(["good", "bad"]), make_config(positive="bat"))
    assert error.value.expected.startswith("'bad' (of: bad, good)")


def test_unquoted_word_that_yaml_reads_as_a_boolean_names_the_class() -> None:
    config = make_config(**yaml.safe_load("positive: no"))
    coding = classes.resolve_column_coding(pd.Series(["yes", "no"]), config)
    assert coding.classes == ("yes", "no")


def test_positive_class_may_be_missing_from_a_short_period() -> None:
    values = pd.Series(["good", "good"])
    coding = classes.resolve_column_coding(values, make_config(positive="bad"))
    assert coding.classes == ("good", "bad")
    assert coding.encode_column(values).tolist() == [0, 0]


@pytest.mark.parametrize(
    "spellings", [["Yes", "yes", " yes"], ["1", "1.0"], ["bad", "BAD"], ["True", "true "]]
)
def test_spelling_variants_are_named_with_their_rows(spellings: list[str]) -> None:
    values = pd.Series([*spellings, *spellings[:1], "no"])
    with pytest.raises(KitError, match="spelling variants of one class") as error:
        classes.resolve_column_coding(values, make_config())
    assert f"{spellings[0]!r} (2 rows), " in error.value.message
    for spelling in spellings[1:]:
        assert f"{spelling!r} (1 row)" in error.value.message
    assert "in the source" in error.value.hint


def test_leading_zeros_make_another_class() -> None:
    values = pd.Series(["1", "01"])
    assert classes.resolve_column_coding(values, make_config(positive="01")).classes == ("1", "01")


def test_more_than_two_classes_are_an_error_for_a_binary_task() -> None:
    with pytest.raises(KitError, match=r"has 3 classes: 'a' \(1 row\)"):
        classes.resolve_column_coding(pd.Series(list("abc")), make_config())


def test_positive_is_for_binary_tasks_only() -> None:
    with pytest.raises(KitError, match="positive: 'bad' needs task: binary, got regression"):
        make_config(task="regression", positive="bad")


def write_contract(project: Project, *allowed: str) -> None:
    text = f"columns:\n  y: {{type: text, allowed: [{', '.join(allowed)}]}}\n"
    (project.root / "contract.yaml").write_text(text)


def test_labels_training_and_contract_agree(tmp_path: Path) -> None:
    project = make_project(tmp_path, positive="bad")
    write_contract(project, "bad", "good")
    frame = pd.DataFrame({"y": ["bad", "good", None]})
    encoded, table = target.encode_target(frame, project.config)
    encode = target.TargetEncoder(project)
    assert encoded["y"].tolist()[:2] == [encode("bad"), encode("good")] == [1, 0]
    assert target.require_coding(project).positive == "bad"
    assert table.sentence.startswith("The positive class of y is bad")


def test_project_of_an_earlier_version_keeps_the_order_of_its_classes(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_contract(project, "bad", "good")
    with pytest.raises(KitError, match="which class of 'y' is positive: 'bad', 'good'"):
        target.require_coding(project)
    assert target.load_coding(project) == classes.ClassCoding(("bad", "good"), ColumnKind.TEXT)
    assert target.TargetEncoder(project, ["good", "bad"])("bad") == 1


@pytest.mark.parametrize("has_contract", [False, True])
def test_classes_are_checked_before_the_first_stage(tmp_path: Path, has_contract: bool) -> None:
    project = make_project(tmp_path)
    pd.DataFrame({"a": range(5), "y": list("gggbb")}).to_csv(tmp_path / "x.csv", index=False)
    if has_contract:
        write_contract(project, "b", "g")
    with pytest.raises(KitError, match=r"'g' \(3 rows\), 'b' \(2 rows\)"):
        target.check_classes(project)
    target.check_classes(make_project(tmp_path, positive="b"))


def test_spelling_variants_that_only_the_contract_has_are_reported(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    pd.DataFrame({"a": [1, 2], "y": ["yes", "no"]}).to_csv(tmp_path / "x.csv", index=False)
    write_contract(project, "'no'", "'yes'", "'Yes'")
    with pytest.raises(KitError, match=r"contract\.yaml: .* variants") as error:
        target.check_classes(project)
    assert "columns.y.allowed" in error.value.hint


def test_classes_of_a_multiclass_task_are_numbered_in_ascending_order() -> None:
    values = pd.Series(["b", "c", None, "a", "c"])
    coding = classes.resolve_column_coding(values, make_config(task="multiclass"))
    assert coding.classes == ("a", "b", "c")
    assert coding.encode_column(values).fillna(-1).tolist() == [1, 2, -1, 0, 2]
    table = target.encode_target(pd.DataFrame({"y": values}), make_config(task="multiclass"))[1]
    assert table.sentence == (
        "y has 3 classes; the most frequent is c with 50% of the labeled rows, "
        "the rarest b with 1 rows."
    )


def test_multiclass_coding_is_that_of_the_contract(tmp_path: Path) -> None:
    project = make_project(tmp_path, task="multiclass")
    with pytest.raises(KitError, match="does not list the classes of 'y'"):
        target.find_coding(project)
    write_contract(project, "a", "b", "c", "d")
    short_period = pd.DataFrame({"y": ["d", "b"]})
    encoded, _ = target.encode_target(short_period, project.config, target.list_classes(project))
    assert encoded["y"].tolist() == [3, 1]
    assert target.TargetEncoder(project)("c") == 2


def test_spelling_variants_of_many_classes_are_an_error() -> None:
    with pytest.raises(KitError, match="spelling variants"):
        classes.resolve_column_coding(pd.Series(["a", "b", "B"]), make_config(task="multiclass"))


def test_costs_and_positive_need_a_binary_task() -> None:
    with pytest.raises(KitError, match="without costs"):
        make_config(task="multiclass", cost={"miss": 3})
    with pytest.raises(KitError, match="needs task: binary, got multiclass"):
        make_config(task="multiclass", positive="a")
