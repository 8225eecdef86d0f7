"""The data contract: inference, violations, quarantine, and the file that people edit."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import columns, contract_inference, contract_validation
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.contract import (
    ColumnContract,
    DataContract,
    coerce_types,
    load_contract,
    save_contract,
)
from mlops_kit.data.contract_inference import infer_contract
from mlops_kit.data.contract_validation import enforce_contract, validate_rows_against_contract
from mlops_kit.project.config.root import ProjectConfig

CONFIG = ProjectConfig(
    name="t",
    source="t.csv",
    target="late",
    task="binary",
    id="nr",
    time="at",
    known_later={"delay": "1d"},
)
ROW_COUNT = 200


def make_table(rows: int = ROW_COUNT) -> pd.DataFrame:
    at = pd.date_range("2013-01-01", periods=rows, freq="h", tz="UTC")
    place = np.arange(rows)
    return pd.DataFrame(
        {
            "nr": place,
            "at": at,
            "month": place // 50 + 1,
            "hour": place % 24,
            "temp": np.sin(place) * 20,
            "origin": np.array(["EWR", "JFK", "LGA"])[place % 3],
            "tail": [f"N{i}" for i in place],
            "cancelled": place % 2 == 0,
            "delay": np.where(place < rows - 24, place % 7.0, np.nan),
            "late": place % 4 == 0,
            "nothing": np.nan,
        }
    )


@pytest.fixture
def inferred() -> DataContract:
    return infer_contract(make_table(), CONFIG)


@pytest.fixture
def contract(inferred: DataContract) -> DataContract:
    """The inferred contract, which a person has made stricter about new categories."""
    origin = inferred.columns["origin"].model_copy(update={"new_values": "reject"})
    return inferred.model_copy(update={"columns": {**inferred.columns, "origin": origin}})


def list_violations(report: contract_validation.ContractReport) -> set[tuple[str, str, int]]:
    return set(report.data[["column", "rule", "rows"]].itertuples(index=False, name=None))


def test_kinds_are_inferred(contract: DataContract) -> None:
    kinds = {n: c.type for n, c in contract.columns.items()}
    assert kinds == {
        "nr": "integer",
        "at": "timestamp",
        "month": "integer",
        "hour": "integer",
        "temp": "number",
        "origin": "text",
        "tail": "text",
        "cancelled": "boolean",
        "delay": "number",
        "late": "boolean",
        "nothing": "empty",
    }


def test_range_has_a_margin_of_half_its_width_and_keeps_the_sign(contract: DataContract) -> None:
    assert (contract.columns["hour"].min, contract.columns["hour"].max) == (
        0,
        35,
    )  # 0..23 and half of 23
    temp = make_table()["temp"]
    assert contract.columns["temp"].max == pytest.approx(
        temp.max() + (temp.max() - temp.min()) / 2, abs=0.1
    )
    assert contract.columns["temp"].min <= temp.min() - (temp.max() - temp.min()) / 2


def test_identifiers_and_calendars_get_no_range(contract: DataContract) -> None:
    for name in ("nr", "month"):
        assert contract.columns[name].min is None
        assert contract.columns[name].max is None
    assert contract.unique == ["nr"]


def test_columns_with_few_values_list_the_allowed_ones(contract: DataContract) -> None:
    assert contract.columns["origin"].allowed == ["EWR", "JFK", "LGA"]
    assert contract.columns["tail"].allowed is None
    assert contract.columns["late"].allowed == [False, True]


def test_columns_known_later_may_be_missing_and_keys_may_not(contract: DataContract) -> None:
    shares = {n: c.missing for n, c in contract.columns.items()}
    assert shares["late"] == shares["delay"] == 1.0
    assert shares["nr"] == shares["at"] == 0.0


def test_column_without_a_missing_value_is_required(contract: DataContract) -> None:
    assert {contract.columns[name].missing for name in ("hour", "temp", "origin")} == {0.0}
    values = pd.Series([1.0] * 399 + [None])
    assert contract_inference._compute_max_missing(values) == 0.06


def test_maximum_missing_share_has_a_margin() -> None:
    values = pd.Series([None] * 20 + [1.0] * 80)
    assert (
        contract_inference._compute_max_missing(values) == 0.35
    )  # one and a half times 0.2, and 0.05


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", "?"] + ["3"] * 60, "number"),
        (["01234", "10115"], "text"),
        (["a", "1"], "text"),
        ([True, None, False], "boolean"),
        (["2013-01-01", "2013-01-02"], "timestamp"),
        (["2013-01-01", "2013-13-41"], "text"),
        ([None, None], "empty"),
        ([1, 2.5], "number"),
    ],
)
def test_kind_is_inferred_from_values_of_object_columns(values: list[object], kind: str) -> None:
    assert columns.infer_kind(pd.Series(values, dtype=object)) == kind


def test_rows_satisfy_the_contract_inferred_from_them(contract: DataContract) -> None:
    report, good, bad = validate_rows_against_contract(make_table(), contract, 0.05)
    assert report.sentence == "All 200 rows satisfy the contract."
    assert not report.is_broken
    assert report.data.empty
    assert report.good_rows == 200
    assert bad.empty
    pd.testing.assert_frame_equal(good, make_table())


BREAKING_CHANGES = {
    "gone": (lambda f: f.drop(columns="hour"), "hour", "the source has no column 'hour'"),
    "another type": (
        lambda f: f.assign(temp="warm"),
        "temp",
        "200 values of 'temp' are not a number",
    ),
    "all missing": (
        lambda f: f.assign(origin=None),
        "origin",
        "the column 'origin' has no values",
    ),
    "missing too often": (
        lambda f: f.assign(temp=f["temp"].where(f.index % 5 > 0)),
        "temp",
        "40 of 200 rows (20%) would be quarantined, at most 5% may be",
    ),
    "too many bad rows": (
        lambda f: f.assign(hour=f["hour"].where(f.index > 20, 99)),
        "hour",
        "21 of 200 rows (10%) would be quarantined, at most 5% may be",
    ),
}


@pytest.mark.parametrize("name", BREAKING_CHANGES)
def test_broken_contract_stops_the_run(contract: DataContract, name: str) -> None:
    change, column, said = BREAKING_CHANGES[name]
    report, _, _ = validate_rows_against_contract(change(make_table()), contract, 0.05)
    assert report.is_broken
    assert said in report.sentence
    assert column in set(report.data["column"])
    with pytest.raises(RunFailedError, match="The contract is broken") as error:
        enforce_contract(report)
    assert error.value.exit_code == 1
    assert error.value.hint


def make_table_with_value(column: str, value: object) -> pd.DataFrame:
    frame = make_table()
    frame[column] = frame[column].astype(object)
    frame.loc[3, column] = value
    return frame


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("hour", 99, "at most 35"),
        ("hour", -1, "at least 0"),
        ("hour", 1.5, "a whole number"),
        ("hour", "noon", "a whole number"),
        ("temp", "warm", "a number"),
        ("temp", math.inf, "at most 40"),
        ("origin", "BER", "one of EWR, JFK, LGA"),
        ("cancelled", "perhaps", "true or false"),
        ("at", "soon", "a timestamp"),
        ("nr", 2, "unique"),
        ("nr", None, "not missing"),
    ],
)
def test_invalid_row_is_quarantined_and_counted(
    contract: DataContract, column: str, value: object, rule: str
) -> None:
    report, good, bad = validate_rows_against_contract(
        make_table_with_value(column, value), contract, 0.05
    )
    assert next(r for c, r, n in list_violations(report) if (c, n) == (column, 1)).startswith(rule)
    assert (report.good_rows, report.quarantined_rows, report.is_broken) == (199, 1, False)
    assert bad["tail"].tolist() == ["N3"]
    assert len(good) == 199
    assert "N3" not in set(good["tail"])
    enforce_contract(report)


def test_all_violations_are_reported_and_each_row_counts_once(contract: DataContract) -> None:
    frame = make_table()
    frame.loc[3, ["hour", "temp"]] = [99, 999.0]
    frame.loc[4, "origin"] = "BER"
    report, good, bad = validate_rows_against_contract(
        frame.drop(columns="cancelled"), contract, 0.05
    )
    assert {c for c, _, _ in list_violations(report)} == {"hour", "temp", "origin", "cancelled"}
    assert report.quarantined_rows == len(bad) == 2
    assert len(good) == 198
    assert report.data.set_index("column").loc["hour", "examples"] == "99"


def test_first_of_duplicate_rows_is_accepted(contract: DataContract) -> None:
    frame = pd.concat([make_table(), make_table().head(3)])
    report, good, bad = validate_rows_against_contract(frame, contract, 0.05)
    assert report.quarantined_rows == 3
    assert good["nr"].tolist() == list(range(200))
    assert bad["nr"].tolist() == [0, 1, 2]


def test_composite_key_is_unique_as_a_whole() -> None:
    contract = DataContract(
        unique=["a", "b"],
        columns={"a": ColumnContract(type="integer"), "b": ColumnContract(type="integer")},
    )
    report, good, _ = validate_rows_against_contract(
        pd.DataFrame({"a": [1, 1, 1], "b": [1, 2, 1]}), contract, 0.5
    )
    assert report.quarantined_rows == 1
    assert good["b"].tolist() == [1, 2]


def test_numbers_and_booleans_given_as_text_are_converted(contract: DataContract) -> None:
    given = make_table().assign(
        hour=lambda f: f["hour"].astype(str),
        temp=lambda f: f["temp"].astype(str),
        cancelled=lambda f: f["cancelled"].map({True: "yes", False: "no"}),
    )
    report, good, _ = validate_rows_against_contract(given, contract, 0.05)
    assert not report.is_broken
    assert report.quarantined_rows == 0
    assert good["hour"].tolist() == make_table()["hour"].tolist()
    assert good["temp"].tolist() == pytest.approx(make_table()["temp"].tolist())
    assert good["cancelled"].tolist() == make_table()["cancelled"].tolist()


def test_integers_read_as_floats_with_missing_values_are_valid(contract: DataContract) -> None:
    report, good, _ = validate_rows_against_contract(
        make_table().assign(hour=lambda f: f["hour"].where(f.index > 2).astype(float)),
        contract.model_copy(
            update={
                "columns": {
                    **contract.columns,
                    "hour": ColumnContract(type="integer", missing=0.05, min=0, max=35),
                }
            }
        ),
        0.05,
    )
    assert not report.is_broken
    assert report.quarantined_rows == 0
    assert good["hour"].isna().sum() == 3


def test_numeric_code_read_as_a_number_becomes_text() -> None:
    contract = DataContract(columns={"code": ColumnContract(type="text", allowed=["1", "2"])})
    report, good, _ = validate_rows_against_contract(
        pd.DataFrame({"code": [1.0, 2.0, np.nan]}), contract, 0.0
    )
    assert not report.is_broken
    assert good["code"].tolist()[:2] == ["1", "2"]


def test_labels_may_be_missing_altogether(contract: DataContract) -> None:
    report, _, _ = validate_rows_against_contract(
        make_table().assign(late=pd.NA, delay=np.nan), contract, 0.0
    )
    assert not report.is_broken
    assert report.quarantined_rows == 0


def test_new_column_is_noted_and_kept(contract: DataContract) -> None:
    report, good, _ = validate_rows_against_contract(make_table().assign(gate="A"), contract, 0.05)
    assert not report.is_broken
    assert "gate" in good
    assert "gate" in report.notes[0]


def test_empty_table_is_valid_unless_a_column_is_missing(contract: DataContract) -> None:
    report, good, bad = validate_rows_against_contract(make_table().head(0), contract, 0.05)
    assert not report.is_broken
    assert len(good) == len(bad) == 0
    assert validate_rows_against_contract(
        make_table().head(0).drop(columns="hour"), contract, 0.05
    )[0].is_broken


def test_input_rows_are_not_modified(contract: DataContract) -> None:
    given = make_table_with_value("hour", "noon")
    before = given.copy(deep=True)
    validate_rows_against_contract(given, contract, 0.05)
    infer_contract(given, CONFIG)
    pd.testing.assert_frame_equal(given, before)


def test_contract_is_readable_and_survives_a_round_trip(
    tmp_path: Path, contract: DataContract
) -> None:
    path = tmp_path / "contract.yaml"
    save_contract(path, contract)
    text = path.read_text()
    assert text.startswith("# The data contract")
    assert "hour: {type: integer, missing: 0.0, min: 0, max: 35}" in text
    assert load_contract(path) == contract
    save_contract(path, load_contract(path))
    assert path.read_text() == text


def test_allowed_values_that_yaml_would_misread_survive_a_round_trip(tmp_path: Path) -> None:
    contract = DataContract(
        columns={
            "c": ColumnContract(type="text", allowed=["NO", "on", "1", "2013-01-01", "a: b"]),
            "t": ColumnContract(type="integer", allowed=[0, 1]),
            "b": ColumnContract(type="boolean", allowed=[False, True]),
        }
    )
    save_contract(tmp_path / "c.yaml", contract)
    back = load_contract(tmp_path / "c.yaml")
    assert back == contract
    assert [type(v) for v in back.columns["t"].allowed] == [int, int]
    assert [type(v) for v in back.columns["b"].allowed] == [bool, bool]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns: {a: {typ: text}}", "columns.a.typ: unknown key; expected 'type'"),
        ("columns: {a: {type: float}}", "columns.a.type: 'float'"),
        ("columns: {a: {type: text, missing: 2}}", "columns.a.missing: 2"),
        ("column: {}", "column: unknown key; expected 'columns'"),
        ("columns: [", "is not YAML"),
        ("", "columns"),
    ],
)
def test_mistake_in_the_contract_is_described(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "contract.yaml").write_text(text)
    with pytest.raises(KitError) as error:
        load_contract(tmp_path / "contract.yaml")
    assert said in str(error.value)
    assert "contract.yaml" in error.value.hint
    assert error.value.exit_code == 2


def test_missing_contract_is_described(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="no contract at"):
        load_contract(tmp_path / "contract.yaml")


@pytest.mark.slow
def test_336776_rows_are_validated_in_seconds() -> None:
    base = make_table(240)
    big = (
        pd.concat([base] * 1404, ignore_index=True)
        .head(336_776)
        .assign(nr=lambda f: np.arange(len(f)))
    )
    big = big.assign(**{f"x{i}": np.arange(len(big)) % 97.0 for i in range(10)})
    contract = infer_contract(big, CONFIG)
    big.loc[:5_000, "hour"] = 99
    start = time.perf_counter()
    report, good, _ = validate_rows_against_contract(big, contract, 0.05)
    took = time.perf_counter() - start
    assert report.quarantined_rows == 5_001
    assert len(good) == 331_775
    assert took < 8


def test_rows_are_converted_and_invalid_values_returned() -> None:
    agreed = DataContract(
        columns={
            "n": ColumnContract(type="integer"),
            "code": ColumnContract(type="text"),
            "gone": ColumnContract(type="number"),
        }
    )
    came = pd.DataFrame({"n": ["1", "old", "2.5", None], "code": [1, 2, 3, 4], "new": ["x"] * 4})
    made, odd = coerce_types(came, agreed)
    assert made["n"].tolist()[0] == 1
    assert made["n"].isna().tolist() == [False, True, True, True]
    assert made["code"].tolist() == ["1", "2", "3", "4"]
    assert made["new"].tolist() == ["x"] * 4
    assert {k: v.tolist() for k, v in odd.items()} == {"n": ["old", "2.5"]}
    assert came["n"].tolist() == ["1", "old", "2.5", None]


def test_rows_of_the_contract_types_are_unchanged() -> None:
    came = pd.DataFrame(
        {
            "n": [1.5, None],
            "at": pd.to_datetime(["2024-01-01", None], utc=True),
            "yes": [True, False],
        }
    )
    agreed = DataContract(
        columns={
            "n": ColumnContract(type="number"),
            "at": ColumnContract(type="timestamp"),
            "yes": ColumnContract(type="boolean"),
        }
    )
    made, odd = coerce_types(came, agreed)
    pd.testing.assert_frame_equal(made, came)
    assert not odd


def test_kind_moment_of_an_earlier_version_is_read_as_timestamp(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("columns:\n  at: {type: moment}\n")
    assert load_contract(path).columns["at"] == ColumnContract(type=ColumnKind.TIMESTAMP)
    save_contract(path, load_contract(path))
    assert "at: {type: timestamp}" in path.read_text()


def test_new_category_is_accepted_and_noted_where_the_contract_says_so(
    inferred: DataContract,
) -> None:
    assert inferred.columns["origin"].new_values == "accept"
    assert inferred.columns["late"].new_values == "reject"
    report, good, bad = validate_rows_against_contract(
        make_table_with_value("origin", "BER"), inferred, 0.05
    )
    assert (len(good), len(bad)) == (200, 0)
    assert report.sentence == "All 200 rows satisfy the contract."
    assert report.notes == (
        "accepted although new: `origin` is not one of EWR, JFK, LGA in 1 rows, such as BER",
    )


def test_unknown_column_is_rejected_where_the_contract_says_so(inferred: DataContract) -> None:
    frame = make_table().assign(gate=lambda f: f["tail"].where(f.index == 3))
    strict = inferred.model_copy(update={"unknown_columns": "reject"})
    report, _, bad = validate_rows_against_contract(frame, strict, 0.05)
    assert bad["tail"].tolist() == ["N3"]
    assert list_violations(report) == {("gate", "a known column", 1)}


def test_column_that_fails_is_phrased_as_a_sentence(contract: DataContract) -> None:
    report, _, _ = validate_rows_against_contract(
        make_table_with_value("hour", None), contract, 0.05
    )
    assert report.sentence == "1 of 200 rows (0.5%) are quarantined; most often `hour` is missing."
