"""What a row may hold: nothing is coerced in silence, all that is wrong is told, and what is published is what is checked."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data import columns, contract, source
from mlops_kit.project import loader
from mlops_kit.registry import scoring
from mlops_kit.serving import request_schema
from mlops_kit.serving.request_schema import RequestField

FIELDS = [
    RequestField("n", "number", minimum=-1.5, maximum=10),
    RequestField(
        "i", "integer", required=True, minimum=0, maximum=request_schema.MAX_EXACT_INTEGER
    ),
    RequestField("t", "text"),
    RequestField("c", "text", allowed=("EWR", "JFK")),
    RequestField("b", "boolean"),
    RequestField("d", "integer", minimum=0, maximum=9, allowed=(1, 2)),
    RequestField("m", "moment", required=True, timezone="America/New_York"),
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
def made() -> request_schema.RequestSchema:
    return request_schema.RequestSchema(FIELDS, "m", "America/New_York")


def codes(made: request_schema.RequestSchema, **changes: Any) -> dict[str, str]:
    """What is wrong with a row that is well but for some values, as it comes over the wire."""
    row = orjson.loads(orjson.dumps({**ROW, **changes}))
    return {p["field"]: p["code"] for p in made.find_problems([row])}


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
def test_what_a_column_holds_is_taken(
    made: request_schema.RequestSchema, name: str, value: Any
) -> None:
    assert codes(made, **{name: value}) == {}


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
        ("t", "x" * 1001, "too_long"),
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
        ("e", 1, "type"),
    ],
)
def test_what_it_does_not_hold_is_named(
    made: request_schema.RequestSchema, name: str, value: Any, code: str
) -> None:
    assert codes(made, **{name: value}) == {name: code}


def test_all_rows_are_told_at_once_each_with_what_it_got_and_what_was_expected(
    made: request_schema.RequestSchema,
) -> None:
    found = made.find_problems(
        [{**ROW, "n": "3"}, ROW, {**ROW, "c": "LGA", "N": 1}, [1, 2], {"m": "2013-07-01"}]
    )
    assert [(p["row"], p["field"], p["code"]) for p in found] == [
        (0, "n", "type"),
        (2, "N", "unknown_field"),
        (2, "c", "not_allowed"),
        (3, "", "not_a_row"),
        (4, "i", "missing"),
    ]
    assert found[0] == {
        "row": 0,
        "field": "n",
        "code": "type",
        "got": "3",
        "expected": "a number from -1.5 to 10, or null",
    }
    assert found[1]["expected"] == "one of n, i, t, c, b, d, m, e"
    assert found[2]["expected"] == "one of EWR, JFK, or null"


def test_a_long_value_is_cut_in_what_is_told(made: request_schema.RequestSchema) -> None:
    [told] = made.find_problems([{**ROW, "n": "x" * 10_000}])
    assert len(told["got"]) == 101


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
def test_the_published_schema_takes_what_the_validator_takes(
    made: request_schema.RequestSchema, changes: dict[str, Any]
) -> None:
    row = orjson.loads(orjson.dumps({**ROW, **changes}))
    published = jsonschema.Draft202012Validator(json.loads(json.dumps(made.json_schema)))
    told = {p["field"] for p in made.find_problems([row])}
    assert {e.path[0] if e.path else "N" for e in published.iter_errors(row)} == told


def test_a_table_has_the_types_of_the_source(made: request_schema.RequestSchema) -> None:
    table = made.to_frame([ROW, {"i": 4.0, "m": "2013-07-01T06:00:00+02:00"}])
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
    ("said", "meant"),
    [
        ("2013-11-03T01:30", "2013-11-03T06:30"),
        ("2013-03-10T02:30", "2013-03-10T07:00"),
        ("2013-07-01T01:30", "2013-07-01T05:30"),
        ("2013-07-01", "2013-07-01T04:00"),
        ("2013-07-01T01:30:00+00:00", "2013-07-01T01:30"),
    ],
    ids=["twice, the later", "never, the next", "summer", "a day", "a zone of its own"],
)
def test_a_moment_without_a_zone_is_read_as_the_sources_are(said: str, meant: str) -> None:
    [found] = request_schema.parse_request_timestamps([said], "America/New_York")
    assert found == pd.Timestamp(meant, tz="UTC")
    if "+" not in said:
        assert found == columns.parse_timestamps(pd.Series([said]), "m", "America/New_York")[0]


def test_the_fields_are_the_sources_columns_known_at_a_prediction_in_the_contracts_words(
    served: loader.Project,
) -> None:
    history = source.read_source(served)
    made = request_schema.compile_request_schema(
        served, history, scoring.list_required_columns(served, history.columns)
    )
    assert list(made.fields) == ["k", "at", "a", "b"]
    assert (made.fields["at"].required, made.fields["k"].required, made.fields["a"].required) == (
        True,
        False,
        False,
    )  # a row need not say its name
    held = contract.load_contract(served.root / "contract.yaml").columns["a"]
    assert (made.fields["a"].minimum, made.fields["a"].maximum) == (held.min, held.max)
    assert made.fields["k"].find_fault(2**60) == ""
    assert made.fields["k"].find_fault(2**63) == "range"


def test_a_column_that_the_contract_does_not_know_is_what_the_source_holds(
    copied: loader.Project,
) -> None:
    history = source.read_source(copied).assign(new="x", more=1)
    made = request_schema.compile_request_schema(copied, history, ["new", "more"])
    assert [f.kind for f in made.fields.values()] == ["text", "integer"]
