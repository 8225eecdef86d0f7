"""Who is at the pages in the tests: whoever a header names, as behind a proxy with a log-in."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User


class HeaderIdentityProvider(IdentityProvider):  # type: ignore[misc]
    """Identifies the person whom the header names; nobody without it."""

    def get_user(self, handler: Any) -> User | None:
        """Return the person whom the header names."""
        name = handler.request.headers.get("X-User")
        return User(name) if name else None
