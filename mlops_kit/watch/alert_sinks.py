"""Alert sinks: how word of an incident is passed on.

A sink is a function of this package or of a plugin, or an Apprise URL
(``mlops_kit.watch.apprise_sink``). ``mlops_kit.watch.alert_queue`` decides what a sink is told, and
``mlops_kit.watch.alert_delivery`` sends it, again and again until it succeeds.

To add a sink, in the package or in a plugin of a project: decorate a function ``(Alert) -> None``
with ``@register_alert_sink(name)``, and add the name to ``alerts.sinks``. It raises an error if it
could not send the alert, and has ``SINK_TIMEOUT_SECONDS`` for one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import BinaryIO

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.project.loader import Project
from mlops_kit.project.secrets import make_scrubber
from mlops_kit.watch.alert_message import Alert
from mlops_kit.watch.apprise_sink import send_to_service
from mlops_kit.watch.time_limits import call_with_time_limit

_MAX_ERROR_CHARACTERS = 500
_MAX_COMPARED_BYTES = 100_000  # at the end of the file, where an alert would be that is sent again
SINK_TIMEOUT_SECONDS = 30.0

_SinkFunction = Callable[[Alert], None]
ALERT_SINKS: ExtensionRegistry[_SinkFunction] = ExtensionRegistry(ExtensionKind.ALERT_SINK)


def register_alert_sink(name: str) -> Callable[[_SinkFunction], _SinkFunction]:
    """Register the decorated function as an alert sink.

    Parameters
    ----------
    name : str
        The name under ``alerts.sinks``.

    Examples
    --------
    >>> @register_alert_sink("standard_output")
    ... def print_alert(alert):
    ...     print(f"{alert.event}: {alert.title}")
    >>> "standard_output" in ALERT_SINKS
    True
    >>> del ALERT_SINKS["standard_output"]
    """
    return ALERT_SINKS.register(name)


@register_alert_sink("file")
def append_to_file(alert: Alert) -> None:
    """Append the alert to the project's file of alerts, as a line of JSON.

    One that is there already is not appended again: the process that appended it was killed before
    it noted so.
    """
    values = asdict(alert)
    for place in ("project_folder", "alerts_file"):
        del values[place]
    line = json.dumps(values, ensure_ascii=False, sort_keys=True)
    alert.alerts_file.parent.mkdir(parents=True, exist_ok=True)
    with alert.alerts_file.open("ab+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the monitor stage of a run may append as well
        newest_text = _read_newest_text(file)
        is_repeated = f"{line}\n".encode() in newest_text
        if alert.number and is_repeated:  # a test has no number
            return
        if newest_text and not newest_text.endswith(b"\n"):
            file.write(b"\n")  # a process was killed while it wrote
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _read_newest_text(file: BinaryIO) -> bytes:
    """Read the end of a file."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_COMPARED_BYTES))
    return file.read()


def call_sink(project: Project, name: str, alert: Alert) -> str:
    """Send an alert to a sink; return what went wrong, or an empty text."""
    url_env = project.config.alerts.sinks[name].url_env
    send: Callable[[], None]
    if url_env:
        send = partial(send_to_service, url_env, alert)
    else:
        try:
            send = partial(ALERT_SINKS[name], alert)
        except KitError as error:
            return error.message
    problem = call_with_time_limit(send, SINK_TIMEOUT_SECONDS)
    # Secrets are replaced first: a part of one, cut off at the end, would not be recognized.
    return make_scrubber(project)(problem)[:_MAX_ERROR_CHARACTERS]
