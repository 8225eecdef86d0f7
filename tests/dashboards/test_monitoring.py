"""The monitoring page: its sentence in each state, each number the stored one, promotions where they belong, and acts that are recorded."""

from __future__ import annotations

import html
import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from mlops_kit import dashboards
from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.serialization import from_json_value
from mlops_kit.dashboards import actions, monitoring_charts, monitoring_page, rendering, svg_charts
from mlops_kit.dashboards.monitoring_page import Monitoring
from mlops_kit.dashboards.text_formats import moment, span
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import IncidentRecord, PredictionRecord, RetrainingRecord, WindowRecord
from mlops_kit.project import loader
from tests.dashboards import rounds, story

NEXT = "23 July 2013"


def text(part: str) -> str:
    """What a reader sees of a piece of HTML."""
    return " ".join(
        html.unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", part, flags=re.S)).split()
    )


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Voilà shows it."""
    monkeypatch.setenv("VOILA_PREHEAT", "False")


@pytest.fixture
def well(told: loader.Project) -> loader.Project:
    """Three weeks as promised, the last without labels yet."""
    rounds.tell(told, [0.79, 0.78, "due"])
    rounds.answer(told, 21)
    return told


def said(project: loader.Project) -> tuple[str, str]:
    """The state and the sentence."""
    page = Monitoring(project)
    return page.state, " ".join(
        text(rendering.part("monitoring", said, page)) for said in ("claim", "todo")
    )


def shown(page: Monitoring, part: str) -> str:
    """A part of the page's head."""
    return rendering.part("monitoring", part, page)


def test_all_is_well_until_the_next_pass(well: loader.Project) -> None:
    page = Monitoring(well)
    assert said(well) == ("healthy", f"As good as promised. Nothing to do before {NEXT}.")
    assert (
        text(shown(page, "detail"))
        == "Estimated ROC-AUC 0.783 (0.751 – 0.812), 15 – 21 Jul, promised 0.786. wind is unlike what it was judged on; it costs about 0.033 of ROC-AUC, over the limit of 0.030."
    )
    assert "● Healthy" in page.head()
    assert "flights · late · version 7" in text(page.head())
    assert "up to 22 July 2013 · refreshed" in text(page.head())


def test_a_fall_asks_to_act_and_says_what_can_be_done(told: loader.Project) -> None:
    rounds.tell(told, [0.79, 0.65, "due"])
    assert said(told) == (
        "act",
        f"ROC-AUC fell to 0.650; 0.786 was promised. Retrain before {NEXT}.",
    )
    story.serve(told, "8")
    assert said(told) == (
        "look",
        f"Version 7 fell below what was promised; version 8 has taken its place. Nothing to do before {NEXT}.",
    )


def test_a_fall_of_what_serves_offers_the_version_before_unless_a_new_one_is_on_its_way(
    told: loader.Project,
) -> None:
    story.serve(told, "8")
    rounds.tell(told, [0.79, 0.65, "due"], ["7", "8", "8"])
    assert said(told)[1].endswith(f"Retrain, or go back to version 7, before {NEXT}.")
    rounds.decide(told, 2, "retrain", "Yes: it fell.", "due")
    assert said(told)[1].endswith("A new version is on its way.")


def test_what_is_open_is_looked_at_until_somebody_knows(well: loader.Project) -> None:
    first = rounds.incident(well)
    assert said(well) == (
        "look",
        f"As good as promised, but fewer rows than usual. Look at it before {NEXT}.",
    )
    rounds.incident(well, title="Labels are missing")
    assert said(well)[1].startswith("As good as promised, but 2 incidents are open.")
    for i in (first, first + 1):
        actions.build_actions(well)["acknowledge"]("carl", {"id": str(i), "reason": "the strike"})
    assert said(well) == ("healthy", f"As good as promised. Nothing to do before {NEXT}.")
    rounds.incident(well, "act", "What it learnt no longer holds")
    assert said(well)[0] == "act"


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        (
            ["due", "due"],
            "unlabelled",
            "No labels are in yet; the estimate is as good as promised.",
        ),
        ([], "empty", "No window has ended yet. The first is looked at on 8 July 2013."),
        ([None, None], "unlabelled", "No labels are in yet; the estimate is as good as promised."),
        ([0.79, 0.75], "look", "The labels cannot tell yet whether it is as good as promised."),
    ],
)
def test_the_sentence_says_so_where_labels_are_not_in_or_do_not_tell(
    told: loader.Project, values: list[float | None | str], state: str, words: str
) -> None:
    rounds.tell(told, values)
    found = said(told)
    assert found[0] == state
    assert found[1].startswith(words)
    assert "cannot be shown" not in Monitoring(told).html()


