"""Who may ask the endpoint: this machine without a token; from elsewhere only whoever has it.

A page of another site can neither ask in a visitor's name (``Origin``) nor make its own name stand for
this machine (``Host``). The token stands in an environment variable and is compared by its hash, in
constant time; it is never written anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Scope

from mlops_kit.core.errors import KitError
from mlops_kit.core.network import is_loopback
from mlops_kit.project.config.services import ServeConfig

_MIN_TOKEN_CHARACTERS = 16  # characters of a token
_UNAUTHENTICATED_PREFIX = "/health/"  # asked by what starts and stops servers
_LOCAL_HOSTNAMES = ("localhost", "127.0.0.1", "::1")


def hash_token(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def load_token_digest(serve: ServeConfig) -> bytes | None:
    """The digest of the token that ``serve.token`` names, or None if none is asked for.

    Raises
    ------
    KitError
        If the variable is empty or its value too short, or an address that others reach has no token.
    """
    if not serve.token_env:
        if not is_loopback(serve.host):
            raise KitError(
                f"serve.host {serve.host!r} is open to others and no token is set",
                "an address of this machine only, or a token",
                "set 'serve.token' to the name of an environment variable that holds one",
            )
        return None
    value = os.environ.get(serve.token_env, "")
    if len(value) < _MIN_TOKEN_CHARACTERS:
        problem = "is too short" if value else "is not set"
        raise KitError(
            f"the token in the environment variable {serve.token_env!r} {problem}",
            f"at least {_MIN_TOKEN_CHARACTERS} characters",
            f"export {serve.token_env}=$(openssl rand -hex 24)",
        )
    return hash_token(value)


class AuthMiddleware:
    """ASGI in front of the application: refuses who may not ask, in words."""

    def __init__(self, app: ASGIApp, expected: bytes | None, host: str) -> None:
        self.app, self.token_digest = app, expected
        self.allowed_hosts = {*_LOCAL_HOSTNAMES, host} if expected is None else None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (refused := self.find_refusal(scope)):
            status, words = refused
            await JSONResponse(
                {"error": words}, status, {"www-authenticate": "Bearer"} if status == 401 else None
            )(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def find_refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is refused: status and words; None if it is not."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self.token_digest is None:
            return self.check_local_request(headers)
        if scope["path"].startswith(_UNAUTHENTICATED_PREFIX) or self.has_valid_token(
            headers.get(b"authorization", b"")
        ):
            return None
        return 401, "a token is needed; expected the header 'Authorization: Bearer …' with it"

    def check_local_request(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Refuse a name that is not this machine's, and pages of other sites."""
        host = headers.get(b"host", b"").decode("latin-1")
        if _parse_hostname(host) not in (self.allowed_hosts or ()):
            return (
                421,
                f"the host {host[:100]!r} is not this server's; expected localhost or 127.0.0.1",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host:
            return (
                403,
                f"the page {origin[:100]!r} may not ask; expected a request of this server's own pages, or of a program",
            )
        return None

    def has_valid_token(self, header: bytes) -> bool:
        """Whether a header carries the token."""
        scheme, _, value = header.partition(b" ")
        return (
            hmac.compare_digest(hashlib.sha256(value.strip()).digest(), self.token_digest or b"")
            and scheme.lower() == b"bearer"
        )


def _parse_hostname(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
