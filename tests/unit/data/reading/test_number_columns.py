"""Numbers: read without loss, or left as text with a reason."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.column_types import ColumnDecision, ColumnSettings, decide_column

NUMBER = ColumnKind.NUMBER
INTEGER = ColumnKind.INTEGER


def decide(texts: list[str | None], **options: object) -> ColumnDecision:
    column = pa.chunked_array([pa.array(texts, pa.string())])
    return decide_column("amount", column, ColumnSettings(**options))


def assert_text(decision: ColumnDecision, texts: list[str], *words: str) -> None:
    assert decision.reading.type == ColumnKind.TEXT
    assert decision.values.tolist() == texts
    notes = " ".join(decision.reading.notes)
    for word in words:
        assert word in notes


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "-2", "0"], INTEGER, [1, -2, 0]),
        (["0", "0.5", "-0.25"], NUMBER, [0, 0.5, -0.25]),
        (["1.", ".5", "2"], NUMBER, [1, 0.5, 2]),
        (["1e5", "1E-3", "-2.5e+2"], NUMBER, [1e5, 1e-3, -250]),
        (["+5", "-3", "7"], INTEGER, [5, -3, 7]),
        ([" 5", "3 ", "\t7"], INTEGER, [5, 3, 7]),
        (["1,5", "2,25"], NUMBER, [1.5, 2.25]),
        (["1.234,5", "7"], NUMBER, [1234.5, 7]),
        (["1,234.5", "7"], NUMBER, [1234.5, 7]),
        (["1,234,567", "7"], INTEGER, [1234567, 7]),
        (["12,34,567", "1,00,000"], INTEGER, [1234567, 100000]),
        (["1.234.567", "2.345"], INTEGER, [1234567, 2345]),
        (["1 234", "12 345 678"], INTEGER, [1234, 12345678]),
        (["1\u00a0234,5", "2"], NUMBER, [1234.5, 2]),
        (["1\u202f234", "1\u202f235"], INTEGER, [1234, 1235]),
        (["1'234.50", "2'000"], NUMBER, [1234.5, 2000]),
        (["1\u2019234", "5"], INTEGER, [1234, 5]),
        (["\u22125", "3"], INTEGER, [-5, 3]),
        (["12%", "5.5 %"], NUMBER, [12, 5.5]),
        (["$1,234.50", "-$3", "$-4"], NUMBER, [1234.5, -3, -4]),
        (["5 €", "1.234,50 €"], NUMBER, [5, 1234.5]),
        (["EUR 5", "EUR 7"], INTEGER, [5, 7]),
        (["1.0", "2.0"], NUMBER, [1, 2]),
        ([str(2**63 - 1), str(-(2**63))], INTEGER, [2**63 - 1, -(2**63)]),
    ],
)
def test_numbers_are_read(texts: list[str], kind: ColumnKind, values: list[float]) -> None:
    decision = decide(texts)
    assert decision.reading.type == kind
    assert decision.values.tolist() == values


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["007", "12"], ["leading zeros", "007"]),
        (["01234"] + ["12345"] * 400, ["leading zeros"]),
        (["-01", "5"], ["leading zeros"]),
        (["00.5", "1.5"], ["leading zeros"]),
        (["+4917612345678", "+4917687654321"], ["telephone"]),
        (["1,234", "12,345"], ["1.234", "1234", "source.decimal"]),
        (["1.234", "12.345", "999"], ["source.decimal"]),
        (["1_000", "2_000"], []),
        (["0x1F", "0x20"], []),
        (["inf", "-inf", "1"], []),
        (["1e400", "-1e999", "1"], []),
        (["(5)", "(7)"], []),
        (["5-", "7-"], []),
        (["1.2.3", "1.2.4"], []),
        (["192.168.100.200", "192.168.100.201"], ["IP addresses"]),
        (["12 345", "1 23"] * 5, []),
        (["1,23,4", "1,2"], []),
        (["$5", "7"] * 10, ["unit '$'"]),
        (["$5", "€7"] * 10, ["unit '$'"]),
        (["12%", "0.5"] * 10, ["unit '%'"]),
        (["5 kg", "7 kg"], []),
        (["\u0663", "\u0664"], []),
        (["\uff11", "\uff12"], []),
        (["12345678901234567890", "5"], ["beyond 64 bits"]),
        ([str(2**63), "5"], ["beyond 64 bits"]),
        (["1.5", "1,5"] * 10, ["others a decimal comma"]),
        (["1", "2", "x"] * 10, ["not numbers", "x"]),
        (["yes", "no"], []),
    ],
)
def test_what_numbers_would_lose_stays_text(texts: list[str], words: list[str]) -> None:
    assert_text(decide(texts), texts, *words)


@pytest.mark.parametrize(
    ("decimal", "thousands", "expected"),
    [
        (",", None, 1.234),
        (".", None, 1234),
        (None, ",", 1234),
        (None, ".", 1.234),
        (None, "", 1.234),
    ],
)
def test_separator_that_is_set_decides(
    decimal: str | None, thousands: str | None, expected: float
) -> None:
    decision = decide(["1,234", "2,345"], decimal=decimal, thousands=thousands)
    assert decision.values.iloc[0] == expected


def test_numbers_against_the_separator_that_is_set_stay_text() -> None:
    assert_text(decide(["1.5", "2.5"], decimal=","), ["1.5", "2.5"])


def test_whole_numbers_have_no_style() -> None:
    decision = decide(["1", "20", "300"], decimal=",", thousands=".")
    assert decision.values.tolist() == [1, 20, 300]
    assert decision.reading.format == ""


def test_ambiguous_point_is_a_decimal_point_and_noted() -> None:
    decision = decide(["1.234", "12.345"])
    assert decision.values.tolist() == [1.234, 12.345]
    assert "source.decimal" in decision.reading.notes[0]


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ([" 5", "3"], "1 value had spaces around it, which were removed"),
        (["+5", "+3"], "2 values have a plus sign, which was removed"),
        (["\u22125", "3"], "1 value has the character '\u2212', which was read as '-'"),
        (["12%", "13%"], "2 values have the unit '%', which was removed"),
        (["-0", " 3"], "1 value is '-0' and read as 0"),
    ],
)
def test_conversions_are_counted(texts: list[str], sentence: str) -> None:
    assert sentence in decide(texts).reading.conversions


def test_conversions_are_counted_per_row_not_per_distinct_value() -> None:
    decision = decide([" 5", "3", "3"] * 1000)
    assert decision.reading.conversions == [
        "1,000 values had spaces around them, which were removed"
    ]


def test_integers_beyond_floats_beside_missing_values_stay_text() -> None:
    texts = [str(2**53 + 1), ""]
    decision = decide(texts)
    assert decision.values.iloc[0] == texts[0]
    assert "2**53" in decision.reading.notes[0]


def test_integers_beyond_floats_without_missing_values_are_exact() -> None:
    assert decide([str(2**53 + 1), "5"]).values.tolist() == [2**53 + 1, 5]


def test_integers_beside_missing_values_are_floats() -> None:
    decision = decide(["1", "", "3"])
    assert decision.reading.type == INTEGER
    assert decision.values.tolist()[::2] == [1.0, 3.0]
    assert math.isnan(decision.values.iloc[1])


def test_unreadable_value_does_not_turn_integers_into_floats() -> None:
    decision = decide(["1"] * 400 + ["x"])
    assert decision.values.dtype == np.int64
    assert [(value.row, value.value) for value in decision.unreadable] == [(400, "x")]


def test_more_digits_than_a_double_are_counted() -> None:
    decision = decide(["0.1234567890123456789", "0.30000000000000004", "0.5"])
    assert decision.reading.notes == ["1 value has more digits than a floating-point number holds"]


@pytest.mark.parametrize("count", [100, 10_000])
def test_tolerated_share_of_other_values_is_unreadable(count: int) -> None:
    tolerated = count // 100
    texts = ["1.5"] * (count - tolerated) + ["abc"] * tolerated
    decision = decide(texts)
    assert decision.reading.type == NUMBER
    assert [value.row for value in decision.unreadable] == list(range(count - tolerated, count))
    assert_text(decide([*texts, "abc", "abc"]), [*texts, "abc", "abc"], "not numbers")


def test_one_other_value_of_few_is_unreadable() -> None:
    assert len(decide(["1", "2", "x"]).unreadable) == 1
    assert_text(decide(["1", "x"]), ["1", "x"])


def test_set_share_of_unreadable_values() -> None:
    texts = ["1"] * 90 + ["x"] * 10
    assert decide(texts, max_unreadable_share=0.1).reading.type == INTEGER
    assert decide(texts, max_unreadable_share=0.09).reading.type == ColumnKind.TEXT


@pytest.mark.parametrize(
    ("texts", "sentinels"),
    [
        (["3", "5", "4", "6", "7"] * 20 + ["-999"] * 5, ["-999 in 5 rows"]),
        (["0.5", "1.5", "2.5"] * 20 + ["9999"] * 4, ["9999 in 4 rows"]),
        (["3", "5", "4", "6", "7"] * 20 + ["-1"] * 5, ["-1 in 5 rows"]),
        (["3", "5", "4"] * 20 + ["-999"] * 2, []),
        (["-1", "1"] * 20, []),
        (["-1", "0", "1"] * 20, []),
        (["-5", "-3", "-1", "2"] * 20, []),
        (["900", "950", "999", "700", "500", "300"] * 20, []),
        (
            ["1", "2", "3", "4", "5"] * 20 + ["99"] * 3 + ["-99"] * 3,
            ["-99 in 3 rows", "99 in 3 rows"],
        ),
    ],
)
def test_repeated_value_far_from_the_others_is_suspected(
    texts: list[str], sentinels: list[str]
) -> None:
    decision = decide(texts)
    assert sorted(decision.reading.sentinels) == sorted(sentinels)
    assert decision.values.notna().all()


WRITERS: dict[str, Callable[[Decimal], str]] = {
    "plain": lambda number: f"{number}",
    "decimal comma": lambda number: f"{number}".replace(".", ","),
    "commas between thousands": lambda number: f"{number:,}",
    "points between thousands": lambda number: f"{number:,}".translate(
        str.maketrans({",": ".", ".": ","})
    ),
    "spaces between thousands": lambda number: f"{number:,}".replace(",", " "),
    "apostrophes between thousands": lambda number: f"{number:,}".replace(",", "'"),
    "currency": lambda number: f"${number:,}",
}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    writer=st.sampled_from(sorted(WRITERS)),
    numbers=st.lists(
        st.decimals(-(10**7), 10**7, places=2, allow_nan=False), min_size=1, max_size=6
    ),
)
def test_numbers_in_any_style_are_read_as_written_or_left_as_text(
    writer: str, numbers: list[Decimal]
) -> None:
    texts = [WRITERS[writer](number) for number in numbers]
    decision = decide(texts)
    if decision.reading.type == ColumnKind.TEXT:
        assert decision.values.tolist() == texts
        return
    assert decision.values.tolist() == [float(number) for number in numbers]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=6))
def test_floats_survive(numbers: list[float]) -> None:
    decision = decide([repr(number) for number in numbers])
    assert decision.reading.type == NUMBER
    assert decision.values.tolist() == numbers
    assert not any("more digits" in note for note in decision.reading.notes)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numbers=st.lists(st.integers(), min_size=1, max_size=6))
def test_integers_survive(numbers: list[int]) -> None:
    texts = [str(number) for number in numbers]
    decision = decide(texts)
    assert [str(value) for value in decision.values] == texts
