"""Papermill's engine of ours: a kernel of the running interpreter, over IPC, with its own folder.

The kernel's environment names the run; its working directory is the project's root, its standard
error goes to a file of the run. Sockets stand in a private short folder (a path over about 107 bytes
fails, and without a connection file of its own the sockets would be raced for).

To add to what a kernel gets: ``environment`` below.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from mlops_kit.stage import QUIET

NAME = "mlops"


def environment(run: Path, root: Path) -> dict[str, str]:
    """The environment of a stage's kernel: where its run stands, no telemetry, no debugger's warnings."""
    own = {"MLOPS_RUN": str(run), "MLOPS_PROJECT": str(root), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    return {**QUIET, **os.environ, **own}


class Engine(NBClientEngine):  # type: ignore[misc]
    """Runs a managed notebook in such a kernel; what begins with ``kernel_`` comes from the run."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, kernel_env: dict[str, str] | None = None, kernel_cwd: str | None = None, kernel_log: Any = None, kernel_progress: Callable[[int, int], None] | None = None, **kwargs: Any) -> Any:
        """Start the kernel, run the cells, take everything down again."""
        folder = Path(tempfile.mkdtemp(prefix="mk-"))
        manager = AsyncKernelManager(transport="ipc", connection_file=str(folder / "k.json"), kernel_name="python3")
        manager._kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python", display_name="Python 3")
        known = {"log_output", "stdout_file", "stderr_file", "start_timeout", "execution_timeout", "input_path", "autosave_cell_every"}
        options = {k: v for k, v in kwargs.items() if k not in known}
        client = PapermillNotebookClient(nb_man, km=manager, timeout=kwargs.get("execution_timeout"), startup_timeout=kwargs.get("start_timeout", 60), kernel_name="python3", coalesce_streams=True, **options)
        client.owns_km = True
        if kernel_progress is not None:
            code = [i for i, c in enumerate(nb_man.nb.cells) if c.cell_type == "code"]
            client.on_cell_execute = lambda cell, cell_index: kernel_progress(code.index(cell_index) + 1, len(code))
        try:
            # nbclient hands these on to the kernel's process; papermill's own engine has no way to
            start = client.start_new_kernel
            client.start_new_kernel = lambda **_: start(env=kernel_env, cwd=kernel_cwd, stderr=kernel_log)
            return client.execute()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def register() -> None:
    """Make the engine known to papermill as ``mlops``."""
    papermill_engines.register(NAME, Engine)
