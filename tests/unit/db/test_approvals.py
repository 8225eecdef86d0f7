"""Approvals and promotions: permissions, reasons, exact versions, and races."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.project.config import services

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n"
REVIEWED = approvals.ReviewedVersion(
    version="1",
    model_hash="m1",
    evidence_hash="e1",
    review="passed",
    sample_rows=0,
    author="ann",
)


def make_version(**values: Any) -> approvals.ReviewedVersion:
    return replace(REVIEWED, **values)


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return loader.load_project(tmp_path)


def approve_version(project: loader.Project, **values: Any) -> approvals.ReviewedVersion:
    made = make_version(**values)
    approvals.record_approval(project, made, "approved", "bob", "fit")
    return made


def test_queries_do_not_create_a_database(project: loader.Project) -> None:
    assert approvals.get_current_promotion(project) is None
    assert approvals.list_promotions(project) == []
    assert approvals.find_approval(project, REVIEWED) is None
    assert not (project.root / ".mlops").exists()


def test_promotions_are_numbered_and_name_the_previous_version(project: loader.Project) -> None:
    first = approvals.record_promotion(project, approve_version(project), None, "bob", "better")
    approvals.record_promotion(
        project,
        approve_version(project, version="2", model_hash="m2"),
        first,
        "bob",
        "better still",
    )
    newest, oldest = approvals.list_promotions(project)
    assert (newest.number, newest.version, newest.previous_version, newest.reason) == (
        2,
        "2",
        "1",
        "better still",
    )
    assert (oldest.number, oldest.previous_version) == (1, None)
    assert newest.promoted_at.endswith("+00:00")
    assert approvals.get_current_promotion(project) is not None
    assert approvals.list_promotions(project, 1)[0].version == "2"


def test_version_without_approval_of_its_hashes_is_not_promoted(project: loader.Project) -> None:
    with pytest.raises(RunFailedError, match="has no approval"):
        approvals.record_promotion(project, REVIEWED, None, "bob", "why")
    approve_version(project)
    for changed in ({"model_hash": "m2"}, {"evidence_hash": "e2"}):
        with pytest.raises(RunFailedError, match="has no approval"):
            approvals.record_promotion(project, make_version(**changed), None, "bob", "why")
    approvals.record_approval(project, REVIEWED, "rejected", "bob", "on second thoughts")
    with pytest.raises(RunFailedError, match="has no approval"):
        approvals.record_promotion(project, REVIEWED, None, "bob", "why")
    assert approvals.get_current_promotion(project) is None


def test_failed_review_and_sample_cannot_be_approved(project: loader.Project) -> None:
    with pytest.raises(RunFailedError, match="did not pass its review"):
        approvals.record_approval(project, make_version(review="failed"), "approved", "bob", "fit")
    with pytest.raises(RunFailedError, match="sample of 50 rows"):
        approvals.record_approval(project, make_version(sample_rows=50), "approved", "bob", "fit")
    assert (
        approvals.record_approval(
            project, make_version(review="failed"), "rejected", "bob", "of course"
        ).outcome
        == "rejected"
    )


def test_promotion_over_an_outdated_champion_is_refused(project: loader.Project) -> None:
    approvals.record_promotion(project, approve_version(project), None, "bob", "first")
    with pytest.raises(RunFailedError, match="version 1 was promoted in between by bob"):
        approvals.record_promotion(
            project, approve_version(project, version="2"), None, "eve", "also first"
        )
    assert [p.version for p in approvals.list_promotions(project)] == ["1"]


def test_one_of_many_simultaneous_promotions_wins(project: loader.Project) -> None:
    made = [approve_version(project, version=str(i), model_hash=f"m{i}") for i in range(8)]
    lost: list[str] = []

    def go(mine: approvals.ReviewedVersion) -> None:
        try:
            approvals.record_promotion(project, mine, None, "bob", "me first")
        except RunFailedError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=go, args=(m,)) for m in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(approvals.list_promotions(project)) == 1
    assert len(lost) == 7
    assert all("was promoted in between" in text for text in lost)


@pytest.mark.parametrize(
    ("people", "by", "wrong"),
    [
        ({"approvers": ["bob"]}, "eve", "'eve' may not decide this"),
        ({"four_eyes": True}, "ann", "'ann' made this version and may not approve it"),
    ],
)
def test_person_without_permission_is_refused(
    project: loader.Project, people: dict[str, Any], by: str, wrong: str
) -> None:
    strict = project.with_values("test", people=people)
    with pytest.raises(KitError, match=wrong):
        approvals.record_approval(strict, REVIEWED, "approved", by, "fit")
    assert approvals.find_approval(strict, REVIEWED) is None
    assert approvals.record_approval(strict, REVIEWED, "approved", "bob", "fit").actor == "bob"


def test_one_of_many_simultaneous_decisions_is_recorded(project: loader.Project) -> None:
    lost: list[str] = []

    def go(by: str, word: approvals.ApprovalOutcome) -> None:
        try:
            approvals.record_approval(project, REVIEWED, word, by, f"{by} first", last_seen_id=0)
        except RunFailedError as error:
            lost.append(str(error))

    threads = [
        threading.Thread(target=go, args=(f"p{i}", "approved" if i % 2 else "rejected"))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [won] = approvals.list_approvals(project)
    assert len(lost) == 7
    assert all(
        f"{won.actor} has decided on version 1 in between ({won.outcome}: {won.actor} first)"
        in text
        for text in lost
    )


def test_decision_is_recorded_if_the_latest_one_was_seen(project: loader.Project) -> None:
    first = approvals.record_approval(
        project, REVIEWED, "changes", "bob", "name the owner", last_seen_id=0
    )
    with pytest.raises(RunFailedError, match="bob has decided on version 1 in between"):
        approvals.record_approval(project, REVIEWED, "approved", "eve", "fit", last_seen_id=0)
    second = approvals.record_approval(
        project, REVIEWED, "approved", "eve", "fit", last_seen_id=first.id
    )
    assert second.id > first.id
    assert second.reason == "fit"
    assert approvals.find_approval(project, REVIEWED) == second
    assert [o.outcome for o in approvals.list_approvals(project)] == ["approved", "changes"]


def test_change_request_is_not_an_approval(project: loader.Project) -> None:
    approvals.record_approval(project, REVIEWED, "changes", "bob", "name the owner")
    with pytest.raises(RunFailedError, match="has no approval"):
        approvals.record_promotion(project, REVIEWED, None, "bob", "why")


def test_only_operators_may_roll_back_if_any_are_named() -> None:
    people = services.PeopleConfig(operators=["olga"])
    approvals.check_permission(people, "olga", approves=False)
    with pytest.raises(KitError, match=r"people\.operators"):
        approvals.check_permission(people, "bob", approves=False)


def test_reason_is_required_and_stored_verbatim(project: loader.Project) -> None:
    with pytest.raises(KitError, match="needs a reason"):
        approvals.record_approval(project, REVIEWED, "approved", "bob", "  ")
    text = "<script>alert(1)</script>'; DROP TABLE opinions; --"
    approvals.record_approval(project, REVIEWED, "approved", "bob", text)
    found = approvals.find_approval(project, REVIEWED)
    assert found is not None
    assert found.reason == text


PROMOTION_LOOP = """
import itertools, sys
from mlops_kit.db import approvals
from mlops_kit.project import loader
project = loader.load_project(sys.argv[1])
for i in itertools.count():
    facts = approvals.ReviewedVersion(str(i), f"m{i}", "e", "passed", 0, "ann")
    approvals.record_approval(project, facts, "approved", "bob", "fit")
    before = approvals.get_current_promotion(project)
    print(approvals.record_promotion(project, facts, before, "bob", "better").number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 4, 9])
@pytest.mark.slow
def test_killed_process_loses_no_promotion_it_reported(project: loader.Project, after: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROMOTION_LOOP, str(project.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            said = [int(process.stdout.readline()) for _ in range(after)]
        finally:
            process.kill()
        said += [int(line) for line in process.stdout.read().split()]
    numbers = [p.number for p in approvals.list_promotions(project)]
    assert numbers == list(range(len(numbers), 0, -1))
    assert numbers[0] >= said[-1] == len(said)
    held = approvals.get_current_promotion(project)
    assert held is not None
    assert (
        approvals.record_promotion(
            project,
            approve_version(project, version="new", model_hash="new"),
            held,
            "bob",
            "on with it",
        ).number
        == numbers[0] + 1
    )
