"""One type per column: missing words, booleans, text, and files with one number style."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.column_types import (
    ColumnDecision,
    ColumnSettings,
    decide_column,
    detect_number_style,
)


def make_column(texts: list[str | None]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string())])


def decide(texts: list[str | None], **options: object) -> ColumnDecision:
    return decide_column("c", make_column(texts), ColumnSettings(**options))


@pytest.mark.parametrize(
    "word",
    [
        "NA",
        "n/a",
        "N/A",
        "NaN",
        "null",
        "NULL",
        "None",
        "-",
        ".",
        "?",
        "#N/A",
        "missing",
        " ",
        "\\N",
    ],
)
@pytest.mark.parametrize("values", [["1", "2"], ["1.5", "2.5"], ["true", "false"], ["2024-02-27"]])
def test_missing_word_counts_beside_other_types(word: str, values: list[str]) -> None:
    decision = decide([*values, word, word])
    assert decision.reading.type != ColumnKind.TEXT
    assert decision.reading.missing_words == {word: 2}
    assert decision.values.isna().sum() == 2
    assert not decision.unreadable


def test_missing_word_is_kept_in_a_column_of_text() -> None:
    decision = decide(["DE", "NA", "FR", ""])
    assert decision.values.tolist()[:3] == ["DE", "NA", "FR"]
    assert decision.reading.missing_words == {"": 1}
    assert "'NA'" in decision.reading.notes[0]


def test_listed_word_is_missing_in_a_column_of_text() -> None:
    decision = decide(["DE", "NA", "FR"], missing=("NA",))
    assert decision.values.isna().tolist() == [False, True, False]
    assert decision.reading.missing_words == {"NA": 1}


def test_listed_number_is_missing_in_a_column_of_numbers() -> None:
    decision = decide(["1", "-99", "3"], missing=("-99",))
    assert decision.reading.missing_words == {"-99": 1}
    assert math.isnan(decision.values.iloc[1])


def test_column_of_missing_words_only_stays_text() -> None:
    assert decide(["NA", "NA"]).values.tolist() == ["NA", "NA"]


@pytest.mark.parametrize("texts", [[], [""], ["", None], [None]])
def test_column_without_values_is_empty(texts: list[str | None]) -> None:
    decision = decide(texts)
    assert decision.reading.type == ColumnKind.EMPTY
    assert decision.values.isna().all()
    assert len(decision.values) == len(texts)


def test_column_of_arrow_nulls_is_empty() -> None:
    decision = decide_column("c", pa.chunked_array([pa.nulls(2)]), ColumnSettings())
    assert decision.reading.type == ColumnKind.EMPTY


@pytest.mark.parametrize(
    ("texts", "values"),
    [(["true", "false"], [True, False]), (["TRUE", "False", " true"], [True, False, True])],
)
def test_true_and_false_are_booleans(texts: list[str], values: list[bool]) -> None:
    decision = decide(texts)
    assert decision.values.dtype == np.bool_
    assert decision.values.tolist() == values


@pytest.mark.parametrize(
    "texts", [["yes", "no"], ["y", "n"], ["t", "f"], ["T", "F"], ["true", "1"]]
)
def test_other_pairs_stay_text(texts: list[str]) -> None:
    assert decide(texts).values.tolist() == texts


def test_text_is_kept_as_it_is() -> None:
    texts = [" a", "b ", "\u00fc", "a\nb", "<b>", "'", '"', "a,b", "\u00a0"]
    decision = decide(texts)
    assert decision.values.tolist() == texts
    assert "2 values have spaces around them" in " ".join(decision.reading.notes)


def test_column_that_is_left_out_is_not_inspected() -> None:
    decision = decide(["1", "", "x"], is_inspected=False)
    assert decision.reading.type == ColumnKind.TEXT
    assert decision.values.tolist()[0] == "1"


def test_examples_are_as_written() -> None:
    assert decide([" 1", "+2", "NA", "3", "4"]).reading.examples == [" 1", "+2", "3"]


def test_missing_share_counts_words_and_empty_cells() -> None:
    assert decide(["1", "NA", "", None]).reading.missing_share == 0.75


def test_reading_is_stored_as_json() -> None:
    reading = decide(["1", "NA"]).reading
    assert type(reading).model_validate_json(reading.model_dump_json()) == reading


def test_column_in_chunks_is_read_as_a_whole() -> None:
    column = pa.chunked_array([["1", "2"], [], ["x"], ["4"] * 200])
    decision = decide_column("c", column, ColumnSettings())
    assert [value.row for value in decision.unreadable] == [2]
    assert decision.values.tolist()[3:] == [4] * 200


def test_long_column_of_distinct_texts_is_read_like_a_short_one() -> None:
    texts = [f"customer {number}" for number in range(50_000)]
    texts[49_999] = "12"
    decision = decide(texts)
    assert decision.values.tolist() == texts


def test_column_whose_first_rows_are_unusual_is_still_decided_by_all() -> None:
    texts = ["x"] * 400 + [str(number / 8) for number in range(50_000)]
    decision = decide(texts)
    assert decision.reading.type == ColumnKind.NUMBER
    assert len(decision.unreadable) == 400


@pytest.mark.parametrize(
    ("columns", "decimal", "thousands"),
    [
        ({"a": ["1.5", "2"]}, ".", None),
        ({"a": ["1,5", "2"]}, ",", None),
        ({"a": ["1,5"], "b": ["1.234"]}, ",", "."),
        ({"a": ["1.5"], "b": ["1,234"]}, ".", ","),
        ({"a": ["1,234,567"]}, ".", ","),
        ({"a": ["1.234.567"]}, ",", "."),
        ({"a": ["1 234,5"]}, ",", " "),
        ({"a": ["1'234.5"]}, ".", "'"),
        ({"a": ["1,234"], "b": ["x"]}, None, None),
        ({"a": ["1", "2"]}, None, None),
        ({"a": ["27.02.2024", "28.02.2024"], "b": ["1,5"]}, ",", None),
        ({"a": ["192.168.0.1", "10.0.0.1"], "b": ["1.5"]}, ".", None),
        ({"a": ["one, two", "1.234,5 is a price"], "b": ["1.5"]}, ".", None),
        ({"a": ["$1,234.50"], "b": ["7"]}, ".", ","),
    ],
)
def test_number_style_of_a_file(
    columns: dict[str, list[str | None]], decimal: str | None, thousands: str | None
) -> None:
    style = detect_number_style({name: make_column(texts) for name, texts in columns.items()})
    assert (style.decimal, style.thousands) == (decimal, thousands)


def test_columns_that_contradict_one_another_leave_the_style_open() -> None:
    style = detect_number_style({"a": make_column(["1.5"]), "b": make_column(["1,5"])})
    assert style.decimal is None
    assert style.notes


def test_style_of_the_file_decides_about_an_ambiguous_column() -> None:
    columns = {"price": make_column(["1,5", "22,75"]), "sold": make_column(["1.234", "999"])}
    style = detect_number_style(columns)
    options = ColumnSettings(decimal=style.decimal, thousands=style.thousands)
    decision = decide_column("sold", columns["sold"], options)
    assert decision.values.tolist() == [1234, 999]


CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(["", "NA", "-", "1", "1.5", "1,5", "007", "true", "2024-02-27", "27/02/2024"]),
    st.integers().map(str),
    st.none(),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(CELLS, max_size=12))
def test_no_cell_is_changed_silently(texts: list[str | None]) -> None:
    decision = decide(texts)
    reading = decision.reading
    assert len(decision.values) == len(texts)
    unreadable_rows = {value.row: value.value for value in decision.unreadable}
    missing_rows = 0
    for row, (text, value) in enumerate(zip(texts, decision.values, strict=True)):
        if row in unreadable_rows:
            assert unreadable_rows[row] == text
        elif value != value or value is None:  # NaN
            missing_rows += 1
            assert (text or "") in reading.missing_words
        elif reading.type == ColumnKind.TEXT:
            assert value == text
        elif not reading.conversions and reading.type == ColumnKind.INTEGER:
            assert str(int(value)) == text
    assert missing_rows == sum(reading.missing_words.values())
