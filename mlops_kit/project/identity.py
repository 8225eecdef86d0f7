"""Who decides and who trains: the operating system's user, or the person whose token is presented.

The operating system knows a user id, which several people may share: in a container everybody is
usually ``root``. With ``people.identity: token`` each person has a token. ``mlops.yaml`` holds its
hash only, and the token itself is in the environment variable ``TOKEN_VARIABLE`` of the person's
commands. The dashboards ask for it, or identify people by ``dashboard.identity_provider``.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets

from mlops_kit.core.dependencies import settings_not_recorded
from mlops_kit.core.environment import get_user_name, is_container
from mlops_kit.core.errors import NotAllowedError
from mlops_kit.project.config.services import TOKEN_HASH_PREFIX, PeopleConfig

_logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "MLOPS_PERSON_TOKEN"  # noqa: S105 - the name of a variable
_TOKEN_BYTES = 24
_UNIDENTIFIED_PREFIX = "unidentified"
_TOKEN_HINT = f"set the environment variable {TOKEN_VARIABLE} to your token"


def create_token() -> str:
    """Create a token that cannot be guessed."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def hash_person_token(token: str) -> str:
    """Return the hash of a token as ``people.tokens`` holds it."""
    return TOKEN_HASH_PREFIX + hashlib.sha256(token.strip().encode()).hexdigest()


def find_token_owner(people: PeopleConfig, token: str) -> str:
    """Return the name of the person who has a token; empty if nobody has it."""
    token_hash = hash_person_token(token)
    owner = ""
    for name, known_hash in people.tokens.items():
        if hmac.compare_digest(token_hash, known_hash):
            owner = name
    return owner


def identify_person(people: PeopleConfig) -> str:
    """Return the name of the person who uses this process, for a decision that is recorded.

    Raises
    ------
    NotAllowedError
        If people are identified by tokens and this process has none, or an unknown one.
    """
    if people.identity == "token":
        owner = _find_owner_of_present_token(people)
        if owner:
            return owner
        raise NotAllowedError(
            "it is not known who decides: people.identity is token, and there is none",
            f"the token of one of: {', '.join(people.tokens)}",
            _TOKEN_HINT,
        )
    weakness = describe_identity_weakness(people)
    if weakness:
        _logger.warning("%s", weakness)
    return get_user_name()


def identify_author(people: PeopleConfig) -> str:
    """Return the name of the person who trains a model.

    Without a token the author is recorded as unidentified, with the operating system's user. The
    stage that asks does not depend on who may decide.

    Raises
    ------
    NotAllowedError
        If people are identified by tokens and this process has an unknown one.
    """
    with settings_not_recorded():
        if people.identity == "system":
            return get_user_name()
        owner = _find_owner_of_present_token(people)
    return owner or f"{_UNIDENTIFIED_PREFIX} ({get_user_name()})"


def is_identified(people: PeopleConfig, name: str) -> bool:
    """Return whether the name of an author is that of a person as ``people`` identifies them."""
    return people.identity == "system" or not name.startswith(_UNIDENTIFIED_PREFIX)


def _find_owner_of_present_token(people: PeopleConfig) -> str:
    """Return the owner of this process's token; empty without a token.

    Raises
    ------
    NotAllowedError
        If nobody has this token.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        return ""
    owner = find_token_owner(people, token)
    if owner:
        return owner
    raise NotAllowedError(
        f"the token in {TOKEN_VARIABLE} is not that of a person under people.tokens",
        f"the token of one of: {', '.join(people.tokens)}",
        f"{_TOKEN_HINT}; mlops people token NAME makes a new one",
    )


def describe_identity_weakness(people: PeopleConfig) -> str:
    """Describe why the operating system's user cannot tell people apart; empty if it can.

    Only where two people have to be told apart: with ``people.four_eyes``.
    """
    if not people.four_eyes or people.identity != "system" or not is_container():
        return ""
    return (
        "people.four_eyes is meaningless here: in a container, everybody who may run commands is "
        f"recorded as {get_user_name()!r}. Set people.identity: token, or decide on the "
        "dashboards with an identity provider"
    )


def describe_unidentified_author(people: PeopleConfig) -> str:
    """Describe what follows for a model that is trained now; empty if its author is known.

    Raises
    ------
    NotAllowedError
        If people are identified by tokens and this process has an unknown one.
    """
    author = identify_author(people)
    if not people.four_eyes or is_identified(people, author):
        return ""
    return (
        "the author of this run is not known, so that people.four_eyes will let nobody approve "
        f"its version: {_TOKEN_HINT}"
    )
