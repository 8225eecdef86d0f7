"""The request schema: no silent conversion, all problems at once, published as it is validated."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data import contract, contract_rules, source
from mlops_kit.data.timestamps import parse_timestamps
from mlops_kit.project import loader
from mlops_kit.serving import request_schema
from mlops_kit.serving.request_fields import RequestField

FIELDS = [
    RequestField("n", "number", minimum=-1.5, maximum=10),
    RequestField("i", "integer", required=True, minimum=0, maximum=2**53),
    RequestField("t", "text"),
    RequestField("c", "text", allowed=("EWR", "JFK")),
    RequestField("b", "boolean"),
    RequestField("d", "integer", minimum=0, maximum=9, allowed=(1, 2)),
    RequestField("m", "timestamp", required=True, timezone="America/New_York"),
    RequestField("e", "empty"),
]
ROW: dict[str, Any] = {
    "n": 1.5,
    "i": 3,
    "t": "x",
    "c": "JFK",
    "b": True,
    "d": 2,
    "m": "2013-07-01T06:00",
    "e": None,
}


@pytest.fixture(scope="module")
def schema() -> request_schema.RequestSchema:
    return request_schema.RequestSchema(FIELDS, "m", "America/New_York")


def find_codes(schema: request_schema.RequestSchema, **changes: Any) -> dict[str, str]:
    """The problems of a valid row with some values changed, as it arrives in JSON."""
    row = orjson.loads(orjson.dumps({**ROW, **changes}))
    return {problem.field: problem.code for problem in schema.find_problems([row])}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 3),
        ("n", None),
        ("n", -1.5),
        ("i", 3.0),
        ("i", 2**53),
        ("t", ""),
        ("t", "é\u0000"),
        ("c", None),
        ("b", False),
        ("d", 2.0),
        ("m", "2013-07-01"),
        ("m", "2013-07-01T06:00:00Z"),
        ("m", "2012-02-29 06:00:00.5+02:00"),
    ],
)
def test_valid_value_has_no_problem(
    schema: request_schema.RequestSchema, name: str, value: Any
) -> None:
    assert find_codes(schema, **{name: value}) == {}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("n", "3", "type"),
        ("n", True, "type"),
        ("n", [1], "type"),
        ("n", 10.5, "range"),
        ("n", 1e300, "range"),
        ("i", "3", "type"),
        ("i", 3.5, "type"),
        ("i", True, "type"),
        ("i", -1, "range"),
        ("i", 2**53 + 1, "range"),
        ("i", 2**64 - 1, "range"),
        ("i", None, "missing"),
        ("t", 5, "type"),
        ("t", "x" * (contract_rules.MAX_TEXT_CHARACTERS + 1), "too_long"),
        ("t", {}, "type"),
        ("c", "LGA", "not_allowed"),
        ("c", "jfk", "not_allowed"),
        ("b", 1, "type"),
        ("b", 0, "type"),
        ("b", "true", "type"),
        ("d", 3, "not_allowed"),
        ("m", "soon", "type"),
        ("m", 1372658400, "type"),
        ("m", "2013-02-30", "type"),
        ("m", "2013-02-29", "type"),
        ("m", "2013-07-01T24:00", "type"),
        ("m", "20130701", "type"),
        ("m", "0052-01-01", "type"),
        ("m", None, "missing"),
        ("e", 1, "not_allowed"),
        ("e", [1], "type"),
    ],
)
def test_invalid_value_has_its_problem(
    schema: request_schema.RequestSchema, name: str, value: Any, code: str
) -> None:
    assert find_codes(schema, **{name: value}) == {name: code}


def test_problems_of_all_rows_name_the_value_and_what_was_expected(
    schema: request_schema.RequestSchema,
) -> None:
    rows = [{**ROW, "n": "3"}, ROW, {**ROW, "c": "LGA", "N": 1}, [1, 2], {"m": "2013-07-01"}]
    problems = schema.find_problems(rows)
    assert [(problem.row, problem.field, problem.code) for problem in problems] == [
        (0, "n", "type"),
        (2, "N", "unknown_field"),
        (2, "c", "not_allowed"),
        (3, "", "not_a_row"),
        (4, "i", "missing"),
    ]
    assert orjson.loads(orjson.dumps(problems[0])) == {
        "row": 0,
        "field": "n",
        "code": "type",
        "got": "3",
        "expected": "a number from -1.5 to 10, or null",
    }
    assert problems[1].expected == "one of n, i, t, c, b, d, m, e"
    assert problems[2].expected == "one of EWR, JFK, or null"


def test_long_value_is_shortened_in_a_problem(schema: request_schema.RequestSchema) -> None:
    [problem] = schema.find_problems([{**ROW, "n": "x" * 10_000}])
    assert len(problem.got) == 101


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-2, 12),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["EWR", "LGA", "3", "true", "2013-07-01T06:00:00Z", "2013-07-01", ""]),
    st.text(max_size=3),
    st.just([1]),
    st.just({}),
)


@given(st.dictionaries(st.sampled_from([*ROW, "N"]), VALUES, max_size=9))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_published_schema_accepts_what_the_validator_accepts(
    schema: request_schema.RequestSchema, changes: dict[str, Any]
) -> None:
    row = orjson.loads(orjson.dumps({**ROW, **changes}))
    published = jsonschema.Draft202012Validator(json.loads(json.dumps(schema.json_schema)))
    fields_refused_by_schema = {
        error.path[0] if error.path else "N" for error in published.iter_errors(row)
    }
    problems = schema.find_problems([row])
    assert fields_refused_by_schema == {problem.field for problem in problems}


def test_table_has_the_column_types_of_the_source(schema: request_schema.RequestSchema) -> None:
    table = schema.to_frame([ROW, {"i": 4.0, "m": "2013-07-01T06:00:00+02:00"}])
    assert table.dtypes.astype(str).to_dict() == {
        "n": "float64",
        "i": "int64",
        "t": "object",
        "c": "object",
        "b": "object",
        "d": "Int64",
        "m": "datetime64[us, UTC]",
        "e": "object",
    }
    assert table["m"].dt.strftime("%d %H:%M").tolist() == ["01 10:00", "01 04:00"]
    assert table["n"].isna().tolist() == [False, True]
    assert table["i"].tolist() == [3, 4]


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2013-11-03T01:30", "2013-11-03T06:30"),
        ("2013-03-10T02:30", "2013-03-10T07:00"),
        ("2013-07-01T01:30", "2013-07-01T05:30"),
        ("2013-07-01", "2013-07-01T04:00"),
        ("2013-07-01T01:30:00+00:00", "2013-07-01T01:30"),
    ],
    ids=["ambiguous: the later", "nonexistent: the next", "summer", "date", "with a time zone"],
)
def test_timestamp_without_a_time_zone_is_read_as_in_the_source(text: str, utc: str) -> None:
    [timestamp] = request_schema.parse_request_timestamps([text], "America/New_York")
    assert timestamp == pd.Timestamp(utc, tz="UTC")
    if "+" not in text:
        source_values = parse_timestamps(pd.Series([text]), "m", "America/New_York")
        assert timestamp == source_values[0]


def test_fields_are_the_columns_known_at_prediction_time_with_the_contracts_ranges(
    served: loader.Project,
) -> None:
    schema = request_schema.compile_request_schema(served, source.read_source(served))
    fields = schema.fields
    assert list(fields) == ["k", "at", "a", "b"]
    assert schema.json_schema["required"] == ["at", "a", "b"]
    # The id of a row, ``k``, may be left out, but not be null.
    row = {"at": "2024-01-06", "a": 0.5, "b": 0.5}
    assert schema.find_problems([row]) == []
    [problem] = schema.find_problems([{**row, "k": None}])
    assert (problem.field, problem.code) == ("k", "missing")
    column = contract.load_contract(served.root / "contract.yaml").columns["a"]
    assert (fields["a"].minimum, fields["a"].maximum) == (column.min, column.max)
    assert fields["k"].find_fault(2**60) is None
    assert fields["k"].find_fault(2**63) == "range"


def test_kind_of_a_column_outside_the_contract_is_inferred_from_the_source(
    copied: loader.Project,
) -> None:
    history = source.read_source(copied).assign(new="x", more=1)
    schema = request_schema.compile_request_schema(copied, history)
    assert [schema.fields[name].kind for name in ("new", "more")] == ["text", "integer"]


def make_lenient_schema() -> request_schema.RequestSchema:
    """A schema that accepts new categories, values of an empty column, and other fields."""
    fields = [
        RequestField("c", "text", allowed=("EWR", "JFK"), accepts_new_values=True),
        RequestField("e", "empty", accepts_new_values=True),
    ]
    rules = contract_rules.RowRules({field.name: field for field in fields}, frozenset({"late"}))
    return request_schema.RequestSchema(fields, None, "UTC", rules)


def test_what_is_new_but_accepted_is_noted() -> None:
    rows = [{"c": "LGA", "e": 1}, {"c": "EWR", "late": True, "gate": None}, {"gate": "A1"}]
    problems, notes = make_lenient_schema().check_rows(rows)
    assert problems == []
    assert [(note.row, note.field, note.code, note.got) for note in notes] == [
        (0, "c", "not_allowed", "LGA"),
        (0, "e", "not_allowed", 1),
        (2, "gate", "unknown_field", "A1"),
    ]
    assert notes[0].expected == "one of EWR, JFK, or null"


@given(st.dictionaries(st.sampled_from(["c", "e", "late", "gate"]), VALUES, max_size=4))
@settings(max_examples=50, deadline=None, derandomize=True)
@pytest.mark.parametrize("accepts", [True, False])
def test_published_schema_accepts_what_a_contract_accepts(
    accepts: bool, row: dict[str, Any]
) -> None:
    lenient = make_lenient_schema()
    rules = contract_rules.RowRules(
        lenient.fields, frozenset({"late"}), accepts_unknown_columns=accepts
    )
    schema = request_schema.RequestSchema(list(lenient.fields.values()), None, "UTC", rules)
    row = orjson.loads(orjson.dumps(row))
    published = jsonschema.Draft202012Validator(json.loads(json.dumps(schema.json_schema)))
    assert published.is_valid(row) == (schema.find_problems([row]) == [])


def test_example_row_is_the_last_one_that_the_contract_accepts(served: loader.Project) -> None:
    history = source.read_source(served)
    schema = request_schema.compile_request_schema(served, history)
    newest = history.tail(3).drop(columns="y").astype({"a": float})
    newest.loc[newest.index[-1], "a"] = 1e9
    row = schema.build_example_row(newest, ["k"])
    assert row == {
        "at": newest["at"].iloc[1].isoformat(),
        "a": newest["a"].iloc[1],
        "b": newest["b"].iloc[1],
    }
    assert schema.find_problems([orjson.loads(orjson.dumps(row))]) == []
    assert schema.build_example_row(newest.assign(a=1e9), ["k"]) == {}
