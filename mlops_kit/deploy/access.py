"""Who may ask the endpoint: this machine without a token; from elsewhere only whoever has it.

A page of another site can neither ask in a visitor's name (``Origin``) nor make its own name stand for
this machine (``Host``). The token stands in an environment variable and is compared by its hash, in
constant time; it is never written anywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Scope

from mlops_kit.config import Serve
from mlops_kit.errors import KitError

LEAST = 16  # characters of a token
OPEN = "/health/"  # asked by what starts and stops servers
HERE = ("localhost", "127.0.0.1", "::1")


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def digest(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).digest()


def secret(serve: Serve) -> bytes | None:
    """The digest of the token that ``serve.token`` names, or None if none is asked for.

    Raises
    ------
    KitError
        If the variable is empty or its value too short, or an address that others reach has no token.
    """
    if not serve.token:
        if not loopback(serve.host):
            raise KitError(
                f"serve.host {serve.host!r} is open to others and no token is set",
                "an address of this machine only, or a token",
                "set 'serve.token' to the name of an environment variable that holds one",
            )
        return None
    value = os.environ.get(serve.token, "")
    if len(value) < LEAST:
        problem = "is too short" if value else "is not set"
        raise KitError(
            f"the token in the environment variable {serve.token!r} {problem}",
            f"at least {LEAST} characters",
            f"export {serve.token}=$(openssl rand -hex 24)",
        )
    return digest(value)


class Access:
    """ASGI in front of the application: refuses who may not ask, in words."""

    def __init__(self, app: ASGIApp, expected: bytes | None, host: str) -> None:
        self.app, self.expected = app, expected
        self.hosts = {*HERE, host} if expected is None else None

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and (refused := self.refusal(scope)):
            status, words = refused
            await JSONResponse(
                {"error": words}, status, {"www-authenticate": "Bearer"} if status == 401 else None
            )(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Why a request is refused: status and words; None if it is not."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self.expected is None:
            return self.elsewhere(headers)
        if scope["path"].startswith(OPEN) or self.known(headers.get(b"authorization", b"")):
            return None
        return 401, "a token is needed; expected the header 'Authorization: Bearer …' with it"

    def elsewhere(self, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Refuse a name that is not this machine's, and pages of other sites."""
        host = headers.get(b"host", b"").decode("latin-1")
        if named(host) not in (self.hosts or ()):
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

    def known(self, header: bytes) -> bool:
        """Whether a header carries the token."""
        scheme, _, value = header.partition(b" ")
        return (
            hmac.compare_digest(hashlib.sha256(value.strip()).digest(), self.expected or b"")
            and scheme.lower() == b"bearer"
        )


def named(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