def test_a_watch_that_stands_still_is_told_and_one_that_goes_by_the_clock_says_when_it_passes(
    told: loader.Project,
) -> None:
    at = datetime.now(UTC) - timedelta(days=3)
    rounds.tell(told, [0.79], at=at.isoformat(), upto=at)
    assert said(told)[0] == "stands"
    assert said(told)[1].startswith("Nobody has looked since")
    assert said(told)[1].endswith("Start mlops watch.")
    with open_transaction(told) as opened:
        opened.execute(
            sa.text("update watch set upto = :u, at = :u"), {"u": datetime.now(UTC).isoformat()}
        )
    following = datetime.now(ZoneInfo("America/New_York")) + timedelta(days=1)
    assert said(told)[1].startswith("As good as promised. Nothing to do before tomorrow, ")
    assert f"{following:%H:}" in said(told)[1]


def test_nothing_watched_yet_says_what_to_run(told: loader.Project) -> None:
    page = Monitoring(told)
    assert "Nothing is watched yet." in text(page.head())
    assert "<code>mlops watch --once</code>" in page.head()
    assert all(page.panel(t) == "" for t in Monitoring.tabs)
    assert page.sketches() == ""


def test_every_number_of_the_windows_is_the_stored_one(well: loader.Project) -> None:
    page = Monitoring(well)
    told = {t: text(page.panel(t)) for t in Monitoring.tabs}
    for window in query_records(well, sa.select(WindowRecord)):
        looked = from_json_value(json.loads(window.looked))
        assert str(looked["estimated"]) in told["performance"]
        assert f"{looked['rows']:,}" in told["performance"]
        if window.settled:
            done = from_json_value(json.loads(window.settled))
            for row in done["realised"].data.itertuples():
                assert (
                    f"{format_number(row.value)} [{format_number(row.low)}, {format_number(row.high)}]"
                    in told["performance"]
                )
            assert f"$ {done['cost']:.2f}" in told["performance"]
            assert f"$ {done['saved']:,.0f}" in told["performance"]
    for row in rounds.drift(2).data.to_dict("records"):
        assert all(
            s in told["drift"]
            for s in (
                row["column"],
                row["status"],
                row["explanation"],
                format_number(row["effect"]),
            )
        )
        assert (
            row["cost"] is None
            or row["cost"] != row["cost"]
            or format_number(row["cost"]) in told["drift"]
        )
    assert "visib 2 % 34 % ◆ more wind 1 % 1 %" in told["data"]


def test_what_lives_is_counted_in_the_database(well: loader.Project) -> None:
    page = Monitoring(well)
    assert (
        text(shown(page, "alive"))
        == "◆ 3 scored on 21 Jul, usual 12 – 12 newest row 21 Jul, 04:00 labels in up to 20 Jul $2,002 saved in 14 days"
    )
    assert page.found.days(60)[-1][1] == rounds.LAST
    assert sum(n for _, n in page.found.days(60)) == 20 * rounds.A_DAY + rounds.LAST
    service = text(page.panel("service"))
    assert f"joined {20 * rounds.A_DAY}" in service
    assert "half of them after 1.0 days" in service
    assert f"the watch 7 {6 * rounds.A_DAY + rounds.LAST} 22 July 2013" in service
    assert page.found.late() == [1.0] * (20 * rounds.A_DAY)


def test_the_endpoint_is_told_of_where_it_has_answered(well: loader.Project) -> None:
    assert "endpoint" not in text(shown(Monitoring(well), "alive"))
    with open_transaction(well) as opened:
        opened.execute(
            sa.update(PredictionRecord)
            .where(PredictionRecord.id == "20-1")
            .values(
                origin="endpoint", scored_at=(datetime.now(UTC) - timedelta(minutes=5)).isoformat()
            )
        )
    page = Monitoring(well)
    assert "5 min since the endpoint answered last" in text(shown(page, "alive"))
    assert "the endpoint 7 1" in text(page.panel("service"))


