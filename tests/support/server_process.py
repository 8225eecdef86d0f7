"""``mlops serve`` as a process, and requests to it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.environment import make_clean_environment

MODULE_LAUNCHER = (sys.executable, "-m", "mlops_kit.cli")


class ServerProcess:
    """A server of a project in a process of its own, which can be stopped and started again.

    ``launcher`` is the command ``mlops``, of this environment unless another is given.
    """

    def __init__(self, home: Path, launcher: Sequence[str] = MODULE_LAUNCHER) -> None:
        self.home = home
        self.launcher = launcher
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [*self.launcher, "serve", "--project", str(self.home), "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=make_clean_environment(),
        )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+) ", self.first_line)
        if address is None:
            self.process.kill()
            raise AssertionError(f"the server did not start: {self.first_line!r}")
        self.port = int(address[1])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def stop(self, signal_number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(signal_number)
        code = self.process.wait(40)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def send(client: http.client.HTTPConnection, path: str, payload: Any = None) -> tuple[int, Any]:
    """Send a request; return status and content of the response."""
    if payload is None:
        client.request("GET", path)
    else:
        client.request("POST", path, json.dumps(payload))
    response = client.getresponse()
    return response.status, json.loads(response.read())
