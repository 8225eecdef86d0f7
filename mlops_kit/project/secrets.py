"""Secrets."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

_VARIABLE_PATTERN = re.compile(r"\$\{?(\w+)")
_URL_PATTERN = re.compile(
    r"[\w.+-]+://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?[^?]*(?:\?(?P<query>.*))?", re.S
)
_SECRET_PARAMETER_PATTERN = re.compile(
    "pass|pwd|secret|token|key|sig", re.I
)  # in the name of a URL's parameter
MIN_SECRET_CHARACTERS = (
    4  # characters of a value that is hidden; a shorter one would take words apart
)


def _list_connection_urls(config: ProjectConfig) -> dict[str, str]:
    """The settings that may be URLs, as they were written."""
    asked = {
        "source": config.source,
        "labels": config.labels.source if config.labels else "",
        "database": config.database,
        "tracking": config.tracking,
    }
    return {
        key: value.url if isinstance(value, QuerySource) else value for key, value in asked.items()
    }


def list_secret_variables(project: Project) -> list[str]:
    """The environment variables that the project takes values from: secrets, tokens, parts of URLs."""
    config = project.config
    inside = [
        name
        for url in _list_connection_urls(config).values()
        for name in _VARIABLE_PATTERN.findall(url)
    ]
    return list(
        dict.fromkeys(
            filter(
                None, [*config.secrets, config.serve.token_env, config.dashboard.token_env, *inside]
            )
        )
    )


def find_url_secrets(url: str) -> list[str]:
    """What of a URL is secret: its password, or who asks if there is none; such parameters; all of one that is a variable.

    >>> private("postgresql://${WHO}:${PW}@db/x?sslpassword=a"), private("${URL}"), private("reports/x.csv")
    (['${PW}', 'a'], ['${URL}'], [])
    """
    found = _URL_PATTERN.fullmatch(url)
    if found is None:
        return [url] if re.fullmatch(r"\$\{?\w+\}?", url) else []
    parameters = [
        value
        for name, value in parse_qsl(found["query"] or "")
        if _SECRET_PARAMETER_PATTERN.search(name)
    ]
    return [
        *filter(
            None, [found["password"] or (found["user"] if "$" in (found["user"] or "") else "")]
        ),
        *parameters,
    ]


def iterate_secrets(project: Project) -> Iterator[tuple[str, str]]:
    """Name and value of each secret; a URL's own password goes by the name of its setting."""
    config = project.config
    for name in (*config.secrets, config.serve.token_env, config.dashboard.token_env):
        yield name, os.environ.get(name, "")
    for key, url in _list_connection_urls(config).items():
        for name in _VARIABLE_PATTERN.findall(" ".join(find_url_secrets(url))):
            yield name, os.environ.get(name, "")
        for part in find_url_secrets(os.path.expandvars(url)):
            yield from ((key, part), (key, unquote(part)))


def _encode_secret_forms(value: str) -> set[str]:
    """A value as it may stand in text: plain, in a URL, in Python's quotes, in HTML; and each of these in JSON."""
    found = {
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        repr(value)[1:-1],
        html.escape(value),
    }
    return found | {
        json.dumps(form, ensure_ascii=plain)[1:-1] for form in found for plain in (True, False)
    }


def make_scrubber(project: Project) -> Callable[[str], str]:
    """A function that puts ``•••NAME•••`` where the value of a secret stands in a text, however it is written there.

    Secrets are the variables under ``secrets`` of ``mlops.yaml``, those of the tokens, and passwords in
    the URLs of source, labels, database and tracking. A value of fewer than four characters is left.
    """
    known: dict[str, str] = {}
    for name, value in iterate_secrets(project):
        for form in (
            _encode_secret_forms(value.strip())
            if len(value.strip()) >= MIN_SECRET_CHARACTERS
            else ()
        ):
            known.setdefault(form, name)
    if not known:
        return str
    pattern = re.compile("|".join(map(re.escape, sorted(known, key=len, reverse=True))))
    return lambda text: pattern.sub(lambda found: f"•••{known[found[0]]}•••", text)


def scrub_text_values(value: Any, scrub: Callable[[str], str]) -> Any:
    """Plain values with all text scrubbed but names and kinds of things."""
    if isinstance(value, dict):
        return {
            k: v if k.endswith("_type") else scrub_text_values(v, scrub) for k, v in value.items()
        }
    if isinstance(value, list):
        return [scrub_text_values(v, scrub) for v in value]
    return scrub(value) if isinstance(value, str) else value
