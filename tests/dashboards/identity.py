"""Who is at the pages in the tests: whoever a header names, as a proxy would that people log in to."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User


class Named(IdentityProvider):  # type: ignore[misc]
    """The person whom the header names; nobody without it."""

    def get_user(self, handler: Any) -> User | None:
        """The header's name, and nothing else."""
        name = handler.request.headers.get("X-User")
        return User(name) if name else None
