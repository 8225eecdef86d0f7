"""The monitoring page: its sentence in each state, stored numbers, promotions, and decisions."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from mlops_kit import dashboards
from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import Interval
from mlops_kit.dashboards import actions, monitoring_page
from mlops_kit.dashboards.monitoring_charts import (
    ChartLayout,
    NamePosition,
    choose_name_position,
    list_promotion_events,
    make_drift_row,
    order_columns_by_cost,
)
from mlops_kit.dashboards.monitoring_head import (
    build_activity_strip,
    describe_monitoring_details,
    describe_next_step,
    summarize_performance,
)
from mlops_kit.dashboards.monitoring_page import MonitoringPage
from mlops_kit.dashboards.monitoring_records import count_windows
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import format_clock_time, format_period
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import (
    ApprovalOutcome,
    IncidentRecord,
    PredictionRecord,
    RetrainingRecord,
    WindowRecord,
)
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.limits import compute_bound
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from mlops_kit.watch.retraining import list_open_retrainings, settle_rejected_retrainings
from tests.support import sample_runs, watch_records
from tests.support.page_text import read_text

NEXT_PASS = "23 July 2013"
FAILED_CARD = "cannot be shown"


@pytest.fixture
def healthy_project(sample_project: Project) -> Project:
    """Three weeks at the reference performance, the last without labels yet."""
    watch_records.write_windows(sample_project, [0.79, 0.78, "due"])
    watch_records.write_predictions(sample_project, 21)
    return sample_project


def read_statement(project: Project) -> tuple[str, str]:
    """Return the state and the sentence of the page."""
    context = MonitoringPage(project).context
    return context.status, f"{summarize_performance(context)} {describe_next_step(context)}"


def read_activity(page: MonitoringPage) -> str:
    """Return the texts of the activity strip."""
    facts = build_activity_strip(page.context).facts
    return read_text(" ".join(facts))


def test_healthy_model_needs_nothing_until_the_next_pass(healthy_project: Project) -> None:
    page = MonitoringPage(healthy_project)
    assert read_statement(healthy_project) == (
        "healthy",
        f"Performance matches its reference. Nothing to do before {NEXT_PASS}.",
    )
    assert read_text(describe_monitoring_details(page.context)) == (
        "Estimated ROC-AUC 0.783 (0.751 – 0.812), 15 – 21 Jul, reference 0.786. wind has drifted "
        "from the reference; it costs about 0.033 of ROC-AUC, over the limit of 0.029."
    )
    head = read_text(page.head())
    assert "● Healthy" in head
    assert "flights · late · version 7" in head
    assert "data until 22 July 2013 · refreshed" in head


def test_drop_is_critical_and_says_what_can_be_done(sample_project: Project) -> None:
    watch_records.write_windows(sample_project, [0.79, 0.65, "due"])
    assert read_statement(sample_project) == (
        "critical",
        f"ROC-AUC dropped to 0.650; the reference is 0.786. Retrain before {NEXT_PASS}.",
    )
    sample_runs.promote(sample_project, "8")
    assert read_statement(sample_project) == (
        "warning",
        "Version 7 dropped below its reference performance; version 8 has replaced it. Nothing to "
        f"do before {NEXT_PASS}.",
    )


def test_drop_offers_a_rollback_unless_a_new_version_is_being_made(
    sample_project: Project,
) -> None:
    sample_runs.promote(sample_project, "8")
    watch_records.write_windows(sample_project, [0.79, 0.65, "due"], ["7", "8", "8"])
    sentence = read_statement(sample_project)[1]
    assert sentence.endswith(f"Retrain, or roll back to version 7, before {NEXT_PASS}.")
    watch_records.write_retraining(sample_project, 2, "retrain", "Yes: it fell.", "due")
    assert read_statement(sample_project)[1].endswith("A new version is being made.")


def test_retrained_version_is_described_by_what_was_decided_about_it(
    sample_project: Project,
) -> None:
    watch_records.write_windows(sample_project, [0.79, 0.65, "due"])
    watch_records.write_retraining(
        sample_project, 2, "retrain", "Yes: it fell.", "waiting (approval)", sample_runs.NEW_RUN
    )
    assert read_statement(sample_project)[1].endswith("Version 8 waits for an approval.")
    facts = sample_runs.make_facts("8")
    for outcome, result, has_next_step in (
        (ApprovalOutcome.CHANGES_REQUESTED, "version 8 waits: ann requested changes", True),
        (ApprovalOutcome.APPROVED, "version 8 is approved, and not in service yet", True),
        (ApprovalOutcome.REJECTED, "version 8 was rejected by ann", False),
    ):
        approvals.record_approval(sample_project, facts, outcome, "ann", "because")
        sentence = read_statement(sample_project)[1]
        assert sentence.endswith(f"{result[1:]}." if has_next_step else f"before {NEXT_PASS}.")
        page = read_text(MonitoringPage(sample_project).html())
        assert result in page
        assert "waits for an approval" not in page
    settle_rejected_retrainings(sample_project)
    assert not list_open_retrainings(sample_project)
    assert "version 8 was rejected by ann" in read_text(MonitoringPage(sample_project).html())


def test_open_incident_is_a_warning_until_acknowledged(healthy_project: Project) -> None:
    first_id = watch_records.write_incident(healthy_project)
    assert read_statement(healthy_project) == (
        "warning",
        "Performance matches its reference, but fewer rows than usual. Look into it before "
        f"{NEXT_PASS}.",
    )
    second_id = watch_records.write_incident(healthy_project, title="Labels are missing")
    assert read_statement(healthy_project)[1].startswith(
        "Performance matches its reference, but 2 incidents are open."
    )
    acknowledge = actions.build_actions(healthy_project)["acknowledge"]
    for incident_id in (first_id, second_id):
        acknowledge("carl", {"id": str(incident_id), "reason": "the strike"})
    assert read_statement(healthy_project) == (
        "healthy",
        f"Performance matches its reference. Nothing to do before {NEXT_PASS}.",
    )
    watch_records.write_incident(healthy_project, "act", "Concept drift")
    assert read_statement(healthy_project)[0] == "critical"


def test_page_shows_one_state_while_the_watch_goes_on(
    healthy_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_head = monitoring_page.build_monitoring_head

    def build_head_then_write(*arguments: Any) -> Html:
        head = build_head(*arguments)
        watch_records.write_incident(healthy_project, "act", "Concept drift")
        return head

    monkeypatch.setattr(monitoring_page, "build_monitoring_head", build_head_then_write)
    page = MonitoringPage(healthy_project)
    assert "Concept drift" not in read_text(page.html())
    monkeypatch.undo()
    assert "Concept drift" in read_text(MonitoringPage(healthy_project).html())


def test_page_is_built_again_if_a_run_changed_meanwhile(
    healthy_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = next(healthy_project.reports_folder.glob("*/manifest.json"))
    build_head = monitoring_page.build_monitoring_head
    builds = []

    def build_head_then_touch(*arguments: Any) -> Html:
        builds.append(1)
        if len(builds) == 1:
            os.utime(manifest, (1, 1))
        return build_head(*arguments)

    monkeypatch.setattr(monitoring_page, "build_monitoring_head", build_head_then_touch)
    MonitoringPage(healthy_project)
    assert len(builds) == 2


@pytest.mark.parametrize(
    ("values", "state", "sentence"),
    [
        (
            ["due", "due"],
            "no labels",
            "There are no labels yet; the estimated performance matches the reference.",
        ),
        (
            [],
            "no windows",
            "No window has ended yet. The first one is evaluated on 8 July 2013.",
        ),
        (
            [None, None],
            "no labels",
            "There are no labels yet; the estimated performance matches the reference.",
        ),
        (
            [0.79, 0.75],
            "warning",
            "The labels do not tell yet whether performance matches its reference.",
        ),
    ],
)
def test_sentence_without_conclusive_labels(
    sample_project: Project, values: list[float | str | None], state: str, sentence: str
) -> None:
    watch_records.write_windows(sample_project, values)
    statement = read_statement(sample_project)
    assert statement[0] == state
    assert statement[1].startswith(sentence)
    assert FAILED_CARD not in MonitoringPage(sample_project).html()


def test_stopped_watch_is_reported_and_a_running_one_says_its_next_pass(
    sample_project: Project,
) -> None:
    three_days_ago = datetime.now(UTC) - timedelta(days=3)
    watch_records.write_windows(
        sample_project,
        [0.79],
        updated_at=three_days_ago.isoformat(),
        watched_until=three_days_ago,
    )
    state, sentence = read_statement(sample_project)
    assert state == "stopped"
    assert sentence.startswith("The last pass of the watch was on")
    assert sentence.endswith("Start mlops watch.")
    with open_transaction(sample_project) as session:
        session.execute(
            sa.text("update watch set upto = :now, at = :now"),
            {"now": datetime.now(UTC).isoformat()},
        )
    next_pass = datetime.now(ZoneInfo("America/New_York")) + timedelta(days=1)
    sentence = read_statement(sample_project)[1]
    assert sentence.startswith("Performance matches its reference. Nothing to do before tomorrow, ")
    assert f"{next_pass:%H:}" in sentence


def test_unmonitored_project_says_what_to_run(sample_project: Project) -> None:
    page = MonitoringPage(sample_project)
    assert "Nothing is monitored yet." in read_text(page.head())
    assert "<code>mlops watch --once</code>" in page.head()
    assert all(page.panel(tab) == "" for tab in MonitoringPage.tabs)
    assert page.distributions() == ""


def test_every_number_of_the_windows_is_the_stored_one(healthy_project: Project) -> None:
    page = MonitoringPage(healthy_project)
    shown = {tab: read_text(page.panel(tab)) for tab in MonitoringPage.tabs}
    for record in query_records(healthy_project, sa.select(WindowRecord)):
        monitoring = WindowMonitoring.from_json(record.monitoring_json)
        assert str(monitoring.estimated) in shown["performance"]
        assert f"{monitoring.rows:,}" in shown["performance"]
        if record.realized_json is None:
            continue
        performance = WindowPerformance.from_json(record.realized_json)
        for row in performance.realized.data.itertuples():
            interval = f"[{format_number(row.low)}, {format_number(row.high)}]"
            assert f"{format_number(row.value)} {interval}" in shown["performance"]
        assert f"${performance.cost:.2f}" in shown["performance"]
        assert f"${performance.saved:,.0f}" in shown["performance"]
    for row in watch_records.make_drift_table(2).data.to_dict("records"):
        for text in (row["column"], row["status"], row["explanation"]):
            assert text in shown["drift"]
        assert format_number(row["effect"]) in shown["drift"]
        is_cost_known = row["cost"] is not None and row["cost"] == row["cost"]
        if is_cost_known:
            assert format_number(row["cost"]) in shown["drift"]
    assert "visib 2% 34% ◆ more wind 1% 1%" in shown["data"]


def test_activity_is_counted_in_the_database(healthy_project: Project) -> None:
    page = MonitoringPage(healthy_project)
    assert read_activity(page) == (
        "◆ 3 rows scored on 21 Jul, usually 12 – 12 newest row 21 Jul, 04:00 labels up to 20 Jul "
        "$2,002 saved in 14 days"
    )
    data = page.context.data
    days = data.count_rows_by_day(60)
    labeled_rows = 20 * watch_records.ROWS_PER_DAY
    assert days[-1].count == watch_records.ROWS_ON_LAST_DAY
    assert sum(day.count for day in days) == labeled_rows + watch_records.ROWS_ON_LAST_DAY
    service = read_text(page.panel("service"))
    assert f"joined {labeled_rows}" in service
    assert "median delay 1.0 days" in service
    last_week = 6 * watch_records.ROWS_PER_DAY + watch_records.ROWS_ON_LAST_DAY
    assert f"watch 7 {last_week} 22 July 2013" in service
    assert data.list_label_delays() == [1.0] * labeled_rows


def test_endpoint_is_mentioned_once_it_has_made_predictions(healthy_project: Project) -> None:
    assert "endpoint" not in read_activity(MonitoringPage(healthy_project))
    five_minutes_ago = datetime.now(UTC) - timedelta(minutes=5)
    with open_transaction(healthy_project) as session:
        session.execute(
            sa.update(PredictionRecord)
            .where(PredictionRecord.id == "20-1")
            .values(origin="endpoint", scored_at=five_minutes_ago.isoformat())
        )
    page = MonitoringPage(healthy_project)
    assert "5 min since the endpoint's last prediction" in read_activity(page)
    assert "endpoint 7 1" in read_text(page.panel("service"))


def test_page_shows_the_limit_of_the_decision_the_threshold_and_the_estimated_cost(
    healthy_project: Project,
) -> None:
    reference = ReferencePerformance(0.786, 0.726, 0.82, no_skill=0.5, threshold=0.3)
    with open_transaction(healthy_project) as session:
        record = session.scalars(
            sa.select(WindowRecord).order_by(WindowRecord.start.desc())
        ).first()
        assert record is not None
        monitoring = WindowMonitoring.from_json(record.monitoring_json)
        record.monitoring_json = replace(
            monitoring, reference=reference, estimated_cost=Interval(1.25, 1.1, 1.4)
        ).to_json()
    page = MonitoringPage(healthy_project)
    # The noise of the reference, 0.06, is larger than 10% of its skill, 0.029.
    bound = compute_bound(page.context.config.monitor.max_drop, page.context.metric, reference)
    assert page.context.max_drop == pytest.approx(0.786 - bound) == pytest.approx(0.06)
    assert "from a score of 0.300 on, the decision threshold" in read_text(page.panel("overview"))
    performance = read_text(page.panel("performance"))
    assert "from a score of 0.300 on, the decision threshold" in performance
    assert "Estimated cost per flight" in performance
    assert "1.25" in performance


def test_heat_map_depth_is_effect_and_color_is_cost(healthy_project: Project) -> None:
    page = MonitoringPage(healthy_project)
    context = page.context
    columns = order_columns_by_cost(context.data.windows)
    rows = [make_drift_row(context, column) for column in columns]
    cells_by_name = {row.name: row.cells for row in rows}
    assert list(cells_by_name)[:3] == ["wind", "prediction", "temp"]  # by their recent cost
    colors = {}
    for name, cells in cells_by_name.items():
        colors[name] = [cell.color for cell in cells if cell]
    assert colors["wind"] == ["act"] * 3
    assert colors["temp"] == ["watch"] * 3
    assert colors["gust"] == ["faint"] * 3
    assert colors["visib"] == ["blue"] * 3
    assert [cell.depth for cell in cells_by_name["wind"] if cell] == [1.0] * 3
    first = cells_by_name["wind"][0]
    assert first is not None
    assert first.label == (
        "wind, 1 – 7 Jul: effect 0.400; it costs about 0.031 of ROC-AUC, over the limit of 0.029"
    )
    match = re.search(r"<script[^>]*>(.*?)</script>", page.distributions(), flags=re.DOTALL)
    assert match is not None
    stored = {}
    for window in context.data.windows:
        stored[str(window.record.id)] = window.monitoring.sketches
    assert json.loads(match.group(1)) == stored


def test_promotion_of_a_replay_is_where_it_was_decided(sample_project: Project) -> None:
    versions = ["7", "7", "8", "8"]
    watch_records.write_windows(sample_project, [0.79, 0.65, 0.79, "due"], versions)
    watch_records.write_retraining(
        sample_project, 2, "retrain", "Yes: it fell.", "succeeded", sample_runs.NEW_RUN
    )
    sample_runs.promote(sample_project, "8")
    page = MonitoringPage(sample_project)
    [event] = list_promotion_events(page.context, ChartLayout.BROAD)
    assert (event.x, event.text) == (15.0, "16 Jul: version 8")
    assert "yes It fell; version 8 is in service" in read_text(page.panel("overview"))
    retraining = read_text(page.panel("retraining"))
    assert "16 July 2013 yes It fell. policy version 8 is in service" in retraining
    assert page.context.data.get_reference("7") == watch_records.REFERENCE
    # A rollback is at the last time that the replay had reached, not in this year.
    sample_runs.promote(sample_project, "7")
    data = MonitoringPage(sample_project).context.data
    times = {record.number: data.locate_promotion(record) for record in data.promotions}
    assert times[2] == watch_records.WATCHED_FROM + 15 * watch_records.DAY
    assert times[3] == data.watched_until


def test_name_of_a_line_stands_clear_of_the_others() -> None:
    flat = [0.5] * 7
    dip = [0.9, 0.9, 0.9, 0.1, 0.9, 0.9, 0.9]
    assert choose_name_position(flat, [dip], [0.0, 1.0]) == NamePosition(1, is_above=False)
    values = [None, 0.5, 0.5]
    position = choose_name_position(values, [], [0.0, 1.0])
    assert position.count_known_before(values) == 0


def test_texts_of_people_and_stored_texts_run_no_script(healthy_project: Project) -> None:
    script = watch_records.SCRIPT
    watch_records.write_incident(healthy_project, title=script, acknowledged_by=script)
    watch_records.write_incident(healthy_project, title=f"over {script}", closed=True)
    watch_records.write_retraining(
        healthy_project, 1, "retrain", script, "failed", "run-1", actor=script
    )
    page = MonitoringPage(healthy_project).html()
    assert "<script>document" not in page
    assert page.count("<script") == 1
    assert page.count("</script>") == 1
    assert FAILED_CARD not in page


def test_damaged_window_affects_only_its_cards(healthy_project: Project) -> None:
    watch_records.write_incident(healthy_project)
    with open_transaction(healthy_project) as session:
        session.execute(sa.update(WindowRecord).values(monitoring_json="{torn"))
    page = MonitoringPage(healthy_project)
    performance = page.panel("performance")
    assert "This card cannot be shown" in performance
    assert "mlops watch --once" in performance
    assert page.distributions().count(FAILED_CARD) == 1
    assert "<h2>Distributions</h2>" in page.html()
    assert "Fewer rows than usual" in page.panel("incidents")
    assert FAILED_CARD not in page.panel("service")
    assert "Missing values" in page.panel("data")


def test_export_needs_no_server_and_takes_no_version(healthy_project: Project) -> None:
    file = healthy_project.reports_folder / "monitoring.html"
    exported = dashboards.export_page("monitoring", healthy_project, file, version="", against="")
    body = exported.split("<script>")[0]
    assert "<title>Monitoring: flights</title>" in exported
    assert len(exported) < 1_000_000
    assert "data-act=" not in body
    assert "http" not in body
    with pytest.raises(KitError, match="does not take --version"):
        monitoring_page.build_page(healthy_project, version="7")


@pytest.mark.usefixtures("served_page")
def test_visitor_sees_the_actions_that_are_possible(healthy_project: Project) -> None:
    head = MonitoringPage(healthy_project).head()
    assert 'data-act="retrain" disabled' in head
    assert "rollback" not in head
    assert "acknowledge" not in head
    incident_id = watch_records.write_incident(healthy_project, title="Labels are <missing>")
    sample_runs.promote(healthy_project, "8")
    run = "20130801-000000-cccc"
    sample_runs.write_run(healthy_project, run, "9", "8", "waiting (approval)")
    watch_records.write_retraining(healthy_project, 2, "retrain", "why", "waiting (approval)", run)
    head = MonitoringPage(healthy_project).head()
    assert f'<option value="{incident_id}">Labels are &lt;missing&gt;</option>' in head
    assert "Roll back to 7 …" in head
    assert 'data-closed=1 title="A retraining is already pending, decided by policy."' in head
    assert '<a href="/review">Review it</a>' in head
    assert "data-note" in head
    assert "<time datetime=" in head


@pytest.mark.parametrize(
    ("actor", "values", "error", "message"),
    [
        ("ann", {"id": "1", "reason": "seen"}, NotAllowedError, "may not decide"),
        ("carl", {"id": "x", "reason": "seen"}, KitError, "'x' is not the number of an incident"),
        ("carl", {"id": "9" * 40, "reason": "seen"}, KitError, "is not the number of an incident"),
        ("carl", {"id": "99", "reason": "seen"}, KitError, "there is no incident 99"),
        ("carl", {"reason": "seen"}, KitError, "did not send 'id'"),
        ("carl", {"id": "1", "reason": " "}, KitError, "needs a reason"),
    ],
)
def test_incident_is_not_acknowledged_by_a_wrong_person_or_without_a_reason(
    tmp_path_factory: pytest.TempPathFactory,
    actor: str,
    values: dict[str, str],
    error: type[Exception],
    message: str,
) -> None:
    home = tmp_path_factory.mktemp("people") / "home"
    project = sample_runs.make_project(home, more="people: {operators: [carl]}\n")
    assert watch_records.write_incident(project) == 1
    with pytest.raises(error, match=message):
        actions.build_actions(project)["acknowledge"](actor, values)


def test_incident_is_acknowledged_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("people") / "home"
    project = sample_runs.make_project(home, more="people: {operators: [carl]}\n")
    incident_id = str(watch_records.write_incident(project))
    acknowledge = actions.build_actions(project)["acknowledge"]
    answer = acknowledge("carl", {"id": incident_id, "reason": "the strike"})
    assert "Fewer rows than usual" in answer
    with pytest.raises(RunFailedError, match="acknowledged by carl"):
        acknowledge("carl", {"id": incident_id, "reason": "again"})
    watch_records.write_windows(project, [0.79])
    page = MonitoringPage(project)
    incident = query_records(project, sa.select(IncidentRecord))[0]
    assert (incident.acknowledged_by, incident.acknowledge_reason) == ("carl", "the strike")
    time = format_clock_time(incident.acknowledged_at, page.context.zone)
    assert f"carl, {time}: the strike" in read_text(page.panel("incidents"))


def test_retraining_is_requested_once_and_starts_the_watch(
    healthy_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, ...]] = []

    def record_command(project: Project, log: object, *arguments: str) -> None:
        started.append((log.name, *arguments))

    monkeypatch.setattr(actions, "_start_command", record_command)
    retrain = actions.build_actions(healthy_project)["retrain"]
    assert "new version" in retrain("carl", {"reason": "a new airport opens"})
    record = query_records(healthy_project, sa.select(RetrainingRecord))[0]
    assert (record.action, record.actor, record.reason, record.status) == (
        "retrain",
        "carl",
        "a new airport opens",
        "due",
    )
    assert started == [("watch.log", "watch", "--once", "--as-of", record.as_of)]
    with pytest.raises(RunFailedError, match="retraining"):
        retrain("carl", {"reason": "again"})
    assert len(started) == 1
    overview = read_text(MonitoringPage(healthy_project).panel("overview"))
    expected = "yes A new airport opens, requested by carl; the new version is being made"
    assert expected in overview


def test_periods_are_named_by_their_days() -> None:
    zone = ZoneInfo("Europe/Berlin")
    start = datetime(2024, 2, 28, 23, tzinfo=UTC)
    periods = []
    for hours in (24, 48, 240, 6):
        periods.append(format_period(start, start + timedelta(hours=hours), zone))
    assert periods == ["29 Feb", "29 Feb – 1 Mar", "29 Feb – 9 Mar", "29 Feb, 00:00 – 06:00"]


@pytest.mark.parametrize("action", ["approve", "retrain"])
def test_action_that_starts_a_run_is_refused_where_no_notebook_can_run(
    action: str, healthy_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is recorded: otherwise the page would announce a run that never comes."""
    take_action = actions.build_actions(healthy_project)[action]
    monkeypatch.setitem(sys.modules, "papermill", None)
    with pytest.raises(MissingExtraError, match="papermill is not installed") as error:
        take_action("ann", {"reason": "why"})
    assert error.value.hint == 'pip install "mlops-kit[train]"'
    assert query_records(healthy_project, sa.select(RetrainingRecord)) == []


@pytest.mark.parametrize(
    ("signal", "expected"),
    [("drift", 3), ("promotion_stopped", None), ("feed_fault", None), ("no_rows", None)],
)
def test_incident_counts_windows_only_if_it_is_about_them(
    signal: str, expected: int | None
) -> None:
    incident = IncidentRecord(
        "flights", signal, "watch", "A title", "A message.", "2024-03-04", "2024-03-04"
    )
    incident.window_count = 3
    assert count_windows(incident) == expected
