"""The model card: escaped, self-contained, reproducible, open about what is missing."""

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
    ReviewEvidence,
    collect_card_facts,
    evaluate_performance,
    evaluate_slices,
    render_model_card,
    run_checks,
)
from mlops_kit.stages.review.model_card import read_card_file
from tests.support.review_fixtures import make_agreement

MakeConfig = Callable[..., ProjectConfig]
MakeRows = Callable[..., pd.DataFrame]
MakeEvidence = Callable[..., ReviewEvidence]
RenderCard = Callable[..., str]
RECIPE = {
    "family": "lightgbm",
    "params": {"leaves": 31, "rate": 0.1},
    "threshold": 0.2857,
    "features": ["x", "<b>bold</b>"],
    "metric": "log_loss",
    "score": 0.45,
}


@pytest.fixture
def render_card(
    make_config: MakeConfig, make_rows: MakeRows, make_evidence: MakeEvidence
) -> RenderCard:
    """Render the card of a small model, with some of the evidence and the facts changed."""

    def render(facts: dict[str, str] | None = None, sample: int = 0, **values: Any) -> str:
        rows = make_rows(rows=900)
        config = make_config(sample=sample)
        importance = Table(
            "Feature importance",
            "x matters most.",
            pd.DataFrame({"feature": ["x"], "importance": [0.2], "spread": [0.01]}),
        )
        tables = [
            evaluate_performance(rows, config, 100),
            evaluate_slices(rows, config, ["group"], 100),
            importance,
        ]
        verdicts = run_checks(make_evidence(**values))
        return render_model_card(config, RECIPE, verdicts, tables, facts or {})

    return render


def test_equal_inputs_give_an_equal_card(render_card: RenderCard) -> None:
    assert render_card() == render_card()


def test_card_loads_nothing_and_runs_nothing(render_card: RenderCard) -> None:
    text = render_card()
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", text)
    assert "prefers-color-scheme:dark" in text


def test_values_are_escaped(render_card: RenderCard) -> None:
    text = render_card({"owner": "<i>me</i> & you", "rows: <test>": "9"})
    assert "<b>bold" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text
    assert "&lt;i&gt;me&lt;/i&gt; &amp; you" in text
    assert "rows: &lt;test&gt;" in text


def test_missing_entries_are_shown_as_missing(render_card: RenderCard) -> None:
    assert render_card().count("▲ missing") == 3
    assert render_card({"owner": "the build team"}).count("▲ missing") == 2


def test_badge_says_whether_the_model_is_fit_to_serve(render_card: RenderCard) -> None:
    assert "◆ Fit to serve by its own checks, with reservations" in render_card(labeled_rows=10)
    failed = render_card(refit_agreement=make_agreement(0.1, -0.2))
    assert "▲ Not fit to serve" in failed
    assert "The final model does not fit the rows that were added to it" in failed
    assert "● Fit to serve by its own checks" in render_card(
        metrics={"roc_auc": Interval(0.78, 0.77, 0.79), "calibration_error": Interval(0.01)}
    )


def test_card_names_the_sample(render_card: RenderCard) -> None:
    assert "sample of 5,000 rows" in render_card(sample=5000)
    assert "Made from a sample" not in render_card()


def test_card_contains_the_measured_performance_and_parameters(
    render_card: RenderCard, make_config: MakeConfig, make_rows: MakeRows
) -> None:
    text = render_card()
    assert evaluate_performance(make_rows(rows=900), make_config(), 100).sentence in text
    assert "lightgbm" in text
    assert "leaves = 31, rate = 0.100" in text


def test_facts_name_rows_and_period_of_each_part(make_config: MakeConfig, tmp_path: Path) -> None:
    moments = pd.to_datetime(["2013-06-01T03:00Z", "2013-06-02T12:00Z", "2013-06-03T12:00Z"])
    table = pd.DataFrame({"moment": moments, "part": ["train", "train", "test"]})
    (tmp_path / "card.yaml").write_text("owner: the build team\nlimits:\n")
    found = collect_card_facts(Project(tmp_path, make_config()), table)
    assert found == {
        "owner": "the build team",
        "positive class": "1",
        "rows: test": "1, 2013-06-03 to 2013-06-03",
        "rows: train": "2, 2013-05-31 to 2013-06-02",
    }


def test_wrong_card_file_is_an_error(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text("ower: me\n")
    with pytest.raises(KitError, match=r"unknown key 'ower'(.|\n)*'owner'"):
        read_card_file(Project(tmp_path, make_config()))
    (tmp_path / "card.yaml").write_text("- me\n")
    with pytest.raises(KitError, match="contains a list"):
        read_card_file(Project(tmp_path, make_config()))
    assert read_card_file(Project(tmp_path / "elsewhere", make_config())) == {}
