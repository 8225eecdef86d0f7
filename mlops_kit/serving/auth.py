"""Access control of the prediction service.

Without a token the service answers requests of this machine only; requests from other machines
need the token. A page of another site can neither send requests on behalf of a visitor (the
``Origin`` header is checked) nor have its own host name resolve to this machine (the ``Host``
header is checked). The token is read from an environment variable and compared by its hash in
constant time; it is never written anywhere. A browser, which sends no such header by itself, is
asked for the token as a password; that opens the documentation only, because a browser sends a
password also with what other sites make it request.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import NamedTuple
from urllib.parse import urlsplit

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.network import is_loopback
from mlops_kit.project.config.services import ServeConfig

with import_from_extra("serve"):
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Receive, Scope, Send

_MIN_TOKEN_CHARACTERS = 16
_UNAUTHENTICATED_PREFIX = "/health/"  # called by whatever starts and stops servers
_DOCUMENTATION_PREFIXES = ("/docs", "/openapi.json", "/static-offline-docs/")
_BASIC_CHALLENGE = 'Basic realm="documentation: any name, the token as password"'
_LOCAL_HOSTNAMES = ("localhost", "127.0.0.1", "::1")
_MAX_QUOTED_CHARACTERS = 100  # of a header in an error message


class AccessDenial(NamedTuple):
    """Why a request is refused."""

    status: int
    message: str
    challenge: str = ""


def hash_token(token: str) -> bytes:
    """Return the digest that is kept instead of a token."""
    return hashlib.sha256(token.encode()).digest()


def load_token_digest(serve: ServeConfig) -> bytes | None:
    """Return the digest of the configured token, or None if none is configured.

    Raises
    ------
    KitError
        If the environment variable is not set, its value is too short, or the address can be
        reached from other machines and no token is configured.
    """
    variable = serve.token_env
    if not variable:
        if is_loopback(serve.host):
            return None
        raise KitError(
            f"serve.host {serve.host!r} is reachable from other machines, but no token is set",
            "an address of this machine only, or a token",
            "set 'serve.token_env' to the name of an environment variable that holds a token",
        )
    token = os.environ.get(variable, "")
    if len(token) < _MIN_TOKEN_CHARACTERS:
        problem = "is too short" if token else "is not set"
        raise KitError(
            f"the token in the environment variable {variable!r} {problem}",
            f"at least {_MIN_TOKEN_CHARACTERS} characters",
            f"export {variable}=$(openssl rand -hex 24)",
        )
    return hash_token(token)


class AuthMiddleware:
    """ASGI middleware that answers 401, 403 or 421 to requests that are not allowed.

    Parameters
    ----------
    app : ASGI application
        The application behind the middleware.
    token_digest : bytes or None
        Digest of the token that requests must carry; None to allow this machine only.
    host : str
        The address that the server listens on.
    """

    def __init__(self, app: ASGIApp, token_digest: bytes | None, host: str) -> None:
        self.app = app
        self.token_digest = token_digest
        self.allowed_hosts = {*_LOCAL_HOSTNAMES, host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on."""
        denial = self.find_denial(scope) if scope["type"] == "http" else None
        if denial is None:
            await self.app(scope, receive, send)
            return
        headers = {"www-authenticate": denial.challenge} if denial.challenge else None
        response = JSONResponse({"error": denial.message}, denial.status, headers)
        await response(scope, receive, send)

    def find_denial(self, scope: Scope) -> AccessDenial | None:
        """Return why a request is refused; None if it is allowed."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if self.token_digest is None:
            return self._check_local_request(headers)
        if get_route_path(scope).startswith(_UNAUTHENTICATED_PREFIX):
            return None
        is_documentation = get_route_path(scope).startswith(_DOCUMENTATION_PREFIXES)
        authorization = headers.get(b"authorization", b"")
        if has_valid_token(authorization, self.token_digest):
            return None
        if is_documentation and _has_valid_password(authorization, self.token_digest):
            return None
        return AccessDenial(
            401,
            "a token is required; expected the header 'Authorization: Bearer <token>'",
            challenge=_BASIC_CHALLENGE if is_documentation else "Bearer",
        )

    def _check_local_request(self, headers: dict[bytes, bytes]) -> AccessDenial | None:
        """Refuse host names of other machines, and requests sent by pages of other sites."""
        host = headers.get(b"host", b"").decode("latin-1")
        if _parse_hostname(host) not in self.allowed_hosts:
            return AccessDenial(
                421,
                f"the host {host[:_MAX_QUOTED_CHARACTERS]!r} is not this server; "
                "expected localhost or 127.0.0.1",
            )
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and urlsplit(origin).netloc != host:
            return AccessDenial(
                403,
                f"requests from pages of {origin[:_MAX_QUOTED_CHARACTERS]!r} are not allowed; "
                "expected a page of this server, or a program",
            )
        return None


def has_valid_token(authorization: bytes, token_digest: bytes) -> bool:
    """Return whether an ``Authorization`` header carries the token."""
    scheme, _, token = authorization.partition(b" ")
    return _is_token(token.strip(), token_digest) and scheme.lower() == b"bearer"


def _has_valid_password(authorization: bytes, token_digest: bytes) -> bool:
    """Return whether an ``Authorization`` header carries the token as a password."""
    scheme, _, credentials = authorization.partition(b" ")
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        return False
    _, _, password = decoded.partition(b":")
    return _is_token(password, token_digest) and scheme.lower() == b"basic"


def _is_token(candidate: bytes, token_digest: bytes) -> bool:
    """Compare with the token in constant time."""
    return hmac.compare_digest(hashlib.sha256(candidate).digest(), token_digest)


def get_route_path(scope: Scope) -> str:
    """Return the path of a request without its ``root_path``, if it begins with that."""
    path: str = scope["path"]
    root_path: str = scope.get("root_path", "")
    if root_path and path.startswith(f"{root_path}/"):
        return path.removeprefix(root_path)
    return path


def _parse_hostname(host: str) -> str:
    """Return the name in a ``Host`` header without its port; empty if it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
