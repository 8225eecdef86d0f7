"""The rules for a row: a value and a column of a table are judged alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data.contract import ColumnContract, DataContract
from mlops_kit.data.contract_rules import (
    MAX_TEXT_CHARACTERS,
    ColumnRule,
    ViolationCode,
    check_rows,
    compile_rules,
    find_row_violations,
)

RULES = [
    ColumnRule("n", "number", required=True, minimum=-1.5, maximum=10.0),
    ColumnRule("n", "number"),
    ColumnRule("i", "integer", minimum=0, maximum=9, allowed=(1, 2, 30)),
    ColumnRule("t", "text", required=True),
    ColumnRule("c", "text", allowed=("EWR", "JFK"), accepts_new_values=True),
    ColumnRule("b", "boolean", required=True, allowed=(False,)),
    ColumnRule("e", "empty"),
]
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "number": st.floats(allow_nan=False) | st.sampled_from([-1.5, 10.0, 10.5, 0.0]),
    "integer": st.integers(-3, 40),
    "text": st.sampled_from(["EWR", "JFK", "ewr", "", "x" * (MAX_TEXT_CHARACTERS + 1)]),
    "boolean": st.booleans(),
    "empty": st.sampled_from(["x", 1, 2.5]),
}


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_value_and_column_are_judged_alike(rule: ColumnRule, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[rule.kind] | st.none(), max_size=6))
    column = pd.Series(values, dtype=object)
    if rule.kind in {"number", "integer"}:
        column = column.astype(float)
    masks = rule.locate_violations(column)
    for position, value in enumerate(values):
        found = [code for code, mask in masks.items() if mask[position]]
        expected = rule.find_violation(value)
        assert found == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("values", "kind", "invalid"),
    [
        ([1.0, math.inf, -math.inf, 1e300], "number", [1, 2, 3]),
        (["1", "one", "2"], "number", [1]),
        ([1, 2.5, "3"], "integer", [1]),
        ([True, "no", "perhaps", 1], "boolean", [2]),
        (["2024-02-29", "2023-02-29", "0052-01-01", "1850-01-01"], "timestamp", [1, 2]),
        (["a", 1, "b" * (MAX_TEXT_CHARACTERS + 1)], "text", [2]),
        ([2**62, 2**40], "integer", []),
        ([None, None], "text", []),
        ([math.nan, math.nan], "text", []),
    ],
)
def test_values_that_no_contract_allows(values: list[Any], kind: str, invalid: list[int]) -> None:
    contract = DataContract(columns={"x": ColumnContract(type=kind)})
    frame = pd.DataFrame({"x": pd.Series(values, dtype=object)})
    check = check_rows(frame, compile_rules(contract, ["x"], frame, None))
    assert np.flatnonzero(check.is_rejected).tolist() == invalid


def test_value_of_another_type_is_no_missing_value_too() -> None:
    contract = DataContract(columns={"x": ColumnContract(type="number", missing=0)})
    frame = pd.DataFrame({"x": ["1", "one", None]})
    typed, violations = find_row_violations(frame, compile_rules(contract, ["x"], frame, None))
    assert typed["x"].isna().tolist() == [False, True, True]
    assert [(v.code, v.positions.tolist(), v.examples) for v in violations] == [
        ("type", [1], "one"),
        ("missing", [2], ""),
    ]


def test_required_column_that_a_table_lacks_is_missing_in_each_row() -> None:
    contract = DataContract(
        columns={
            "x": ColumnContract(type="number", missing=0),
            "y": ColumnContract(type="number", missing=0.5),
        }
    )
    frame = pd.DataFrame({"z": [1, 2]})
    check = check_rows(frame, compile_rules(contract, ["x", "y"], frame, None))
    assert check.is_rejected.all()
    assert check.describe_rows() == ["`x` is missing", "`x` is missing"]


def test_time_of_a_row_is_required_whatever_the_contract_says() -> None:
    contract = DataContract(columns={"at": ColumnContract(type="timestamp", missing=0.5)})
    frame = pd.DataFrame({"at": ["2024-01-01", None]})
    rules = compile_rules(contract, ["at"], frame, "at")
    assert check_rows(frame, rules).is_rejected.tolist() == [False, True]


def test_first_value_of_an_empty_column_is_new_and_accepted() -> None:
    contract = DataContract(columns={"e": ColumnContract(type="empty")})
    frame = pd.DataFrame({"e": [None, "x"]})
    check = check_rows(frame, compile_rules(contract, ["e"], frame, None))
    assert not check.is_rejected.any()
    assert check.table.sentence == (
        "All 2 rows satisfy the contract. Accepted although new: `e` is not empty in 1 (x)."
    )


def test_check_lists_what_is_rejected_and_what_is_accepted() -> None:
    contract = DataContract(
        columns={
            "age": ColumnContract(type="integer", missing=0, min=0, max=120),
            "place": ColumnContract(type="text", allowed=["N", "S"], new_values="accept"),
        }
    )
    frame = pd.DataFrame(
        {"age": [1, 130, -1, None], "place": ["N", "W", "W", "S"], "late": [1, 0, 1, 0]}
    )
    rules = compile_rules(contract, ["age", "place"], frame, None)
    check = check_rows(frame.assign(color="red"), rules)
    assert check.rejected_count == 3
    assert check.describe_rows() == [
        "",
        "`age` is not at most 120",
        "`age` is not at least 0",
        "`age` is missing",
    ]
    assert check.table.data[["column", "rule", "outcome", "rows"]].to_records(
        index=False
    ).tolist() == [
        ("age", "not missing", "rejected", 1),
        ("age", "at most 120", "rejected", 1),
        ("age", "at least 0", "rejected", 1),
        ("place", "one of N, S", "accepted", 2),
        ("color", "a known column", "accepted", 4),
    ]
    assert check.table.sentence == (
        "3 of 4 rows are rejected: `age` is missing in 1; `age` is not at most 120 in 1 (130.0); "
        "`age` is not at least 0 in 1 (-1.0). Accepted although new: `place` is not one of N, S "
        "in 2 (W); `color` is not a known column in 4 (red)."
    )


def test_unknown_column_is_rejected_where_it_has_a_value_if_the_contract_says_so() -> None:
    contract = DataContract(unknown_columns="reject", columns={"x": ColumnContract(type="number")})
    frame = pd.DataFrame({"x": [1, 2], "note": [None, "see mail"]})
    check = check_rows(frame, compile_rules(contract, ["x", "note"], frame, None))
    assert check.is_rejected.tolist() == [False, True]
    assert [violation.code for violation in check.violations] == [ViolationCode.UNKNOWN_FIELD]
