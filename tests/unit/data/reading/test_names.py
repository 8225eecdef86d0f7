"""Names of columns are made usable under stated rules, and every change is noted."""

from __future__ import annotations

import pytest

from mlops_kit.data.reading.names import MAX_NAME_CHARACTERS, choose_names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "b"], ["a", "b"]),
        ([" a ", "\ufeffb", "c\u00a0"], ["a", "b", "c"]),
        (["a", "", "b"], ["a", "column_2", "b"]),
        (["a", "a", "a"], ["a", "a_2", "a_3"]),
        (["a", "a", "a_2"], ["a", "a_3", "a_2"]),
        (["", "column_1"], ["column_1_2", "column_1"]),
        (["a\nb", "a \r\n b"], ["a b", "a b_2"]),
        (["<b>x</b>", 'say "hi"'], ["<b>x</b>", 'say "hi"']),
        (["A", "a"], ["A", "a"]),
    ],
)
def test_names_are_usable_and_distinct(names: list[str], expected: list[str]) -> None:
    chosen = choose_names(names)
    assert [name.column for name in chosen] == expected
    for name in chosen:
        assert (name.note == "") == (name.column == name.name_in_file)


def test_long_name_is_cut_off() -> None:
    (name,) = choose_names(["x" * 500])
    assert len(name.column) == MAX_NAME_CHARACTERS
    assert name.name_in_file == "x" * 500
    assert "500 characters" in name.note
