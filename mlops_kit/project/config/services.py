"""Settings of the endpoint, the dashboards and the people who decide."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, NameList

TOKEN_HASH_PREFIX = "sha256:"  # noqa: S105 - not a token
_TOKEN_HASH_PATTERN = re.compile(rf"{TOKEN_HASH_PREFIX}[0-9a-f]{{64}}")
_PATH_PREFIX_PATTERN = re.compile(r"(/[A-Za-z0-9._~-]+)*")


def _normalize_path_prefix(prefix: str) -> str:
    """Return the path in front of all addresses of a server without its final slash.

    Raises
    ------
    ValueError
        If it is not a path.
    """
    path = prefix.rstrip("/")
    if path and not path.startswith("/"):
        path = f"/{path}"
    if not _PATH_PREFIX_PATTERN.fullmatch(path) or "/.." in path:
        raise ValueError(f"{prefix!r} is not a path; expected one such as /churn")
    return path


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
    root_path: str = Field(
        "",
        description="Path under which a reverse proxy offers the endpoint, such as /churn-api; "
        "whether the proxy removes it or not",
    )

    @field_validator("root_path")
    @classmethod
    def normalize_root_path(cls, value: str) -> str:
        """Return the path without its final slash."""
        return _normalize_path_prefix(value)


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
    base_url: str = Field(
        "/",
        description="Path or address under which a reverse proxy offers the dashboards, such as "
        "/churn/ or https://host/churn/; whether the proxy removes the path or not. With a host "
        "name, requests for it are accepted, and a token or an identity provider is required",
    )

    @field_validator("base_url")
    @classmethod
    def normalize_base_url(cls, value: str) -> str:
        """Return the path or address with a final slash."""
        if "://" not in value:
            return f"{_normalize_path_prefix(value)}/"
        parts = urlsplit(value)
        is_address = parts.scheme in {"http", "https"} and parts.hostname
        if not is_address or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"{value!r} is not an address; expected https://host/path/")
        return f"{parts.scheme}://{parts.netloc}{_normalize_path_prefix(parts.path)}/"

    @property
    def base_path(self) -> str:
        """The path in front of all pages, with a slash at both ends."""
        return urlsplit(self.base_url).path

    @property
    def public_origin(self) -> str:
        """The scheme and host of the address that visitors use; empty if none is set."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

    @property
    def public_hostname(self) -> str:
        """The host name of the address that visitors use; empty if none is set."""
        return urlsplit(self.base_url).hostname or ""


class PeopleConfig(ConfigSection):
    """Who may decide; names are those of users, of tokens, or of the dashboards' provider."""

    identity: Literal["system", "token"] = Field(
        "system",
        description="What identifies people: system, the user id of the operating system; or "
        "token, a token for each person, where people share a user id",
    )
    tokens: dict[str, str] = Field(
        default_factory=dict,
        description="People with identity: token, each with the hash of their token: {NAME: "
        "sha256:...}; mlops people token NAME makes one",
    )
    approvers: NameList = Field(
        default_factory=list, description="Who may approve or reject a version; empty: everybody"
    )
    operators: NameList = Field(
        default_factory=list, description="Who may roll back; empty: everybody"
    )
    four_eyes: bool = Field(False, description="The author of a version may not approve it")

    @field_validator("tokens")
    @classmethod
    def check_token_hashes(cls, value: dict[str, str]) -> dict[str, str]:
        """Accept one hash for each person."""
        for name, token_hash in value.items():
            if not _TOKEN_HASH_PATTERN.fullmatch(token_hash):
                raise ValueError(
                    f"the value of {name!r} is not the hash of a token; "
                    f"expected the line that mlops people token {name} prints"
                )
        if len(set(value.values())) < len(value):
            raise ValueError("two people have the same token; expected one for each person")
        return value

    @model_validator(mode="after")
    def check_identity(self) -> PeopleConfig:
        """Refuse tokens that are not used, and an identity that nobody can have."""
        if self.identity == "token" and not self.tokens:
            raise ValueError(
                "identity: token, but there is no token; expected tokens: {NAME: sha256:...}, as "
                "mlops people token NAME prints them"
            )
        if self.identity == "system" and self.tokens:
            raise ValueError(
                "tokens have no effect with identity: system; expected identity: token"
            )
        return self
