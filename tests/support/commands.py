"""``mlops`` commands in the process of the tests, which has imported the libraries already.

A command that runs notebooks forks their kernels from a server that all tests of this process
share, so that it waits for no import. Tests of the process itself (its exit, its signals, what it
imports) start one of their own.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from mlops_kit.cli import application
from mlops_kit.pipeline import kernel_pool
from tests.support.environment import make_clean_environment


class CompletedCommand(NamedTuple):
    """How a command ended and what it printed."""

    returncode: int
    stdout: str
    stderr: str


RunMlops = Callable[..., CompletedCommand]


def run_in_process(
    *words: object,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> CompletedCommand:
    """Run a command of ``mlops`` in this process.

    Parameters
    ----------
    *words
        The command with its arguments.
    folder : Path, optional
        Where it is called.
    environment : mapping, optional
        The environment variables; by default those of the caller without settings.
    """
    stdout = io.StringIO()
    stderr = io.StringIO()
    code = 0
    with (
        contextlib.chdir(folder or Path.cwd()),
        mock.patch.dict(os.environ, environment or make_clean_environment(), clear=True),
        mock.patch.object(sys, "argv", ["mlops", *map(str, words)]),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            application.main()
        except SystemExit as exited:
            code = int(exited.code or 0)
    return CompletedCommand(code, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def use_fork_server(server: kernel_pool.ForkServer) -> Iterator[None]:
    """Fork the kernels of runs in this process from a server that outlives them."""
    with (
        mock.patch.object(kernel_pool, "_fork_server", server),
        mock.patch.object(kernel_pool, "keep_fork_server", True),
    ):
        yield
