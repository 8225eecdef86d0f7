"""The profile says what it covers, loads nothing, and accepts unusual columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.stages.explore import profile


@pytest.mark.slow
def test_unusual_columns_are_profiled_without_external_links(
    capsys: pytest.CaptureFixture[str],
) -> None:
    nullable = pd.Series([True, None] * 10, dtype="boolean")
    frame = pd.DataFrame(
        {
            "none": [None] * 20,
            "one": [1.0] * 20,
            "yes": nullable,
            5: [1, "x"] * 10,
            "n": [np.inf, *range(19)],
        }
    )
    document = profile.render_profile_html(frame, "Odd", seed=0, rows=12)
    assert "Profile of a random sample: 12 of 20 rows, seed 0. Short form" in document
    assert not re.findall(r"(?:src|href)\s*=\s*[\"']?\s*(?:https?:)?//", document)
    assert "%|" not in capsys.readouterr().err


def test_empty_table_is_rejected() -> None:
    with pytest.raises(RunFailedError, match="0 rows and 1 columns has no profile"):
        profile.render_profile_html(pd.DataFrame({"a": []}), "Empty", seed=0)


def test_profile_of_no_rows_says_that_it_is_turned_off() -> None:
    document = profile.render_profile_html(pd.DataFrame({"a": [1]}), "<Off>", seed=0, rows=0)
    assert "No rows were profiled, because profile_rows is 0." in document
    assert "<title>&lt;Off&gt;</title>" in document


def test_sample_depends_on_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    profiled: list[list[int]] = []

    def record_values(frame: pd.DataFrame, title: str, brief: bool) -> str:
        profiled.append(frame["a"].tolist())
        return "<body></body>"

    monkeypatch.setattr(profile, "_render_report", record_values)
    for seed in (1, 1, 2):
        profile.render_profile_html(pd.DataFrame({"a": range(100)}), "t", seed=seed, rows=10)
    assert profiled[0] == profiled[1] != profiled[2]
    assert len(profiled[0]) == 10
    assert profiled[0] == sorted(profiled[0])


@pytest.mark.parametrize(
    ("rows", "used", "is_brief", "note"),
    [
        (5, 5, False, "Profile of all 5 rows."),
        (5, 5, True, "Profile of all 5 rows. Short form: correlations are left out."),
    ],
)
def test_note_describes_the_scope(rows: int, used: int, is_brief: bool, note: str) -> None:
    assert profile._describe_scope(rows, used, 0, is_brief) == note


@pytest.mark.parametrize(
    "external",
    [
        "<img src='https://a.b/c'>",
        '<link href="//cdn.x/y.css">',
        "<script src=http://a/b.js>",
        "<style>@import url(https://f.g/h);</style>",
        "<style>a{b:url('http://x/y')}</style>",
    ],
)
def test_external_links_are_removed(external: str) -> None:
    assert "//" not in profile.remove_external_links(external)


def test_internal_links_are_kept() -> None:
    internal = '<a href="#top" data-x="y">t</a><img src="data:image/png;base64,//8=">'
    assert profile.remove_external_links(internal) == internal