def test_depth_is_how_far_and_colour_is_what_it_costs(well: loader.Project) -> None:
    page = Monitoring(well)
    made = {
        name: cells
        for name, cells in (
            monitoring_charts.line(page, c, page.found.windows)
            for c in monitoring_charts.ranked(page.found.windows)
        )
    }
    assert list(made)[:3] == ["wind", "its answers", "temp"]  # by what they cost lately
    colours = {n: [c.colour for c in cells if c] for n, cells in made.items()}
    assert colours["wind"] == ["act"] * 3
    assert colours["temp"] == ["watch"] * 3
    assert colours["gust"] == ["faint"] * 3
    assert colours["visib"] == ["blue"] * 3
    assert [c.depth for c in made["wind"] if c] == [0.8] * 3
    first = made["wind"][0]
    assert first is not None
    assert (
        first.said
        == "wind, 1 – 7 Jul: effect 0.400; it costs about 0.031 of ROC-AUC, over the limit of 0.030"
    )
    held = json.loads(re.search(r"<script[^>]*>(.*?)</script>", page.sketches()).group(1))  # type: ignore[union-attr]
    assert {w.row.id: w.looked["sketches"] for w in page.found.windows} == {
        int(k): v for k, v in held.items()
    }


def test_a_promotion_stands_where_it_was_decided_in_a_past_that_is_lived(
    told: loader.Project,
) -> None:
    rounds.tell(told, [0.79, 0.65, 0.79, "due"], ["7", "7", "8", "8"])
    rounds.decide(told, 2, "retrain", "Yes: it fell.", "succeeded", story.NEW)
    story.serve(told, "8")
    page = Monitoring(told)
    assert [
        m[:2]
        for m in monitoring_charts.marks(page, lambda m: (m - rounds.SINCE) / rounds.DAY, False)
    ] == [(15.0, "16 Jul: version 8")]
    assert "yes It fell; version 8 serves now" in text(page.panel("now"))
    assert "16 July 2013 yes It fell. policy version 8 serves now" in text(page.panel("retraining"))
    assert page.found.promised("7") == rounds.PROMISED
    story.serve(told, "7")  # going back stands at the last moment that was lived, not in this year
    placed = {p.number: Monitoring(told).found.placed(p) for p in page.found.promotions}
    assert placed[2] == rounds.SINCE + 15 * rounds.DAY


def test_a_name_in_the_picture_stands_clear_of_the_lines() -> None:
    flat, dip = [0.5] * 7, [0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9]
    assert monitoring_charts.free(flat, [dip], [0.0, 1.0]) == (1, False)
    assert monitoring_charts.free([None, 0.5, 0.5], [], [0.0, 1.0])[0] == 0


def test_what_is_written_by_people_or_stored_runs_nowhere(well: loader.Project) -> None:
    rounds.incident(well, title=rounds.SCRIPT, seen=rounds.SCRIPT)
    rounds.incident(well, title=f"over {rounds.SCRIPT}", closed=True)
    rounds.decide(well, 1, "retrain", rounds.SCRIPT, "failed", "run-1", by=rounds.SCRIPT)
    made = Monitoring(well).html()
    assert "<script>document" not in made
    assert made.count("<script") == 1
    assert made.count("</script>") == 1
    assert "cannot be shown" not in made


def test_a_damaged_window_takes_only_its_cards_along(well: loader.Project) -> None:
    rounds.incident(well)
    with open_transaction(well) as opened:
        opened.execute(sa.update(WindowRecord).values(monitoring_json="{torn"))
    page = Monitoring(well)
    assert "This card cannot be shown" in page.panel("performance")
    assert "mlops watch --once" in page.panel("performance")
    assert "What stands behind the cells?" in page.html()
    assert page.sketches().count("cannot be shown") == 1
    assert "Fewer rows than usual" in page.panel("incidents")
    assert "cannot be shown" not in page.panel("service")
    assert "What is missing?" in page.panel("data")


def test_the_file_needs_nothing_and_takes_no_version(well: loader.Project) -> None:
    made = dashboards.twin(
        "monitoring", well, well.reports_folder / "monitoring.html", version="", against=""
    )
    assert "<title>Monitoring: flights</title>" in made
    assert len(made) < 1_000_000
    assert "data-act=" not in made.split("<script>")[0]
    assert "http" not in made.split("<script>")[0]
    with pytest.raises(KitError, match="takes no --version"):
        monitoring_page.page(well, version="7")


