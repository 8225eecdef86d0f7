"""Decisions: who may, with what reason, of which version exactly; and of two at once one wins."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from mlops_kit import config, decisions
from mlops_kit.errors import KitError, RunFailed

YAML = "name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n"
FACTS = {
    "version": "1",
    "model_hash": "m1",
    "evidence_hash": "e1",
    "review": "passed",
    "sample": "0",
    "author": "ann",
}


def facts(**values: str) -> dict[str, Any]:
    return {**FACTS, **values}


@pytest.fixture
def project(tmp_path: Path) -> config.Project:
    (tmp_path / "mlops.yaml").write_text(YAML)
    return config.load(tmp_path)


def approved(project: config.Project, **values: str) -> dict[str, Any]:
    made = facts(**values)
    decisions.say(project, made, "approved", "bob", "fit")
    return made


def test_nothing_is_made_for_the_asking(project: config.Project) -> None:
    assert (
        decisions.current(project) is None
        and decisions.history(project) == []
        and decisions.opinion(project, FACTS) is None
    )
    assert not (project.root / ".mlops").exists()


def test_a_promotion_is_numbered_and_names_the_one_before(project: config.Project) -> None:
    first = decisions.promote(project, approved(project), None, "bob", "better")
    decisions.promote(
        project, approved(project, version="2", model_hash="m2"), first, "bob", "better still"
    )
    newest, oldest = decisions.history(project)
    assert (newest.number, newest.version, newest.before, newest.why) == (
        2,
        "2",
        "1",
        "better still",
    )
    assert (oldest.number, oldest.before) == (1, None) and newest.at.endswith("+00:00")
    assert (
        decisions.current(project) is not None and decisions.history(project, 1)[0].version == "2"
    )


def test_what_nobody_approved_as_it_is_does_not_serve(project: config.Project) -> None:
    with pytest.raises(RunFailed, match="has no approval"):
        decisions.promote(project, FACTS, None, "bob", "why")
    approved(project)
    for changed in ({"model_hash": "m2"}, {"evidence_hash": "e2"}):
        with pytest.raises(RunFailed, match="has no approval"):
            decisions.promote(project, facts(**changed), None, "bob", "why")
    decisions.say(project, FACTS, "rejected", "bob", "on second thoughts")
    with pytest.raises(RunFailed, match="has no approval"):
        decisions.promote(project, FACTS, None, "bob", "why")
    assert decisions.current(project) is None


def test_a_failed_review_and_a_sample_cannot_be_approved(project: config.Project) -> None:
    with pytest.raises(RunFailed, match="did not pass its review"):
        decisions.say(project, facts(review="failed"), "approved", "bob", "fit")
    with pytest.raises(RunFailed, match="sample of 50 rows"):
        decisions.say(project, facts(sample="50"), "approved", "bob", "fit")
    assert (
        decisions.say(project, facts(review="failed"), "rejected", "bob", "of course").word
        == "rejected"
    )


def test_who_thinks_of_another_champion_is_refused(project: config.Project) -> None:
    decisions.promote(project, approved(project), None, "bob", "first")
    with pytest.raises(RunFailed, match="version 1 was promoted in between by bob"):
        decisions.promote(project, approved(project, version="2"), None, "eve", "also first")
    assert [p.version for p in decisions.history(project)] == ["1"]


def test_of_many_at_once_one_wins(project: config.Project) -> None:
    made = [approved(project, version=str(i), model_hash=f"m{i}") for i in range(8)]
    lost: list[str] = []

    def go(mine: dict[str, Any]) -> None:
        try:
            decisions.promote(project, mine, None, "bob", "me first")
        except RunFailed as error:
            lost.append(str(error))

    threads = [threading.Thread(target=go, args=(m,)) for m in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decisions.history(project)) == 1 and len(lost) == 7
    assert all("was promoted in between" in text for text in lost)


@pytest.mark.parametrize(
    ("people", "by", "wrong"),
    [
        ({"approvers": ["bob"]}, "eve", "'eve' may not decide this"),
        ({"four_eyes": True}, "ann", "'ann' made this version and may not approve it"),
    ],
)
def test_who_may_not_decide_is_told_who_may(
    project: config.Project, people: dict[str, Any], by: str, wrong: str
) -> None:
    strict = project.with_values("test", people=people)
    with pytest.raises(KitError, match=wrong):
        decisions.say(strict, FACTS, "approved", by, "fit")
    assert decisions.opinion(strict, FACTS) is None
    assert decisions.say(strict, FACTS, "approved", "bob", "fit").by == "bob"


def test_of_two_who_decide_at_once_one_is_recorded(project: config.Project) -> None:
    lost: list[str] = []

    def go(by: str, word: decisions.Word) -> None:
        try:
            decisions.say(project, FACTS, word, by, f"{by} first", seen=0)
        except RunFailed as error:
            lost.append(str(error))

    threads = [
        threading.Thread(target=go, args=(f"p{i}", "approved" if i % 2 else "rejected"))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [won] = decisions.opinions(project)
    assert len(lost) == 7 and all(
        f"{won.by} has decided on version 1 in between ({won.word}: {won.by} first)" in text
        for text in lost
    )


def test_who_has_seen_the_last_word_may_say_another(project: config.Project) -> None:
    first = decisions.say(project, FACTS, "changes", "bob", "name the owner", seen=0)
    with pytest.raises(RunFailed, match="bob has decided on version 1 in between"):
        decisions.say(project, FACTS, "approved", "eve", "fit", seen=0)
    second = decisions.say(project, FACTS, "approved", "eve", "fit", seen=first.id)
    assert (
        second.id > first.id and second.why == "fit" and decisions.opinion(project, FACTS) == second
    )
    assert [o.word for o in decisions.opinions(project)] == ["approved", "changes"]


def test_who_asks_for_changes_has_not_approved(project: config.Project) -> None:
    decisions.say(project, FACTS, "changes", "bob", "name the owner")
    with pytest.raises(RunFailed, match="has no approval"):
        decisions.promote(project, FACTS, None, "bob", "why")


def test_only_an_operator_goes_back_where_they_are_named() -> None:
    people = config.People(operators=["olga"])
    decisions.may(people, "olga", approves=False)
    with pytest.raises(KitError, match="people.operators"):
        decisions.may(people, "bob", approves=False)


def test_a_reason_is_required_and_kept_as_it_is(project: config.Project) -> None:
    with pytest.raises(KitError, match="needs a reason"):
        decisions.say(project, FACTS, "approved", "bob", "  ")
    text = "<script>alert(1)</script>'; DROP TABLE opinions; --"
    decisions.say(project, FACTS, "approved", "bob", text)
    found = decisions.opinion(project, FACTS)
    assert found is not None and found.why == text


PROMOTES = """
import itertools, sys
from mlops_kit import config, decisions
project = config.load(sys.argv[1])
for i in itertools.count():
    facts = {"version": str(i), "model_hash": f"m{i}", "evidence_hash": "e", "review": "passed", "sample": "0", "author": "ann"}
    decisions.say(project, facts, "approved", "bob", "fit")
    print(decisions.promote(project, facts, decisions.current(project), "bob", "better").number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_process_killed_while_it_promotes_loses_nothing_it_said(
    project: config.Project, after: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROMOTES, str(project.root)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        said = [int(process.stdout.readline()) for _ in range(after)]
        process.kill()
        said += [int(line) for line in process.stdout.read().split()]
    numbers = [p.number for p in decisions.history(project)]
    assert numbers == list(range(len(numbers), 0, -1)) and numbers[0] >= said[-1] == len(said)
    held = decisions.current(project)
    assert held is not None
    assert (
        decisions.promote(
            project, approved(project, version="new", model_hash="new"), held, "bob", "on with it"
        ).number
        == numbers[0] + 1
    )
