"""Memory of processes: what a kernel uses, what it may use, and whether the system killed one.

Limits are those of the control group (version 1 or 2) in which this process runs, if any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_CGROUP_V1_MEMORY_ROOT = _CGROUP_ROOT / "memory"
_BYTES_PER_MIB = 2**20
_BYTES_PER_GIB = 2**30


def format_memory(size: int) -> str:
    """Format a number of bytes.

    >>> format_memory(3 * 2**30), format_memory(5 * 2**20)
    ('3.0 GiB', '5 MiB')
    """
    if size >= _BYTES_PER_GIB:
        return f"{size / _BYTES_PER_GIB:.1f} GiB"
    return f"{size / _BYTES_PER_MIB:.0f} MiB"


def measure_own_memory(pid: int) -> int:
    """Measure the resident memory of a process without its descendants, in bytes; 0 if it ended."""
    with suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def measure_resident_memory(pid: int) -> int:
    """Measure the resident memory of a process and its descendants, in bytes."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def get_memory_limit() -> int:
    """Return how many bytes this process may use.

    That is the limit of its control group or the memory of the machine, whichever is less.
    """
    machine_memory = int(psutil.virtual_memory().total)
    group_limit = _read_cgroup_file("memory.max", "memory.limit_in_bytes")
    if not group_limit.isdecimal():  # "max", or no control group
        return machine_memory
    return min(int(group_limit), machine_memory)


def count_oom_kills() -> int:
    """Count the processes of this control group that were killed because memory ran out."""
    events = _read_cgroup_file("memory.events", "memory.oom_control")
    match = re.search(r"^oom_kill (\d+)", events, re.M)
    return int(match[1]) if match else 0


def _read_cgroup_file(version_2_name: str, version_1_name: str) -> str:
    """Read a memory file of the control group of this process; empty where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers not in {"", "memory"}:
                continue
            for path in _list_cgroup_paths(controllers, group, version_2_name, version_1_name):
                if path.exists():
                    return path.read_text().strip()
    return ""


def _list_cgroup_paths(
    controllers: str, group: str, version_2_name: str, version_1_name: str
) -> Iterator[Path]:
    """List where a control group's file may be; a container may see its own group as the root."""
    root, name = _CGROUP_ROOT, version_2_name
    if controllers == "memory":
        root, name = _CGROUP_V1_MEMORY_ROOT, version_1_name
    yield root / group.lstrip("/") / name
    yield root / name
