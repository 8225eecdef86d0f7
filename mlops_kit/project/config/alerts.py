"""Settings of alerts: who is told of incidents, how soon and how often."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, field_validator

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration

ALERT_SINK_NAMES = ("file",)


class AlertSinkConfig(ConfigSection):
    """Where alerts are sent, and which of them."""

    url_env: str = Field(
        "",
        description="Name of the environment variable with the Apprise URL of a service, such as "
        "mailto://, slack:// or json://; empty: the sink of this name, file or one of a plugin",
    )
    min_severity: Literal["warning", "critical"] = Field(
        "warning", description="Severity from which the sink is told of an incident"
    )
    digest: Duration | None = Field(
        None,
        description="How long warnings may wait to be sent in one message; a critical alert is "
        "sent at once, with those that wait. null: each alert is a message",
    )
    escalate_after: Duration | None = Field(
        None,
        description="Tell the sink only of incidents that have been open this long without being "
        "acknowledged; null: of all",
    )


# What ``alerts.sinks`` may be in mlops.yaml; validation makes sinks with settings of it.
_SinksInFile = dict[str, AlertSinkConfig | None] | list[str] | str


class AlertsConfig(ConfigSection):
    """Who is told of incidents.

    A sink is told when an incident opens and when it is closed, and at most twice in between.
    """

    sinks: dict[str, AlertSinkConfig] = Field(
        default_factory=dict,
        description="Who is told, by name: file, a sink of a plugin, or any name with a url_env. "
        "A list of names is short for sinks without settings",
    )
    cooldown: Duration = Field(
        timedelta(days=1),
        description="Minimum time between two messages to a sink about the same signal; that an "
        "incident became critical, or is over, is sent at once",
    )

    @field_validator("sinks", mode="before", json_schema_input_type=_SinksInFile)
    @classmethod
    def accept_names(cls, value: Any) -> Any:
        """Accept a name or a list of names, and a name without settings."""
        names = [value] if isinstance(value, str) else value
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return {name: {} for name in names}
        if isinstance(names, dict):
            return {name: {} if sink is None else sink for name, sink in names.items()}
        return value
