"""The card: escaped, self-contained, equal for equal inputs, and open about what is missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Interval, Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stages.review import (
    RefitAgreement,
    ReviewEvidence,
    collect_card_facts,
    evaluate_performance,
    evaluate_slices,
    model_card,
    run_checks,
)
from mlops_kit.stages.review.model_card import read_card_file

Make = Callable[..., ProjectConfig]
Judged = Callable[..., pd.DataFrame]
Found = Callable[..., ReviewEvidence]
RECIPE = {
    "family": "lightgbm",
    "params": {"leaves": 31, "rate": 0.1},
    "threshold": 0.2857,
    "features": ["x", "<b>bold</b>"],
    "metric": "log_loss",
    "score": 0.45,
}


@pytest.fixture
def page(config: Make, judged: Judged, found: Found) -> Callable[..., str]:
    """The card of a small model, with some of the evidence and the facts laid over."""

    def make(told: dict[str, str] | None = None, sample: int = 0, **values: Any) -> str:
        frame, made = judged(rows=900), config(sample=sample)
        importance = Table(
            "What does it go by?",
            "x matters most.",
            pd.DataFrame({"feature": ["x"], "fall": [0.2], "spread": [0.01]}),
        )
        return model_card(
            made,
            RECIPE,
            evaluate_performance(frame, made, 100),
            run_checks(found(**values)),
            evaluate_slices(frame, made, ["group"], 100),
            importance,
            told or {},
        )

    return make


def test_equal_inputs_give_an_equal_card(page: Callable[..., str]) -> None:
    assert page() == page()


def test_it_asks_nothing_of_any_host_and_runs_nothing(page: Callable[..., str]) -> None:
    text = page()
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", text)
    assert "prefers-color-scheme:dark" in text


def test_values_are_escaped(page: Callable[..., str]) -> None:
    text = page({"owner": "<i>me</i> & you", "rows: <test>": "9"})
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "&lt;i&gt;me&lt;/i&gt; &amp; you" in text
    assert "rows: &lt;test&gt;" in text


def test_what_people_have_not_written_is_shown_as_missing(page: Callable[..., str]) -> None:
    assert page().count("▲ missing") == 3
    assert page({"owner": "the build team"}).count("▲ missing") == 2


def test_the_state_stands_on_top_in_a_word(page: Callable[..., str]) -> None:
    assert "◆ Fit to serve, with reservations" in page(rows=10)
    failed = page(agreement=RefitAgreement(0.1, 0.0))
    assert "▲ Not fit to serve" in failed
    assert "Refitted and judged model differ" in failed
    assert "● Fit to serve" in page(
        metrics={"roc_auc": Interval(0.78, 0.77, 0.79), "calibration_error": Interval(0.01)}
    )


def test_a_sample_is_said(page: Callable[..., str]) -> None:
    assert "sample of 5,000 rows" in page(sample=5000)
    assert "Made from a sample" not in page()


def test_no_figure_is_made_up(page: Callable[..., str], config: Make, judged: Judged) -> None:
    text = page()
    assert evaluate_performance(judged(rows=900), config(), 100).sentence in text
    assert "lightgbm" in text
    assert "leaves = 31, rate = 0.100" in text


def test_facts_tell_rows_and_period_of_each_part(config: Make, tmp_path: Path) -> None:
    moments = pd.to_datetime(["2013-06-01T03:00Z", "2013-06-02T12:00Z", "2013-06-03T12:00Z"])
    table = pd.DataFrame({"moment": moments, "part": ["train", "train", "test"]})
    (tmp_path / "card.yaml").write_text("owner: the build team\nlimits:\n")
    found = collect_card_facts(Project(tmp_path, config()), table)
    assert found == {
        "owner": "the build team",
        "rows: test": "1, 2013-06-03 to 2013-06-03",
        "rows: train": "2, 2013-05-31 to 2013-06-02",
    }


def test_a_wrong_key_in_card_yaml_is_worded(config: Make, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("ower: me\n")
    with pytest.raises(KitError, match=r"unknown key 'ower'(.|\n)*'owner'"):
        read_card_file(Project(tmp_path, config()))
    (tmp_path / "card.yaml").write_text("- me\n")
    with pytest.raises(KitError, match="holds a list"):
        read_card_file(Project(tmp_path, config()))
    assert read_card_file(Project(tmp_path / "elsewhere", config())) == {}
