"""Secrets of a project: where they are configured, and how they are removed from text.

Secrets are the environment variables under ``secrets`` of ``mlops.yaml``, those of the tokens and
of the alert URLs, and the passwords in the URLs of source, labels, database, tracking
and heartbeat.

To add a form in which a secret may be written: a line in ``_encode_secret_forms``.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from mlops_kit.project.config.data import QuerySource, get_file_location
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.identity import TOKEN_VARIABLE
from mlops_kit.project.loader import Project

MIN_SECRET_CHARACTERS = 4  # a shorter value would be found inside ordinary words
_MIN_URL_PART_CHARACTERS = 3
_VARIABLE_PATTERN = re.compile(r"\$\{?(\w+)")
_SINGLE_VARIABLE_PATTERN = re.compile(r"\$\{?\w+\}?")
_URL_PATTERN = re.compile(
    r"[\w.+-]+://(?:(?P<user>[^:/@]*)(?::(?P<password>[^@]*))?@)?[^?]*(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_SECRET_QUERY_NAME = re.compile("pass|pwd|secret|token|key|sig", re.IGNORECASE)

Scrubber = Callable[[str], str]


def _list_connection_urls(config: ProjectConfig) -> dict[str, str]:
    """Return the settings that may be URLs, as they were written, by name."""
    settings = {
        "source": config.source,
        "labels": config.labels.source if config.labels else "",
        "database": config.database,
        "tracking": config.tracking,
        "watch.heartbeat_url": config.watch.heartbeat_url,
    }
    urls = {}
    for name, value in settings.items():
        if isinstance(value, QuerySource):
            urls[name] = value.url
        else:
            urls[name] = get_file_location(value)
    return urls


def _list_declared_variables(config: ProjectConfig) -> list[str]:
    """Return the environment variables that are declared as secrets, tokens or alert URLs."""
    alert_urls = [sink.url_env for sink in config.alerts.sinks.values()]
    person_tokens = [TOKEN_VARIABLE] if config.people.tokens else []
    return [
        *config.secrets,
        config.serve.token_env,
        config.dashboard.token_env,
        *person_tokens,
        *alert_urls,
    ]


def list_secret_variables(project: Project) -> list[str]:
    """Return the environment variables from which the project takes secrets and parts of URLs."""
    names = _list_declared_variables(project.config)
    for url in _list_connection_urls(project.config).values():
        names += _VARIABLE_PATTERN.findall(url)
    return [name for name in dict.fromkeys(names) if name]


def find_url_secrets(url: str) -> list[str]:
    """Return the secret parts of a URL.

    These are the password (a user that is a variable, if there is no password) and query parameters
    with a telling name; the whole URL if it is a variable.

    Examples
    --------
    >>> find_url_secrets("postgresql://${WHO}:${PW}@db/x?sslpassword=a")
    ['${PW}', 'a']
    >>> find_url_secrets("${URL}")
    ['${URL}']
    >>> find_url_secrets("reports/x.csv")
    []
    """
    match = _URL_PATTERN.fullmatch(url)
    if match is None:
        return [url] if _SINGLE_VARIABLE_PATTERN.fullmatch(url) else []
    secrets = []
    user = match["user"] or ""
    if match["password"]:
        secrets.append(match["password"])
    elif "$" in user:
        secrets.append(user)
    for name, value in parse_qsl(match["query"] or ""):
        if _SECRET_QUERY_NAME.search(name):
            secrets.append(value)
    return secrets


def iterate_secrets(project: Project) -> Iterator[tuple[str, str]]:
    """Yield name and value of each secret; a password in a URL has the name of its setting."""
    for name in _list_declared_variables(project.config):
        yield name, os.environ.get(name, "")
    for sink in project.config.alerts.sinks.values():
        for value in find_url_secrets(os.environ.get(sink.url_env, "")):
            yield sink.url_env, value
            yield sink.url_env, unquote(value)
    for setting, url in _list_connection_urls(project.config).items():
        for name in _VARIABLE_PATTERN.findall(" ".join(find_url_secrets(url))):
            yield name, os.environ.get(name, "")
        for value in find_url_secrets(os.path.expandvars(url)):
            yield setting, value
            yield setting, unquote(value)


def _encode_secret_forms(value: str) -> set[str]:
    """Return how a value may be written: plain, in a URL, Python or HTML; each also in JSON."""
    forms = {
        value,
        quote(value),
        quote(value, safe=""),
        quote_plus(value),
        repr(value)[1:-1],
        html.escape(value),
    }
    for form in tuple(forms):
        forms.add(json.dumps(form, ensure_ascii=True)[1:-1])
        forms.add(json.dumps(form, ensure_ascii=False)[1:-1])
    return forms


def make_scrubber(project: Project) -> Scrubber:
    """Return a function that replaces secrets in a text by ``•••NAME•••``, in whatever form.

    Values of fewer than ``MIN_SECRET_CHARACTERS`` characters are not replaced.
    """
    name_by_form: dict[str, str] = {}
    for name, secret in iterate_secrets(project):
        value = secret.strip()
        if len(value) >= MIN_SECRET_CHARACTERS:
            for form in _encode_secret_forms(value):
                name_by_form.setdefault(form, name)
    if not name_by_form:
        return str
    # The longest first: one secret may be part of another.
    forms = sorted(
        name_by_form,
        key=len,
        reverse=True,
    )
    pattern = re.compile("|".join(map(re.escape, forms)))

    def replace_secret(match: re.Match[str]) -> str:
        return f"•••{name_by_form[match[0]]}•••"

    def scrub(text: str) -> str:
        return pattern.sub(replace_secret, text)

    return scrub


def scrub_text_values(value: Any, scrub: Scrubber) -> Any:
    """Return plain values with all text scrubbed.

    Dict keys stay, and values under keys that end in ``_type``: they name kinds of things.
    """
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [scrub_text_values(item, scrub) for item in value]
    if not isinstance(value, dict):
        return value
    scrubbed = {}
    for key, item in value.items():
        scrubbed[key] = item if key.endswith("_type") else scrub_text_values(item, scrub)
    return scrubbed


def remove_url_parts(text: str, url: str) -> str:
    """Remove whatever a text has in common with a URL: host, user, tokens.

    >>> remove_url_parts("no route to hooks.example with T0KEN", "slack://T0KEN@hooks.example/")
    'no route to ••• with •••'
    """
    _, _, address = url.partition("://")
    parts = sorted(set(re.split(r"[/:@?&=,\s]+", address)), key=len, reverse=True)
    for part in parts:
        if len(part) >= _MIN_URL_PART_CHARACTERS:
            text = text.replace(part, "•••")
    return text