def test_a_visitor_sees_the_buttons_that_make_sense(well: loader.Project, visited: None) -> None:
    made = Monitoring(well).head()
    assert 'data-act="retrain" disabled' in made
    assert "rollback" not in made
    assert "acknowledge" not in made
    number = rounds.incident(well, title="Labels are <missing>")
    story.serve(well, "8")
    rounds.decide(well, 2, "retrain", "why", "waiting (approval)", story.NEW)
    made = Monitoring(well).head()
    assert f'<option value="{number}">Labels are &lt;missing&gt;</option>' in made
    assert "Go back to 7 …" in made
    assert 'data-closed=1 title="A retraining is on its way already, decided by policy."' in made
    assert '<a href="/review">Review it</a>' in made
    assert "data-note" in Monitoring(well).head()
    assert "<time datetime=" in Monitoring(well).head()


def test_an_incident_is_acknowledged_once_with_a_reason_by_somebody_who_may(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    project = story.make(
        tmp_path_factory.mktemp("people") / "home", more="people: {operators: [carl]}\n"
    )
    number, act = rounds.incident(project), actions.build_actions(project)["acknowledge"]
    for who, told, error, words in [
        ("ann", {"id": str(number), "reason": "seen"}, NotAllowedError, "may not decide"),
        ("carl", {"id": "x", "reason": "seen"}, KitError, "not the number of an incident"),
        ("carl", {"id": "9" * 40, "reason": "seen"}, KitError, "not the number of an incident"),
        ("carl", {"id": "99", "reason": "seen"}, KitError, "there is no incident 99"),
        ("carl", {"reason": "seen"}, KitError, "did not send 'id'"),
        ("carl", {"id": str(number), "reason": " "}, KitError, "needs a reason"),
    ]:
        with pytest.raises(error, match=words):
            act(who, told)
    assert "The incident stays open until it is resolved." in act(
        "carl", {"id": str(number), "reason": "the strike"}
    )
    with pytest.raises(RunFailedError, match="acknowledged by carl"):
        act("carl", {"id": str(number), "reason": "again"})
    rounds.tell(project, [0.79])
    page = Monitoring(project)
    shown = text(page.panel("incidents"))
    found = query_records(project, sa.select(IncidentRecord))[0]
    assert (found.seen_by, found.seen_why) == (
        "carl",
        "the strike",
    )
    assert f"carl, {moment(found.seen_at, page.zone)}: the strike" in shown


def test_a_retraining_is_asked_for_once_and_the_watch_is_started(
    well: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        actions, "_start_command", lambda project, log, *verb: started.append((log.name, *verb))
    )
    assert (
        actions.build_actions(well)["retrain"]("carl", {"reason": "a new airport opens"})
        == "A new version is being trained; this page will show the result."
    )
    made = query_records(well, sa.select(RetrainingRecord))[0]
    assert (made.action, made.by, made.reason, made.state, started) == (
        "retrain",
        "carl",
        "a new airport opens",
        "due",
        [("watch.log", "watch", "--once", "--as-of", made.moment)],
    )
    with pytest.raises(RunFailedError, match="on its way already"):
        actions.build_actions(well)["retrain"]("carl", {"reason": "again"})
    assert len(started) == 1
    assert "yes A new airport opens, carl asked; the new version is on its way" in text(
        Monitoring(well).panel("now")
    )


def test_stretches_of_time_are_named_by_their_days() -> None:
    zone, at = ZoneInfo("Europe/Berlin"), datetime(2024, 2, 28, 23, tzinfo=UTC)
    assert [span(at, at + timedelta(hours=h), zone) for h in (24, 48, 240, 6)] == [
        "29 Feb",
        "29 Feb – 1 Mar",
        "29 Feb – 9 Mar",
        "29 Feb, 00:00 – 06:00",
    ]


def test_columns_outside_of_the_usual_stand_out() -> None:
    made = svg_charts.columns(
        [(0.5, 100, "a"), (1.5, 40, "b"), (2.5, 105, "c")], [(0, ""), (3, "")], (95, 105), "Rows"
    )
    assert made.count("var(--watch)") == 1
    assert "<title>b</title>" in made
