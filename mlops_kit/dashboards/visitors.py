"""What a visitor of a page asks for, as a kernel that was started beforehand learns it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import parse_qsl

from mlops_kit.core.extras import import_from_extra

_RECONNECT_SECONDS = 0.1


def read_query(rehearse: Callable[[], object]) -> dict[str, str]:
    """Read what the visitor's address asks for (``?version=8``).

    A kernel that was started beforehand waits here for its visitor. Before that it builds the page
    once for nobody, so that what is slow the first time is done.
    """
    if os.environ.get("VOILA_PREHEAT") != "True":
        return dict(parse_qsl(os.environ.get("QUERY_STRING", "")))
    with suppress(Exception):  # the visitor is shown what goes wrong
        rehearse()
    return dict(parse_qsl(_wait_for_visitor().get("QUERY_STRING", "")))


def _wait_for_visitor() -> dict[str, str]:
    """Wait until the server sends a visitor, and return what it tells about the request.

    Does what ``voila.utils.wait_for_request`` does: importing that takes a second of every kernel,
    and it gives up if the server is not ready.
    """
    with import_from_extra("dashboards"):
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

    address_template = (
        "ws://127.0.0.1:{VOILA_APP_PORT}{VOILA_SERVER_URL}voila/query/{VOILA_KERNEL_ID}"
    )
    address = address_template.format(**os.environ)
    while True:
        with suppress(OSError, WebSocketException), connect(address, proxy=None) as connection:
            request: dict[str, str] = json.loads(connection.recv())
            return request
        time.sleep(_RECONNECT_SECONDS)
