"""The components of the pages: texts are escaped, checks begin with the most serious."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from jinja2 import UndefinedError

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.results import KeyNumber, Verdict, Verdicts
from mlops_kit.dashboards.check_tables import make_check_table
from mlops_kit.dashboards.page_base import build_card, guard_html, make_empty_statement
from mlops_kit.dashboards.rendering import (
    Html,
    get_template_folder,
    load_templates,
    read_style_sheet,
    render_document,
)
from mlops_kit.dashboards.review_head import describe_reservations
from mlops_kit.dashboards.strip_charts import (
    DifferenceInterval,
    HeatMapCell,
    HeatMapKeyEntry,
    HeatMapKeyView,
    HeatMapRow,
    HeatMapView,
    ValueInterval,
    make_bar_strips,
    make_difference_chart,
    make_value_chart,
)
from mlops_kit.dashboards.view_models import (
    ActionView,
    CardView,
    ChoicePartView,
    ChooserView,
    DetailsView,
    FactRow,
    FactsView,
    FrameView,
    JsonDataView,
    KeyNumberView,
    PairsView,
    PanelView,
    SelectOption,
    SelectView,
    StatementView,
    StripView,
    TabsView,
    TopLineView,
    make_note,
    make_paragraph,
    make_status,
    make_table,
    make_titled_cell,
)

BAD = "<img src=x onerror=alert(1)>\"'"
ACTION = ActionView(
    name=BAD,
    label=BAD,
    title=BAD,
    text=BAD,
    submit_label=BAD,
    payload=BAD,
    blocked_reason=BAD,
    incidents=(SelectOption(BAD, BAD),),
)
VERDICT = Verdict("c", BAD, "failed", "warns", BAD, BAD, BAD, BAD)
TABLE = make_table([BAD], [[BAD]], label=BAD)
DIFFERENCE = DifferenceInterval(BAD, 0.0, -1.0, 1.0, 0.5, BAD, BAD, "good")
SELECT = SelectView(BAD, BAD, (SelectOption(BAD, BAD),), BAD)


@pytest.mark.parametrize(
    "build",
    [
        lambda: TopLineView(BAD, BAD, BAD),
        lambda: StatementView("good", BAD, BAD, BAD, (ACTION,)),
        lambda: make_empty_statement(BAD, BAD, BAD),
        lambda: KeyNumberView.from_key_number(KeyNumber(BAD, BAD, (BAD,))),
        lambda: CardView(BAD, BAD),
        lambda: TABLE,
        lambda: PairsView(((BAD, BAD),)),
        lambda: FactsView((FactRow(BAD, (Html("{}").format(BAD),)),)),
        lambda: DetailsView(BAD, make_note(BAD)),
        lambda: TabsView.from_titles({"a": BAD}),
        lambda: PanelView("a", make_paragraph(BAD), is_hidden=False),
        lambda: StripView((make_status("good", BAD),), has_server_note=True),
        lambda: ChooserView((SELECT,), is_submitted=True),
        lambda: ChoicePartView(BAD, BAD, make_paragraph(BAD), TABLE),
        lambda: FrameView(BAD, BAD),
        lambda: make_titled_cell(BAD, BAD),
        lambda: Html().join(make_check_table(Verdicts((VERDICT,)))),
        lambda: make_difference_chart([DIFFERENCE], BAD),
        lambda: make_value_chart([ValueInterval(BAD, 1, 0, 2, BAD, "good")], 1, BAD, BAD),
        lambda: make_bar_strips([(BAD, 1.0, BAD)], BAD),
        lambda: HeatMapView(
            BAD, (HeatMapRow(BAD, (HeatMapCell(0.5, "blue", BAD, BAD), None)),), (BAD,)
        ),
        lambda: HeatMapKeyView((HeatMapKeyEntry("act", BAD),)),
        lambda: render_document(BAD, make_paragraph(BAD)),
    ],
)
def test_text_from_outside_is_escaped(build: Callable[[], object]) -> None:
    rendered = str(build())
    assert "<img" not in rendered
    assert "&lt;img" in rendered
    assert "\"'" not in rendered


def test_json_data_cannot_end_its_element() -> None:
    rendered = str(JsonDataView("data", {BAD: "</script><img>"}))
    assert rendered.count("</script>") == 1
    assert "<img" not in rendered


def make_verdicts(*outcomes: str, severity: str = "warns") -> Verdicts:
    verdicts = []
    for index, outcome in enumerate(outcomes):
        verdicts.append(
            Verdict(
                f"c{index}",
                f"check {index}",
                outcome,
                severity,
                "sentence",
                "observed",
                "limit",
                "hint",
            )
        )
    return Verdicts.from_verdicts(verdicts)


def render_checks(*outcomes: str) -> str:
    return Html().join(make_check_table(make_verdicts(*outcomes)))


def test_checks_begin_with_the_most_serious_and_fold_those_that_pass() -> None:
    rendered = render_checks(
        "passed",
        "passed",
        "not applicable",
        "passed",
        "passed",
        "cannot tell",
        "failed",
        "passed",
    )
    shown, folded = rendered.split("<details>")
    assert shown.index("fails") < shown.index("cannot tell") < shown.index("passes")
    assert "not applicable" not in shown
    assert "3 more pass, 1 not applicable" in folded
    assert folded.count("not applicable") == 2
    assert "<details>" not in render_checks("passed", "passed")


def test_every_check_is_in_the_table_once() -> None:
    for outcomes in (
        ["failed"] * 9,
        ["passed"] * 9,
        ["not applicable"] * 6,
        ["cannot tell", *["passed"] * 4],
        [],
    ):
        rendered = render_checks(*outcomes)
        for index in range(len(outcomes)):
            assert rendered.count(f">check {index}<") == 1


def test_check_that_does_not_pass_shows_its_sentence() -> None:
    assert "check 0<div class=unit>sentence</div>" in render_checks("failed")
    assert "check 0<div class=unit>sentence</div>" in render_checks("cannot tell")
    assert "sentence" not in render_checks("passed", "not applicable")


def test_checks_are_counted_by_outcome() -> None:
    verdicts = make_verdicts("passed", "passed", "failed", "not applicable")
    assert verdicts.describe_counts("the review stage") == (
        "4 checks of the review stage: 2 passed, 1 failed, 1 not applicable."
    )
    reservations = make_verdicts("failed", "cannot tell", "cannot tell")
    assert describe_reservations(reservations) == (
        "1 check fails without blocking it and 2 checks cannot tell yet."
    )
    assert describe_reservations(make_verdicts("passed")) == ""
    assert describe_reservations(make_verdicts("failed", severity="blocks")) == ""


def test_a_failed_card_says_what_failed_and_what_to_do() -> None:
    def fail() -> Html:
        raise RunFailedError(f"the file {BAD} is missing", hint="mlops run")

    rendered = guard_html("Slices", fail, "mlops run --from review", 6)
    assert "<h2>Slices</h2>" in rendered
    assert "This card cannot be shown" in rendered
    assert "<code>mlops run</code>" in rendered
    assert "<img" not in rendered
    failed_card = build_card("Numbers", lambda: 1 / 0, "mlops run")
    assert "ZeroDivisionError: division by zero" in failed_card


def test_in_a_notebook_a_part_brings_its_style_and_in_voila_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = Html(CardView("A question?"))
    assert part._repr_html_().startswith("<style>")
    monkeypatch.setenv("VOILA_PREHEAT", "True")
    assert part._repr_html_() == str(part)


def test_style_and_script_request_no_other_host_and_fit_the_template() -> None:
    script = (get_template_folder() / "page.js").read_text()
    for text in (read_style_sheet(), script):
        assert "http" not in text
        assert "{#" not in text
        assert "{{" not in text
        assert "{%" not in text


def test_an_interval_that_is_a_point_or_huge_stays_in_its_strip() -> None:
    for low, value, high, margin in ((0, 0, 0, 0), (-1e9, 0, 1e9, 1e-9), (5, 6, 7, 0)):
        difference = DifferenceInterval("x", value, low, high, margin, "", "better", "good")
        rendered = str(make_difference_chart([difference], "x"))
        marks = re.findall(r"left:(-?[\d.]+)%(?:;width:(-?[\d.]+)%)?", rendered)
        assert len(marks) == 6
        for start, width in marks:
            assert 0 <= float(start) <= float(start) + float(width or 0) <= 100


def test_a_template_that_names_a_missing_value_fails() -> None:
    with pytest.raises(UndefinedError, match="no_such_field"):
        load_templates().from_string("{{ page.no_such_field }}").render(page=VERDICT)
