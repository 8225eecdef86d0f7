"""Alerts by Apprise: mail, chat, webhooks and a hundred other services behind one URL.

The URL comes from an environment variable and is never stored or shown: neither it nor a part of
it stays in an error message.
"""

from __future__ import annotations

import os
from datetime import datetime

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.secrets import remove_url_parts
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.watch.alert_message import Alert, AlertEvent

_LOG_FORMAT = "%(message)s"


def send_to_service(url_env: str, alert: Alert) -> None:
    """Send an alert to the service whose Apprise URL an environment variable has.

    Raises
    ------
    KitError
        If the variable is not set or has no Apprise URL.
    MissingExtraError
        If Apprise is not installed.
    RunFailedError
        If the service did not take the alert; with what Apprise logged, without the URL.
    """
    url = os.environ.get(url_env, "").strip()
    if not url:
        raise KitError(
            f"the environment variable {url_env} is not set",
            "an Apprise URL, such as mailto://user:password@example.com",
            f"set {url_env} where the watch runs",
        )
    with import_from_extra("alerts"):
        import apprise
    service = apprise.Apprise()
    # Apprise logs why it did not send, and says so nowhere else.
    with apprise.LogCapture(level=apprise.logging.WARNING, fmt=_LOG_FORMAT) as log:
        if not service.add(url):
            raise KitError(
                f"the environment variable {url_env} has no URL that Apprise knows",
                "an Apprise URL, such as mailto://user:password@example.com",
                "see https://github.com/caronc/apprise/wiki",
            )
        was_sent = service.notify(
            title=format_title(alert),
            body=format_body(alert),
            notify_type=_choose_notify_type(alert),
            body_format=apprise.NotifyFormat.TEXT,
        )
        reason = " ".join(log.getvalue().split())
    if not was_sent:
        raise RunFailedError(remove_url_parts(reason, url) or "the service did not take the alert")


def format_title(alert: Alert) -> str:
    """Format the title of a message: the model, what happened, and to what."""
    if alert.event == AlertEvent.CLOSED:
        return f"[{alert.model}] closed: {alert.title}"
    severity = IncidentSeverity(alert.severity).display_name
    if alert.event in {AlertEvent.DIGEST, AlertEvent.TEST}:
        return f"[{alert.model}] {alert.title}"
    return f"[{alert.model}] {severity}, {alert.event}: {alert.title}"


def format_body(alert: Alert) -> str:
    """Format the text of a message: the sentence, the numbers, the time and the page."""
    lines = [alert.sentence, ""]
    time = datetime.fromisoformat(alert.time)
    reference = f"{time:%Y-%m-%d %H:%M} UTC"
    if alert.incident:
        reference += f", incident {alert.incident}"
    if alert.number:
        reference += f", alert {alert.number}"
    lines.append(reference)
    if alert.incident and alert.event != AlertEvent.CLOSED:
        lines.append(f'mlops alerts acknowledge {alert.incident} --reason "…"')
    if alert.link:
        lines.append(alert.link)
    return "\n".join(lines)


def _choose_notify_type(alert: Alert) -> str:
    """Choose the icon and color that services show with a message."""
    if alert.event == AlertEvent.CLOSED:
        return "success"
    if alert.event == AlertEvent.TEST:
        return "info"
    return "failure" if alert.severity == IncidentSeverity.CRITICAL else "warning"
