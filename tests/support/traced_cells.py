"""Execute cells as a kernel does and report what each used; one forked process per cell.

``python -m tests.support.traced_cells FILE``: the file has a list of objects with ``home`` (the
project), ``cell`` (its source) and ``report`` (the file to write).
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import traceback
from contextlib import redirect_stdout, suppress
from pathlib import Path

from mlops_kit.core import dependencies, import_tracer

import_tracer.install_import_hooks()

import duckdb  # noqa: E402, F401 - loaded before a stage begins, as in the fork server
import joblib  # noqa: E402, F401
import pandas as pd  # noqa: E402, F401
import pyarrow.dataset  # noqa: E402
import pyarrow.parquet  # noqa: E402, F401
import sqlalchemy  # noqa: E402, F401
from IPython.core.interactiveshell import InteractiveShell  # noqa: E402
from traitlets.config import Config  # noqa: E402


def execute_cell(home: Path, source: str, report: Path) -> None:
    """Execute a cell in a project and write what it used."""
    os.chdir(home)
    sys.path.insert(0, "")
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell.instance(config=config)
    sys.modules["__main__"] = shell.user_module
    dependencies.watch_project_files(
        str(home),
        str(home / "reports"),
        report.with_suffix(".processes"),
    )
    import_tracer.mark_process_fork()
    output = io.StringIO()
    with redirect_stdout(output):
        result = shell.run_cell(source, store_history=True)
    used = dependencies.report_dependencies()
    error = None if result.success else f"{result.error_in_exec!r} {output.getvalue()[-2000:]}"
    report.write_text(json.dumps({"used": used, "error": error}), encoding="utf-8")


def main() -> None:
    """Execute the cells of a file, each in a process of its own."""
    import_tracer.map_modules_to_distributions()  # cached, as in the fork server
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            try:
                execute_cell(Path(job["home"]), job["cell"], Path(job["report"]))
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(0)
        os.waitpid(pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # workers that the cell has left running


if __name__ == "__main__":
    main()
