"""Processes that see no others, as in a container of their own."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

import pytest

# Process 1 of a namespace with another host name; killing unshare kills it.
HOST_NAME = "other-container"
NEW_CONTAINER = (
    *("unshare", "--fork", "--pid", "--mount-proc", "--uts", "--kill-child"),
    *("sh", "-c", f'hostname {HOST_NAME} && exec "$@"', "sh"),
)


@cache
def can_create_containers() -> bool:
    """Whether the system allows to create namespaces."""
    if shutil.which("unshare") is None:
        return False
    completed = subprocess.run([*NEW_CONTAINER, "true"], capture_output=True, check=False)
    return completed.returncode == 0


needs_containers = pytest.mark.skipif(
    not can_create_containers(), reason="needs the permission to create namespaces"
)
