"""Results: through JSON and back, escaped, and worded."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core import formatting, results
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.results import Figure, Interval, KeyNumber, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.data import contract_validation

FRAME = pd.DataFrame({"column": ["a", "<b>"], "value": [0.5, None]})
FAILED = Verdict(
    "leak",
    "No leak",
    "failed",
    "blocks",
    "a column knows the target",
    "0.99",
    "0.98",
    "leave it out",
)
PASSED = Verdict(
    "cal", "Calibrated", "passed", "warns", "it is calibrated", diagnostics={"ece": 0.01}
)
SAMPLES = {
    "Table": Table("Drift", "One column drifted.", FRAME, {"value": "share"}, ("a note",)),
    "Interval": Interval(0.7, 0.6, 0.8),
    "Number": KeyNumber("Cost a <b>row", "$ 4.14", ("$ 4.00 – 4.30", "without a model: $ 7.04")),
    "Numbers": KeyNumbers(
        "What it costs", "It costs less.", (KeyNumber("Cost a <b>row", "$ 4.14", ("less",)),)
    ),
    "Figure": Figure("Drift", "One column drifted.", "<svg/>", FRAME),
    "Verdict": FAILED,
    "Verdicts": Verdicts.from_verdicts([PASSED, FAILED]),
    "Report": contract_validation.ContractReport("All rows keep.", FRAME, 2, 0, False, ("a note",)),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_result_comes_back_from_json(name: str) -> None:
    text = json.dumps(to_json_value(SAMPLES[name]), allow_nan=False)
    back = from_json_value(json.loads(text))
    assert type(back) is type(SAMPLES[name])
    assert json.dumps(to_json_value(back), allow_nan=False) == text


@pytest.mark.parametrize("name", sorted(set(SAMPLES) - {"Interval", "Number"}))
def test_a_result_shows_itself_escaped(name: str) -> None:
    page = SAMPLES[name]._repr_html_()
    assert "<b><b>" not in page
    assert str(SAMPLES[name]) in page
    assert isinstance(SAMPLES[name].to_frame(), pd.DataFrame)


def test_the_worst_verdict_comes_first_and_blocks() -> None:
    both = Verdicts.from_verdicts([PASSED, FAILED])
    assert [v.check for v in both] == ["leak", "cal"]
    assert both.is_blocked
    assert len(both) == 2
    assert both.count_outcome("passed") == 1
    assert both.sentence == "2 checks: 1 passed, 1 failed. What blocks: a column knows the target"


def test_a_failure_that_only_warns_does_not_block() -> None:
    warns = Verdict("x", "X", "failed", "warns", "so")
    assert not warns.is_blocking
    assert not Verdicts.from_verdicts([warns]).is_blocked


def test_no_verdicts_say_so() -> None:
    assert Verdicts.from_verdicts([]).sentence == "0 checks: none ran."


def test_a_state_is_told_by_shape_and_word() -> None:
    assert FAILED.to_frame()["Result"].tolist() == ["▲ failed"]


def test_values_of_all_kinds_become_json() -> None:
    given = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "nan": math.nan,
        "inf": math.inf,
        "nat": pd.NaT,
        "na": pd.NA,
        "at": pd.Timestamp("2013-07-01", tz="UTC"),
        "list": np.array([1, 2]),
        "yes": np.bool_(True),
    }
    assert to_json_value(given) == {
        "n": 3,
        "x": 0.5,
        "nan": None,
        "inf": None,
        "nat": None,
        "na": None,
        "at": "2013-07-01 00:00:00+00:00",
        "list": [1, 2],
        "yes": True,
    }


def test_a_long_table_counts_what_it_leaves_out() -> None:
    page = formatting.render_table_html(pd.DataFrame({"a": range(50)}), limit=40)
    assert "and 10 more rows" in page
    assert page.count("<tr>") == 41


def test_units_stand_in_the_head() -> None:
    assert "value (share)" in SAMPLES["Table"]._repr_html_()


def test_an_interval_reads_as_one() -> None:
    assert str(Interval(0.75, 0.7, 0.8)) == "0.750 [0.700, 0.800]"
    assert str(Interval(None)) == "unknown"


def test_numbers_for_sentences() -> None:
    assert [format_number(v) for v in (None, math.inf, -1234567, 0.00012, True)] == [
        "unknown",
        "infinite",
        "-1,234,567",
        "0.00012",
        "True",
    ]
    assert [format_percent(v) for v in (1.0, 0.0004, math.nan)] == ["100 %", "0.04 %", "unknown"]


def test_in_a_terminal_a_result_is_its_sentence_and_its_first_rows() -> None:
    long = Table("T", "Fifty rows.", pd.DataFrame({"a": range(50)}))
    lines = repr(long).splitlines()
    assert lines[0] == "Fifty rows."
    assert len(lines) == 2 + results._MAX_PRINTED_ROWS
