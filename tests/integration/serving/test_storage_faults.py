"""A server under load whose database is locked, removed, or out of disk space.

Readiness tells the truth within a second, nothing acknowledged is lost, and service resumes by
itself.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.server_process import ServerProcess, send

MAX_READINESS_SECONDS = 1.0
MAX_REFUSAL_SECONDS = 2.0
MAX_RECOVERY_SECONDS = 10.0
FAULT_SECONDS = 2.0
CLIENTS = 2
MOUNT_BYTES = 8 * 2**20


class Load:
    """Clients that ask for predictions until they are stopped."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.acknowledged: list[str] = []
        self.refused = 0
        self.slowest_seconds = 0.0
        self.unexpected: list[Any] = []
        self._is_stopped = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        client = self.server.connect()
        position = 0
        while not self._is_stopped.is_set():
            request_id = f"client-{number}-{position}"
            row = {"k": position, "at": "2024-01-06T00:00", "a": 0.1, "b": 0.5}
            start = time.monotonic()
            status, body = send(client, "/predict", {"rows": [row], "request_id": request_id})
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - start)
            if status == 200:
                self.acknowledged.append(body["predictions"][0]["prediction_id"])
            elif status == 503:
                self.refused += 1
                time.sleep(0.02)
            else:
                self.unexpected.append(body)
            position += 1
        client.close()


@pytest.fixture
def home(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "home")


@contextmanager
def run_server(home: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(home)
    try:
        yield server
    finally:
        assert server.stop(signal.SIGTERM) == 0


def wait_for_readiness(server: ServerProcess, is_ready: bool, max_seconds: float) -> dict[str, Any]:
    """Wait until the server says that it is ready, or that it is not."""
    client = server.connect()
    deadline = time.monotonic() + max_seconds
    while True:
        asked_at = time.monotonic()
        status, body = send(client, "/health/ready")
        if (status == 200) is is_ready:
            client.close()
            return dict(body)
        assert asked_at < deadline, f"ready is still {not is_ready} after {max_seconds} s: {body}"
        time.sleep(0.02)


def assert_acknowledged_are_stored(database: Path, load: Load) -> None:
    with closing(sqlite3.connect(database)) as connection:
        stored = {row[0] for row in connection.execute("SELECT id FROM predictions")}
    assert load.acknowledged
    assert set(load.acknowledged) <= stored


def test_locked_database(home: Path) -> None:
    database = home / ".mlops" / "mlops.db"
    with run_server(home) as server:
        wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
        with Load(server) as load:
            with closing(sqlite3.connect(database, timeout=20)) as other:
                other.execute("BEGIN IMMEDIATE")
                body = wait_for_readiness(server, False, MAX_READINESS_SECONDS)
                assert "database is locked" in body["reason"]
                time.sleep(FAULT_SECONDS)  # the fault lasts
                other.rollback()
            wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
            count = len(load.acknowledged)
            wait_for_growth(load, count)
        assert load.refused
        assert not load.unexpected
        assert load.slowest_seconds < MAX_REFUSAL_SECONDS
        assert_acknowledged_are_stored(database, load)


def wait_for_growth(load: Load, count: int) -> None:
    """Wait until more requests than these were answered."""
    deadline = time.monotonic() + MAX_RECOVERY_SECONDS
    while len(load.acknowledged) <= count:
        assert time.monotonic() < deadline, "no request is answered any more"
        time.sleep(0.02)


def test_removed_and_restored_database(home: Path, tmp_path: Path) -> None:
    database = home / ".mlops" / "mlops.db"
    aside = tmp_path / "aside.db"
    with run_server(home) as server:
        wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
        with Load(server) as load:
            wait_for_growth(load, 5)
            database.rename(aside)
            body = wait_for_readiness(server, False, MAX_READINESS_SECONDS)
            assert "removed" in body["reason"]
            time.sleep(FAULT_SECONDS)  # the fault lasts
            assert not database.exists()  # nobody begins an empty one
            aside.rename(database)
            wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
            wait_for_growth(load, len(load.acknowledged))
        assert load.refused
        assert not load.unexpected
        assert_acknowledged_are_stored(database, load)


@contextmanager
def mount_small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system in memory; skips the test where that is not allowed."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={MOUNT_BYTES}", "tmpfs", str(folder)]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted here ({error}): a full disk was not tested")
    if completed.returncode != 0:
        pytest.skip(
            f"no file system can be mounted here: a full disk was not tested "
            f"({completed.stderr.strip()})"
        )
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def test_full_disk(original: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    folder = home / ".mlops"
    folder.mkdir(parents=True)
    with mount_small_disk(folder):
        shutil.copytree(original, home, dirs_exist_ok=True)
        fill_disk, free_disk = make_filler(folder)
        with run_server(home) as server:
            wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
            with Load(server) as load:
                wait_for_growth(load, 5)
                fill_disk()
                body = wait_for_readiness(server, False, MAX_READINESS_SECONDS)
                assert "full" in body["reason"]
                time.sleep(FAULT_SECONDS)  # the fault lasts
                free_disk()
                wait_for_readiness(server, True, MAX_RECOVERY_SECONDS)
                wait_for_growth(load, len(load.acknowledged))
            assert load.refused
            assert not load.unexpected
            assert_acknowledged_are_stored(folder / "mlops.db", load)


def make_filler(folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make functions that fill the disk of a folder, and free it again."""
    filler = folder / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as opened:
            try:
                while True:
                    opened.write(bytes(4096))
            except OSError:  # no space is left
                return

    return fill, filler.unlink
