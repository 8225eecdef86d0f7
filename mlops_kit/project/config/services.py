"""Settings of the endpoint, the dashboards and the people who decide."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, NameList


class ServeConfig(ConfigSection):
    """The REST endpoint; without a token it is available on this machine only."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; other than loopback it requires a token"
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="Port to listen on; 0: any free port",
    )
    token_env: str = Field(
        "", description="Name of the environment variable with the token; empty: no token"
    )
    max_rows: int = Field(5000, ge=1, description="Maximum number of rows per request")
    max_waiting_requests: int = Field(
        512, ge=1, description="Maximum number of waiting requests; further ones are refused (429)"
    )
    max_batch_rows: int = Field(
        256, ge=1, description="Maximum number of rows that are scored together"
    )
    champion_check_interval: Duration = Field(
        timedelta(seconds=2), description="How often to check for a newly promoted version"
    )
    history_refresh_interval: Duration = Field(
        timedelta(minutes=1),
        description="How often the history from which features are computed is read again",
    )


class DashboardConfig(ConfigSection):
    """The dashboards; without token and identity provider they are available here only."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; other than loopback it requires a token or an identity "
        "provider",
    )
    port: int = Field(
        8866,
        ge=0,
        le=65535,
        description="Port to listen on; 0: any free port",
    )
    token_env: str = Field(
        "",
        description="Name of the environment variable with a shared token, which gives access but "
        "identifies nobody; empty: no token",
    )
    identity_provider: str = Field(
        "",
        description="Class (package.module.Class) of a jupyter_server IdentityProvider; empty: "
        "the user of this machine",
    )
    ready_kernels: int = Field(
        2,
        ge=1,
        description="Preheated kernels per page; this many visitors at once do not wait (about "
        "160 MB each)",
    )


class PeopleConfig(ConfigSection):
    """Who may decide; names are those of the operating system's users."""

    approvers: NameList = Field(
        default_factory=list, description="Who may approve or reject a version; empty: everybody"
    )
    operators: NameList = Field(
        default_factory=list, description="Who may roll back; empty: everybody"
    )
    four_eyes: bool = Field(False, description="The author of a version may not approve it")
