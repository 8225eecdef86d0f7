"""Heartbeats: a GET to ``watch.heartbeat_url`` for each pass, so that silence is noticed.

A service such as healthchecks.io raises an alarm if the address is not called in time. As that
service expects, ``/start`` is appended before a pass and ``/fail`` after one that failed.
"""

from __future__ import annotations

import os
import urllib.request
from enum import StrEnum
from functools import partial
from urllib.parse import urlsplit

from mlops_kit.core.errors import KitError
from mlops_kit.project.loader import Project
from mlops_kit.project.secrets import remove_url_parts
from mlops_kit.watch.time_limits import call_with_time_limit

HEARTBEAT_TIMEOUT_SECONDS = 10.0


class Heartbeat(StrEnum):
    """What a heartbeat says, as the end of the address's path."""

    START = "/start"
    SUCCESS = ""
    FAILURE = "/fail"


def build_heartbeat_url(url: str, heartbeat: Heartbeat) -> str:
    """Build the address of a heartbeat.

    >>> build_heartbeat_url("https://hc-ping.com/3f2a?rid=1", Heartbeat.FAILURE)
    'https://hc-ping.com/3f2a/fail?rid=1'

    Raises
    ------
    KitError
        If the URL is not one of HTTP, such as a variable that is not set.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # such as an incomplete IPv6 address
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"}:
        raise KitError(
            "watch.heartbeat_url is not an address",
            "https://…, or ${NAME} of an environment variable that has one",
            "set the variable where the watch runs, or edit mlops.yaml",
        )
    return parts._replace(path=f"{parts.path.rstrip('/')}{heartbeat}").geturl()


def send_heartbeat(project: Project, heartbeat: Heartbeat) -> str:
    """Send a heartbeat; return what went wrong, or an empty text. It never raises an error."""
    setting = project.config.watch.heartbeat_url
    if not setting:
        return ""
    address = os.path.expandvars(setting)
    try:
        url = build_heartbeat_url(address, heartbeat)
    except KitError as error:
        return error.message
    # A name server that does not answer would hold up the watch: the time limit covers it.
    problem = call_with_time_limit(partial(_request_url, url), HEARTBEAT_TIMEOUT_SECONDS)
    return remove_url_parts(problem, address)


def _request_url(url: str) -> None:
    with urllib.request.urlopen(url, timeout=HEARTBEAT_TIMEOUT_SECONDS):  # noqa: S310 - the scheme is checked
        return
