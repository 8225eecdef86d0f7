"""Who decides: the user id's name, or the person whose token is presented."""

from __future__ import annotations

import logging
import os
import pwd

import pytest
from pydantic import ValidationError

from mlops_kit.core import dependencies, environment
from mlops_kit.core.errors import NotAllowedError
from mlops_kit.db.approvals import check_permission
from mlops_kit.project import identity
from mlops_kit.project.config.services import PeopleConfig

ANNA_TOKEN = "a-token-of-anna"
BEN_TOKEN = "a-token-of-ben"
PEOPLE = PeopleConfig(
    identity="token",
    tokens={
        "anna": identity.hash_person_token(ANNA_TOKEN),
        "ben": identity.hash_person_token(BEN_TOKEN),
    },
    four_eyes=True,
)


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(identity.TOKEN_VARIABLE, raising=False)


def test_forged_environment_does_not_change_who_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "alice")
    real_name = pwd.getpwuid(os.getuid()).pw_name
    assert identity.identify_person(PeopleConfig()) == real_name
    assert identity.identify_author(PeopleConfig()) == real_name


def test_person_is_the_owner_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ben")
    monkeypatch.setenv(identity.TOKEN_VARIABLE, ANNA_TOKEN)
    assert identity.identify_person(PEOPLE) == "anna"
    assert identity.identify_author(PEOPLE) == "anna"
    assert identity.describe_unidentified_author(PEOPLE) == ""


@pytest.mark.parametrize("token", ["", "not a token", ANNA_TOKEN.upper()])
def test_decision_without_a_known_token_is_refused(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(identity.TOKEN_VARIABLE, token)
    with pytest.raises(NotAllowedError) as error:
        identity.identify_person(PEOPLE)
    assert "one of: anna, ben" in str(error.value)
    assert not token or token not in str(error.value)


def test_version_without_a_known_author_cannot_be_approved_by_anybody() -> None:
    author = identity.identify_author(PEOPLE)
    assert author == f"unidentified ({environment.get_user_name()})"
    assert "nobody" in identity.describe_unidentified_author(PEOPLE)
    with pytest.raises(NotAllowedError, match="unidentified"):
        check_permission(PEOPLE, "anna", author)
    check_permission(PEOPLE, "anna", "ben")
    with pytest.raises(NotAllowedError, match="made this version"):
        check_permission(PEOPLE, "anna", "anna")


def test_unknown_token_is_refused_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(identity.TOKEN_VARIABLE, "guessed")
    with pytest.raises(NotAllowedError, match="not that of a person"):
        identity.describe_unidentified_author(PEOPLE)


def test_four_eyes_in_a_container_warn_that_they_are_meaningless(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("container", "podman")
    with caplog.at_level(logging.WARNING):
        identity.identify_person(PeopleConfig(four_eyes=True))
    assert "four_eyes is meaningless here" in caplog.text
    caplog.clear()
    monkeypatch.setenv(identity.TOKEN_VARIABLE, ANNA_TOKEN)
    identity.identify_person(PeopleConfig())
    identity.identify_person(PEOPLE)
    assert not caplog.records


def test_stage_does_not_depend_on_the_people_who_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(identity.TOKEN_VARIABLE, ANNA_TOKEN)
    read_before = set(dependencies.settings_read)
    identity.identify_author(PEOPLE)
    assert set(dependencies.settings_read) == read_before


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"identity": "token"}, "there is no token"),
        ({"tokens": {"anna": identity.hash_person_token("a")}}, "no effect"),
        ({"identity": "token", "tokens": {"anna": "in clear"}}, "mlops people token anna"),
        (
            {
                "identity": "token",
                "tokens": dict.fromkeys(["anna", "ben"], identity.hash_person_token("a")),
            },
            "the same token",
        ),
    ],
)
def test_invalid_identity_settings_are_errors(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        PeopleConfig.model_validate(settings)


def test_token_is_random_and_its_hash_identifies_the_owner() -> None:
    first, second = identity.create_token(), identity.create_token()
    assert first != second
    assert len(first) >= 32
    people = PeopleConfig(identity="token", tokens={"anna": identity.hash_person_token(first)})
    assert identity.find_token_owner(people, first) == "anna"
    assert identity.find_token_owner(people, second) == ""
