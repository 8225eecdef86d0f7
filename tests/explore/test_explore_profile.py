"""The profile says what it looked at, loads nothing, and does not choke on odd columns."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.stages.explore import profile


def test_a_small_odd_table_is_profiled_and_loads_nothing(
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


def test_an_empty_table_is_a_worded_error() -> None:
    with pytest.raises(RunFailedError, match="0 rows and 1 columns has no profile"):
        profile.render_profile_html(pd.DataFrame({"a": []}), "Empty", seed=0)


def test_the_sample_hangs_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def keep(frame: pd.DataFrame, title: str, brief: bool) -> str:
        seen.append(frame["a"].tolist())
        return "<body></body>"

    monkeypatch.setattr(profile, "_render_report", keep)
    for seed in (1, 1, 2):
        profile.render_profile_html(pd.DataFrame({"a": range(100)}), "t", seed=seed, rows=10)
    assert seen[0] == seen[1] != seen[2]
    assert len(seen[0]) == 10
    assert seen[0] == sorted(seen[0])


@pytest.mark.parametrize(
    ("rows", "used", "brief", "said"),
    [
        (5, 5, False, "Profile of all 5 rows."),
        (5, 5, True, "Profile of all 5 rows. Short form: correlations are left out."),
    ],
)
def test_the_note_says_the_scope(rows: int, used: int, brief: bool, said: str) -> None:
    assert profile._describe_scope(rows, used, 0, brief) == said


@pytest.mark.parametrize(
    "away",
    [
        "<img src='https://a.b/c'>",
        '<link href="//cdn.x/y.css">',
        "<script src=http://a/b.js>",
        "<style>@import url(https://f.g/h);</style>",
        "<style>a{b:url('http://x/y')}</style>",
    ],
)
def test_what_lies_elsewhere_is_cut_out(away: str) -> None:
    assert "//" not in profile.remove_external_links(away)


def test_what_lies_inside_is_kept() -> None:
    inside = '<a href="#top" data-x="y">t</a><img src="data:image/png;base64,//8=">'
    assert profile.remove_external_links(inside) == inside
