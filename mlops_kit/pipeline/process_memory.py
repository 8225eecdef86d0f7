"""Process memory."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import psutil


def format_memory(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def measure_resident_memory(pid: int) -> int:
    """Resident memory of a process and what it has started, in bytes."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def get_memory_limit() -> int:
    """The memory that this process may use: the machine's, or its control group's where that is less."""
    limit, whole = (
        _read_cgroup_file("memory.max", "memory.limit_in_bytes"),
        int(psutil.virtual_memory().total),
    )
    return min(int(limit), whole) if limit.isdecimal() else whole


def count_oom_kills() -> int:
    """How many processes of this control group have been killed as memory ran out."""
    found = re.search(
        r"^oom_kill (\d+)", _read_cgroup_file("memory.events", "memory.oom_control"), re.M
    )
    return int(found[1]) if found else 0


def _read_cgroup_file(new: str, old: str) -> str:
    """What the control group that holds this process says in a file on memory, by its name in version 2 and in 1; empty where there is none."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, place = line.split(":", 2)
            folder, name = (
                (Path("/sys/fs/cgroup/memory"), old)
                if "memory" in kinds.split(",")
                else (Path("/sys/fs/cgroup"), new)
            )
            for file in (
                folder / place.lstrip("/") / name,
                folder / name,
            ):  # a container may see its own group as the root
                if kinds in {"", "memory"} and file.exists():
                    return file.read_text().strip()
    return ""
