"""Every number of both dashboards is a stored one in each state; no page contradicts itself."""

from __future__ import annotations

import multiprocessing
import re
from datetime import timedelta
from pathlib import Path

import pytest

from mlops_kit.dashboards.monitoring_page import MonitoringPage
from mlops_kit.dashboards.review_page import ReviewPage
from mlops_kit.db import approvals
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import ApprovalOutcome, WatchRecord, WindowRecord
from mlops_kit.db.timestamps import format_timestamp
from mlops_kit.project.loader import Project, load_project
from mlops_kit.project.run_folder import list_run_folders
from tests.support import sample_runs, watch_records
from tests.support.page_numbers import (
    NUMBERS,
    StoredValues,
    find_contradictions,
    find_unexplained,
    make_count_rules,
    read_units,
)
from tests.support.page_text import read_text

STATES = ("waiting", "approved", "rejected", "rolled back", "failed")
LOADS = 10
MIN_DETECTED_SHARE = 0.8

pytestmark = pytest.mark.usefixtures("served_page")


@pytest.fixture
def watched_sample(sample_project: Project) -> Project:
    """A project with two versions, five weeks of windows, predictions, incidents and decisions."""
    watch_records.write_windows(sample_project, [0.79, 0.78, None, 0.65, "due"])
    watch_records.write_predictions(sample_project, 35)
    watch_records.write_incident(sample_project)
    watch_records.write_incident(sample_project, "act", "Fewer labels", acknowledged_by="ann")
    watch_records.write_incident(sample_project, title="Late rows", closed=True)
    watch_records.write_retraining(sample_project, 1, "keep", "No: nothing fell.")
    return sample_project


def put_in_state(project: Project, state: str) -> None:
    facts = sample_runs.make_facts("8")
    if state == "approved":
        approvals.record_approval(project, facts, ApprovalOutcome.APPROVED, "ann", "fit")
    elif state == "rejected":
        approvals.record_approval(project, facts, ApprovalOutcome.REJECTED, "ann", "slow")
    elif state == "rolled back":
        sample_runs.promote(project, "8")
        sample_runs.promote(project, "7", "carl", "rollback: complaints")
    elif state == "failed":
        file = project.reports_folder / sample_runs.NEW_RUN / "manifest.json"
        file.write_text(file.read_text().replace("waiting (approval)", "failed"))


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_each_number_is_stored_in_each_state(watched_sample: Project, state: str) -> None:
    put_in_state(watched_sample, state)
    runs = tuple(list_run_folders(watched_sample.reports_folder))
    stored = StoredValues(watched_sample, runs, trusts_texts=True)
    rules = make_count_rules(watched_sample)
    for page in (
        ReviewPage(watched_sample, "8").html(),
        ReviewPage(watched_sample, "7").html(),
        MonitoringPage(watched_sample).html(),
    ):
        assert find_unexplained(page, stored, rules) == []
    assert find_contradictions(MonitoringPage(watched_sample).html()) == []


def test_pages_of_an_empty_project_have_no_number(tmp_path: Path) -> None:
    (tmp_path / "mlops.yaml").write_text(sample_runs.PROJECT_YAML)
    project = load_project(tmp_path)
    for page in (ReviewPage(project).html(), MonitoringPage(project).html()):
        assert not NUMBERS.findall(read_text(page))


@pytest.mark.slow
def test_wrong_numbers_are_found(watched_sample: Project) -> None:
    """The checker notices most numbers of three digits whose last digit is another one."""
    runs = tuple(list_run_folders(watched_sample.reports_folder))
    stored = StoredValues(watched_sample, runs[-1:])
    tried = 0
    detected = 0
    for unit in read_units(MonitoringPage(watched_sample).html()):
        for match in re.finditer(r"(?<![\w.])\d\.\d{3}(?!\w)", unit):
            wrong = f"{match[0][:-1]}{(int(match[0][-1]) + 5) % 10}"
            changed = f"<p>{unit[: match.start()]}{wrong}{unit[match.end() :]}</p>"
            tried += 1
            detected += any(found.number == wrong for found in find_unexplained(changed, stored))
    assert tried > 30
    assert detected >= MIN_DETECTED_SHARE * tried
    wrong_count = "<p>No promotions yet.</p>"
    assert find_unexplained(wrong_count, stored, make_count_rules(watched_sample))


def test_contradictions_are_found(watched_sample: Project) -> None:
    page = str(MonitoringPage(watched_sample).html())
    assert find_contradictions(page) == []
    for shown, wrong in (
        ("dropped to 0.650", "dropped to 0.655"),
        ("In the last 7 days until 5 August", "In the last 7 days until 6 August"),
        ("5 windows, the newest first", "6 windows, the newest first"),
        ("3 incidents, open ones first", "2 incidents, open ones first"),
        ("of the window 29 Jul", "of the window 22 Jul"),
    ):
        assert shown in page
        assert find_contradictions(page.replace(shown, wrong)), wrong


def write_weeks(home: str, weeks: int) -> None:
    """Write week after week as a pass of the watch does, each in one transaction."""
    project = load_project(Path(home))
    for week in range(1, weeks):
        start = watch_records.WATCHED_FROM + week * timedelta(weeks=1)
        end = start + timedelta(weeks=1)
        value = 0.6 if week % 2 else 0.79
        with open_transaction(project) as session:
            session.get(WatchRecord, "flights").watched_until = format_timestamp(end)
            record = WindowRecord(
                "flights",
                format_timestamp(start),
                format_timestamp(end),
                "7",
                format_timestamp(end),
                watch_records.make_monitoring(week % 10, "7").to_json(),
            )
            record.realized_at = format_timestamp(end)
            record.realized_json = watch_records.make_performance(value, week % 10).to_json()
            session.add(record)


@pytest.mark.slow
def test_page_that_is_loaded_while_the_watch_writes_contradicts_nothing(
    sample_project: Project,
) -> None:
    watch_records.write_windows(sample_project, [0.79])
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=write_weeks, args=(str(sample_project.root), 400))
    writer.start()
    newest = set()
    for _ in range(LOADS):
        page = str(MonitoringPage(sample_project).html())
        assert find_contradictions(page) == []
        newest.add(re.search(r"data until (.+?) ·", page)[1])
    writer.kill()
    writer.join()
    assert newest
