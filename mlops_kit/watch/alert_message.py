"""What an alert sink is told."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mlops_kit.project.config.services import DashboardConfig

_MONITORING_PAGE = "monitoring"


class AlertEvent(StrEnum):
    """What an alert tells of."""

    OPENED = "opened"
    WORSENED = "worsened"
    CONTINUED = "continued"
    CLOSED = "closed"
    DIGEST = "digest"
    TEST = "test"


@dataclass(frozen=True)
class Alert:
    """What a sink is told.

    Attributes
    ----------
    number : int
        Number of the alert among all alerts of all sinks; the same if it is sent twice. That of
        the newest in a digest, 0 in a test.
    model : str
        The project's name.
    event : str
        ``opened``, ``worsened`` (it became critical), ``continued`` or ``closed``; ``digest`` for
        several alerts in one message, ``test`` for a test.
    signal : str
        The name of the incident's signal, such as ``drift``; empty in a digest.
    severity : str
        ``act`` (critical) or ``watch`` (a warning), the values of ``IncidentSeverity``; in a
        digest, the worst.
    title : str
        The title of the incident.
    sentence : str
        What is wrong; for a closed incident, why it was closed.
    time : str
        When it happened, in UTC.
    project_folder : Path
        The project.
    alerts_file : Path
        The file under ``monitor.alerts_file``.
    incident : int
        Number of the incident; 0 in a digest or a test.
    link : str
        Address of the monitoring page; empty if ``dashboard.base_url`` has no host name.
    """

    number: int
    model: str
    event: str
    signal: str
    severity: str
    title: str
    sentence: str
    time: str
    project_folder: Path
    alerts_file: Path
    incident: int = 0
    link: str = ""


def get_page_link(dashboard: DashboardConfig) -> str:
    """Return the address of the monitoring page; empty if visitors' host name is not known.

    >>> get_page_link(DashboardConfig(base_url="https://host/churn/"))
    'https://host/churn/monitoring'
    """
    return f"{dashboard.base_url}{_MONITORING_PAGE}" if dashboard.public_hostname else ""
