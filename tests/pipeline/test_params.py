"""The parameters cell: what is read, what is refused."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlops_kit.errors import KitError
from mlops_kit.pipeline import params


def notebook(folder: Path, text: str, tag: str = "parameters") -> Path:
    cell = new_code_cell(text, metadata={"tags": [tag]})
    nbformat.write(new_notebook(cells=[cell]), folder / "n.ipynb")
    return folder / "n.ipynb"


def test_name_type_default_and_sentence_are_read(tmp_path: Path) -> None:
    found = params.read(notebook(tmp_path, "seed: int = 3  # Seed of all.\nas_of = ''  # Moment."))
    assert found["seed"] == params.Parameter("seed", "int", 3, "Seed of all.")
    assert found["as_of"].type == ""


def test_a_computed_parameter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="'seed' is not a literal"):
        params.read(notebook(tmp_path, "seed: int = max(1, 2)"))


def test_a_notebook_without_the_tag_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no cell tagged 'parameters'"):
        params.read(notebook(tmp_path, "seed: int = 1", tag="other"))


@pytest.mark.parametrize("text", ["", "no notebook", "[]", "{}", '{"cells": [{"cell_type": "code"}]}'])
def test_a_file_that_is_no_notebook_is_worded(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(KitError, match="n.ipynb is not a notebook"):
        params.read(tmp_path / "n.ipynb")


def test_a_parameters_cell_that_is_no_python_is_worded(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="line 2 of the parameters cell is no Python: 'b: int ='") as error:
        params.read(notebook(tmp_path, "a: int = 1\nb: int ="))
    assert "name: type = literal" in error.value.expected and error.value.cure


def test_an_unknown_parameter_names_the_nearest(tmp_path: Path) -> None:
    known = params.read(notebook(tmp_path, "trials: int = 3"))
    with pytest.raises(KitError, match="'trials'"):
        params.checked("train", known, {"trails": 3})


@pytest.mark.parametrize(("value", "fits"), [(3, True), ("3", False), (True, False), (3.5, False), (None, True)])
def test_a_value_has_its_declared_type(tmp_path: Path, value: object, fits: bool) -> None:
    known = params.read(notebook(tmp_path, "trials: int = 3"))
    if fits:
        assert params.checked("train", known, {"trials": value}) == {"trials": value}
    else:
        with pytest.raises(KitError, match="train.trials"):
            params.checked("train", known, {"trials": value})


def test_the_command_lines_words_become_values() -> None:
    assert params.from_text(["train.trials=5", "train.name=a=b"], ["train"]) == {"train": {"trials": 5, "name": "a=b"}}


@pytest.mark.parametrize("word", ["trials=5", "train.trials", "trian.trials=5"])
def test_a_word_that_cannot_be_read_is_refused(word: str) -> None:
    with pytest.raises(KitError):
        params.from_text([word], ["train"])


def test_the_stages_notebooks_have_parameters_that_can_be_read() -> None:
    from mlops_kit.config import resources

    books = sorted(resources("notebooks").glob("0*.ipynb"))
    assert books
    for book in books:
        found = params.read(book)
        assert "seed" in found
        assert all(p.sentence.endswith(".") for p in found.values()), book.name


def test_a_notebooks_title_is_its_question_and_without_one_its_name(tmp_path: Path) -> None:
    book = tmp_path / "n.ipynb"
    assert params.question(book) == "n"
    nbformat.write(new_notebook(cells=[new_code_cell("# no title"), new_markdown_cell("## A section")]), book)
    assert params.question(book) == "n"
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Is it fit?\nYes.")]), book)
    assert params.question(book) == "Is it fit?"
