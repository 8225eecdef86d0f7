"""The parts of a page: all that comes from outside is text; counts are worded; checks begin with the worst."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jinja2 import UndefinedError

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.results import KeyNumber, Verdict, Verdicts
from mlops_kit.dashboards import rendering, svg_charts

BAD = "<img src=x onerror=alert(1)>\"'"


CHOICE = {
    **dict.fromkeys(("act", "word", "title", "text", "send", "closed"), BAD),
    "about": {BAD: BAD},
    "which": [SimpleNamespace(id=1, title=BAD)],
}
VERDICT = Verdict("c", BAD, "failed", "warns", BAD, BAD, BAD, BAD)
DIFFERENCE = {
    "title": BAD,
    "low": -1.0,
    "difference": 0.0,
    "high": 1.0,
    "margin": 0.5,
    "verdict": BAD,
    "text": BAD,
}


@pytest.mark.parametrize(
    "part",
    [
        lambda: rendering.part("parts", "top", BAD, BAD, BAD),
        lambda: rendering.part("parts", "say", "good", BAD, BAD, BAD, [CHOICE]),
        lambda: rendering.part("parts", "big", KeyNumber(BAD, BAD, (BAD,))),
        lambda: rendering.part("parts", "card", BAD, BAD),
        lambda: rendering.part("parts", "table", [BAD], [[BAD]], label=BAD),
        lambda: rendering.part("parts", "pairs", [(BAD, BAD)]),
        lambda: rendering.part("parts", "tabs", {"a": BAD}),
        lambda: rendering.part(
            "parts", "empty", SimpleNamespace(title=BAD, about=BAD), BAD, BAD, BAD
        ),
        lambda: rendering.part("parts", "checks", Verdicts((VERDICT,))),
        lambda: rendering.part("drawings", "interval_rows", [DIFFERENCE], BAD),
        lambda: svg_charts.curve(
            [svg_charts.Line([(0, 0), (1, 1)], name=BAD)],
            BAD,
            [(0, BAD), (1, BAD)],
            [0, 1],
            lambda v: BAD,
            marks=[(0.5, BAD, "good")],
        ),
        lambda: rendering.part("drawings", "bars", [(BAD, 1.0, BAD)], BAD),
        lambda: rendering.part("drawings", "ranges", [(BAD, 0, 1, 2, BAD, "good")], 1, BAD, BAD),
        lambda: rendering.part(
            "drawings", "cells", [(BAD, [svg_charts.Cell(0.5, "blue", BAD, BAD), None])], [BAD], BAD
        ),
        lambda: svg_charts.columns([(0.5, 1, BAD)], [(0, BAD), (1, BAD)], (0, 1), BAD),
        lambda: rendering.part("document", "document", BAD, BAD),
    ],
)
def test_what_comes_from_outside_is_text(part: object) -> None:
    made = part()  # type: ignore[operator]
    assert "<img" not in made
    assert "&lt;img" in made
    assert "\"'" not in made


def verdicts(*outcomes: str, severity: str = "warns") -> Verdicts:
    return Verdicts.from_verdicts(
        Verdict(f"c{i}", f"check {i}", o, severity, "said", "found", "limit", "cure")
        for i, o in enumerate(outcomes)
    )  # type: ignore[arg-type]


def test_checks_begin_with_the_worst_and_fold_what_passes() -> None:
    made = rendering.part(
        "parts",
        "checks",
        verdicts(
            "passed",
            "passed",
            "not applicable",
            "passed",
            "passed",
            "cannot tell",
            "failed",
            "passed",
        ),
    )
    shown, folded = made.split("<details>")
    assert [w in shown for w in ("fails", "cannot tell", "passes", "not applicable")] == [
        True,
        True,
        True,
        False,
    ]
    assert shown.index("fails") < shown.index("cannot tell") < shown.index("passes")
    assert "3 more pass, 1 not applicable" in folded
    assert "not applicable" in folded
    assert "<details>" not in rendering.part("parts", "checks", verdicts("passed", "passed"))


def test_every_verdict_stands_in_the_table_once() -> None:
    for outcomes in (
        ["failed"] * 9,
        ["passed"] * 9,
        ["not applicable"] * 6,
        ["cannot tell", *["passed"] * 4],
        [],
    ):
        made = rendering.part("parts", "checks", verdicts(*outcomes))
        assert all(made.count(f">check {i}<") == 1 for i in range(len(outcomes)))


def test_counts_are_worded() -> None:
    assert (
        rendering.part("parts", "tally", verdicts("passed", "passed", "failed", "not applicable"))
        == "4 checks: 2 pass, 1 fails, 1 does not apply."
    )
    assert (
        rendering.part("parts", "doubts", verdicts("failed", "cannot tell", "cannot tell"))
        == "1 check fails without blocking it and 2 checks cannot tell yet."
    )
    assert rendering.part("parts", "doubts", verdicts("passed")) == ""
    assert rendering.part("parts", "doubts", verdicts("failed", severity="blocks")) == ""


def test_a_guarded_card_says_what_failed_and_what_to_do() -> None:
    def fails() -> rendering.Html:
        raise RunFailedError(f"the file {BAD} is gone", hint="mlops run")

    made = rendering.guarded("Slices", 6, caller=fails)
    assert "<h2>Slices</h2>" in made
    assert "This card cannot be shown" in made
    assert "<code>mlops run</code>" in made
    assert "<img" not in made
    assert "ZeroDivisionError: division by zero" in rendering.guarded(
        "Numbers", caller=lambda: rendering.Html(1 / 0)
    )


def test_in_a_notebook_a_part_brings_its_style_and_under_voila_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = rendering.part("parts", "card", "A question?")
    assert part._repr_html_().startswith("<style>")
    monkeypatch.setenv("VOILA_PREHEAT", "True")
    assert part._repr_html_() == str(part)


def test_style_and_script_ask_no_other_host_and_fit_the_template() -> None:
    script = (rendering.folder() / "page.js").read_text()
    for said in (rendering.css(), script):
        assert "http" not in said
        assert "{#" not in said
        assert "{{" not in said
        assert "{%" not in said


def test_an_interval_that_is_a_point_or_huge_stays_in_its_strip() -> None:
    import re

    for low, value, high, margin in ((0, 0, 0, 0), (-1e9, 0, 1e9, 1e-9), (5, 6, 7, 0)):
        made = rendering.part(
            "drawings",
            "interval_rows",
            [{**DIFFERENCE, "low": low, "difference": value, "high": high, "margin": margin}],
            "x",
        )
        places = [float(v) for v in re.findall(r'(?:x1|x2|cx|x)="(-?[\d.]+)%"', made)]
        assert places
        assert all(0 <= p <= 100 for p in places)


def test_a_line_breaks_where_a_value_is_missing() -> None:
    made = svg_charts.curve(
        [svg_charts.Line([(0, 1.0), (1, None), (2, float("nan")), (3, 2.0)])],
        "x",
        [(0, "a"), (3, "b")],
        [0, 2],
        str,
    )
    assert made.count("M") == 2
    assert "nan" not in made


def test_a_template_that_names_what_is_missing_says_so() -> None:
    with pytest.raises(UndefinedError, match="no_such_field"):
        rendering.templates().from_string("{{ page.no_such_field }}").render(page=VERDICT)
