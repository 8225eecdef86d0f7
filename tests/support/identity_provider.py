"""Who is at the pages in the tests: the person whom a header or a cookie names.

A proxy with a log-in sends such a header with every request. Chromium does not send extra headers
when it opens a WebSocket, so the browser tests also set a cookie.
"""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User


class HeaderIdentityProvider(IdentityProvider):  # type: ignore[misc]
    """Identifies the person whom the header, or else the cookie, names; nobody without either."""

    def get_user(self, handler: Any) -> User | None:
        """Return the person whom the header or the cookie names."""
        name = handler.request.headers.get("X-User") or handler.get_cookie("x-user")
        return User(name) if name else None
