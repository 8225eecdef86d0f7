"""Let failing shell commands of a notebook fail its stage, or be ignored.

A failing ``!command`` raises nothing in IPython unless it is told to; a failing ``%%bash`` cell
raises ``CalledProcessError``.
"""

from __future__ import annotations

import functools
import sys
from subprocess import CalledProcessError
from typing import Any

SHELL_ERRORS_VARIABLE = "MLOPS_SHELL_ERRORS"


def configure_shell(shell: Any, shell_errors: str) -> None:
    """Set what a failing shell command does.

    Parameters
    ----------
    shell : InteractiveShell
        The shell of the kernel.
    shell_errors : str
        ``fail`` or ``ignore``.
    """
    shell.system_raise_on_error = shell_errors == "fail"
    if shell_errors != "ignore":
        return
    run_cell_magic = shell.run_cell_magic

    @functools.wraps(run_cell_magic)
    def run_and_ignore(*args: Any, **kwargs: Any) -> Any:
        try:
            return run_cell_magic(*args, **kwargs)
        except CalledProcessError as error:
            sys.stderr.write(f"exit code {error.returncode} (ignored)\n")
            return None

    shell.run_cell_magic = run_and_ignore
