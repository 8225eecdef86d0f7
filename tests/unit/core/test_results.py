"""Results: stored as JSON and restored, escaped in HTML, summarized in a sentence."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core import formatting, results
from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_money, format_number, format_percent
from mlops_kit.core.results import (
    CheckOutcome,
    CheckSeverity,
    Figure,
    Interval,
    KeyNumber,
    KeyNumbers,
    Table,
    Verdict,
    Verdicts,
)
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.data import contract_validation

FRAME = pd.DataFrame({"column": ["a", "<b>"], "value": [0.5, None]})
FAILED = Verdict(
    "leak",
    "No leak",
    CheckOutcome.FAILED,
    CheckSeverity.BLOCKS,
    "a column reveals the target",
    "0.99",
    "0.98",
    "exclude the column",
)
PASSED = Verdict(
    "cal",
    "Calibrated",
    CheckOutcome.PASSED,
    CheckSeverity.WARNS,
    "it is calibrated",
    diagnostics={"ece": 0.01},
)
COST = KeyNumber("Cost per <b>row", "$4.14", ("$4.00 – 4.30", "without a model: $7.04"))
REPORT = contract_validation.ContractReport("All rows are valid.", FRAME, 2, 0, False, ("a note",))
SAMPLES: dict[str, Any] = {
    "Table": Table("Drift", "One column drifted.", FRAME, {"value": "share"}, ("a note",)),
    "Interval": Interval(0.7, 0.6, 0.8),
    "KeyNumber": COST,
    "KeyNumbers": KeyNumbers("Costs", "It costs less.", (COST,)),
    "Figure": Figure("Drift", "One column drifted.", "<svg/>", FRAME),
    "Verdict": FAILED,
    "Verdicts": Verdicts.from_verdicts([PASSED, FAILED]),
    "ContractReport": REPORT,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_result_is_restored_from_json(name: str) -> None:
    text = json.dumps(to_json_value(SAMPLES[name]), allow_nan=False)
    restored = from_json_value(json.loads(text))
    assert type(restored) is type(SAMPLES[name])
    assert json.dumps(to_json_value(restored), allow_nan=False) == text


OLD_FRAME = {"__frame__": {"columns": ["a"], "rows": [[1]]}}
OLD_VERDICT = {
    "__kind__": "Verdict",
    "check": "leak",
    "title": "No leak",
    "outcome": "cannot tell",
    "severity": "warns",
    "sentence": "s",
    "found": "0.99",
    "limit": "0.98",
    "cure": "exclude the column",  # stored by earlier versions
    "diagnostics": {},
}
OLD_NUMBER = {"__kind__": "Number", "title": "t", "value": "1", "beside": ["b"]}


def test_verdict_stored_by_an_earlier_version_is_restored() -> None:
    (verdict,) = from_json_value({"__kind__": "Verdicts", "items": [OLD_VERDICT]})
    assert (verdict.observed, verdict.hint) == ("0.99", "exclude the column")
    assert verdict.outcome is CheckOutcome.CANNOT_TELL
    assert verdict.severity is CheckSeverity.WARNS


def test_key_numbers_stored_by_an_earlier_version_are_restored() -> None:
    stored = {"__kind__": "Numbers", "title": "T", "sentence": "S", "items": [OLD_NUMBER]}
    assert from_json_value(stored) == KeyNumbers("T", "S", (KeyNumber("t", "1", ("b",)),))


def test_table_stored_by_an_earlier_version_is_restored() -> None:
    stored = {"__kind__": "Table", "title": "T", "sentence": "S", "data": OLD_FRAME, "shown": ["a"]}
    assert from_json_value(stored).visible_columns == ("a",)


def test_contract_report_stored_by_an_earlier_version_is_restored() -> None:
    stored = {
        "__kind__": "Report",
        "sentence": "S",
        "data": OLD_FRAME,
        "good_rows": 2,
        "quarantined": 1,
        "broken": True,
        "notes": [],
    }
    report = from_json_value(stored)
    assert (report.good_rows, report.quarantined_rows, report.is_broken) == (2, 1, True)


def test_result_of_an_unknown_kind_is_an_error_that_names_it() -> None:
    with pytest.raises(KitError, match="unknown kind 'Tabel'") as error:
        from_json_value({"__kind__": "Tabel"})
    assert "'Table'" in error.value.expected


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"Interval", "KeyNumber"}))
def test_html_of_a_result_is_escaped(name: str) -> None:
    page = SAMPLES[name]._repr_html_()
    assert "<b><b>" not in page
    assert str(SAMPLES[name]) in page
    assert isinstance(SAMPLES[name].to_frame(), pd.DataFrame)


def test_blocking_verdict_comes_first() -> None:
    both = Verdicts.from_verdicts([PASSED, FAILED])
    assert [verdict.check for verdict in both] == ["leak", "cal"]
    assert both.is_blocked
    assert len(both) == 2
    assert both.count_outcome(CheckOutcome.PASSED) == 1
    assert both.sentence == "2 checks: 1 passed, 1 failed. Blocking: a column reveals the target"


def test_failure_with_severity_warns_does_not_block() -> None:
    verdict = Verdict("x", "X", CheckOutcome.FAILED, CheckSeverity.WARNS, "so")
    assert not verdict.is_blocking
    assert not Verdicts.from_verdicts([verdict]).is_blocked


def test_reservations_begin_with_a_check_that_would_block() -> None:
    undecided = Verdict("a", "A", CheckOutcome.CANNOT_TELL, CheckSeverity.WARNS, "a")
    warning = Verdict("b", "B", CheckOutcome.FAILED, CheckSeverity.WARNS, "b")
    would_block = Verdict("c", "C", CheckOutcome.CANNOT_TELL, CheckSeverity.BLOCKS, "c")
    verdicts = Verdicts.from_verdicts([PASSED, undecided, FAILED, warning, would_block])
    assert verdicts.reservations == [would_block, warning, undecided]  # FAILED blocks


def test_empty_verdicts_have_a_sentence() -> None:
    assert Verdicts.from_verdicts([]).sentence == "0 checks: none ran."


def test_outcome_in_a_table_has_a_shape_and_words() -> None:
    assert FAILED.to_frame()["Result"].tolist() == ["▲ failed"]


def test_verdict_with_an_unknown_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="'fine' is not a valid CheckOutcome"):
        Verdict("x", "X", "fine", CheckSeverity.WARNS, "so")  # type: ignore[arg-type]


def test_values_of_all_kinds_are_converted_to_json() -> None:
    values = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "nan": math.nan,
        "inf": math.inf,
        "nat": pd.NaT,
        "na": pd.NA,
        "at": pd.Timestamp("2013-07-01", tz="UTC"),
        "list": np.array([1, 2]),
        "yes": np.bool_(True),
        "outcome": CheckOutcome.PASSED,
    }
    converted = to_json_value(values)
    assert converted == {
        "n": 3,
        "x": 0.5,
        "nan": None,
        "inf": None,
        "nat": None,
        "na": None,
        "at": "2013-07-01 00:00:00+00:00",
        "list": [1, 2],
        "yes": True,
        "outcome": "passed",
    }
    assert type(converted["outcome"]) is str


def test_long_table_counts_the_rows_it_omits() -> None:
    page = formatting.render_table_html(pd.DataFrame({"a": range(50)}), limit=40)
    assert "and 10 more rows" in page
    assert page.count("<tr>") == 41


def test_tiny_number_in_a_table_is_escaped() -> None:
    page = formatting.render_table_html(pd.DataFrame({"a": [1e-9]}))
    assert "<td class=num>&lt; 0.0001</td>" in page


def test_heading_of_a_column_has_its_unit() -> None:
    assert "value (share)" in SAMPLES["Table"]._repr_html_()


def test_interval_as_text() -> None:
    assert str(Interval(0.75, 0.7, 0.8)) == "0.750 [0.700, 0.800]"
    assert str(Interval(None)) == "unknown"


def test_numbers_in_sentences() -> None:
    assert [format_number(v) for v in (None, math.inf, -1234567, 0.00012, True)] == [
        "unknown",
        "infinite",
        "-1,234,567",
        "0.00012",
        "True",
    ]
    assert [format_percent(v) for v in (1.0, 0.0004, math.nan)] == ["100%", "0.04%", "unknown"]


def test_numbers_have_no_minus_zero_and_no_scientific_notation() -> None:
    assert [format_number(v) for v in (-0.0, -7.6e-06, 7.6e-06)] == ["0", "> -0.0001", "< 0.0001"]
    assert [format_percent(v) for v in (-0.0, -1e-6)] == ["0%", "> -0.01%"]
    assert [format_money(v, "$") for v in (-0.001, -4.17, 41230.0)] == [
        "$0.00",
        "-$4.17",
        "$41,230.00",
    ]


def test_result_in_a_terminal_is_its_sentence_and_first_rows() -> None:
    long = Table("T", "Fifty rows.", pd.DataFrame({"a": range(50)}))
    lines = repr(long).splitlines()
    assert lines[0] == "Fifty rows."
    assert len(lines) == 2 + results._MAX_PRINTED_ROWS
