"""Services."""

from __future__ import annotations

from datetime import timedelta

from pydantic import (
    Field,
)

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, NameList


class ServeConfig(ConfigSection):
    """The endpoint. It answers this machine only, unless a token is set."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; any but this machine's own needs a token"
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any that is free")
    token_env: str = Field(
        "", description="Name of the environment variable that holds the token; empty: no token"
    )
    max_rows: int = Field(5000, ge=1, description="Most rows in one request")
    max_waiting_requests: int = Field(
        512, ge=1, description="Most requests that wait; more are turned away at once (429)"
    )
    max_batch_rows: int = Field(256, ge=1, description="Rows scored together at most")
    champion_check_interval: Duration = Field(
        timedelta(seconds=2), description="How often to look whether another version was promoted"
    )
    history_refresh_interval: Duration = Field(
        timedelta(minutes=1), description="How often the history behind the features is read again"
    )


class DashboardConfig(ConfigSection):
    """The dashboards. They answer this machine only, unless a token or an identity is set."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; any but this machine's own needs a token or an identity",
    )
    port: int = Field(8866, ge=0, le=65535, description="Port to listen on; 0: any that is free")
    token_env: str = Field(
        "",
        description="Name of the environment variable that holds a shared secret: a gate, which names nobody; empty: no token",
    )
    identity_provider: str = Field(
        "",
        description="Class (package.module.Class) of a jupyter_server IdentityProvider that says who is here; empty: this machine's user",
    )
    ready_kernels: int = Field(
        2,
        ge=1,
        description="Kernels kept ready for each page; as many visitors at once need not wait (about 100 MB each)",
    )


class PeopleConfig(ConfigSection):
    """Who may decide. Names are those of the system's users."""

    approvers: NameList = Field(
        default_factory=list, description="Who may approve or reject a version; empty: anybody"
    )
    operators: NameList = Field(
        default_factory=list, description="Who may go back to an earlier version; empty: anybody"
    )
    four_eyes: bool = Field(False, description="Whoever made a version may not approve it")
