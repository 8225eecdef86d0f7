"""The application behind ``mlops COMMAND``: its commands, errors and exit codes.

Exit codes: 0 for success, 1 if a run or check failed, 2 for a usage error, 3 if a run waits for
approval. ``--debug`` (or ``MLOPS_DEBUG=1``) shows the traceback of an error;
that of an unexpected one is in a file too (``crash``).

To add a command: 1. a function in one of the ``*_commands`` modules, whose docstring is its help,
2. its name in ``_COMMANDS``; or a group of commands in ``_GROUPS``.
"""

from __future__ import annotations

import gc
import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from mlops_kit.cli import (
    alert_commands,
    data_commands,
    model_commands,
    output,
    people_commands,
    pipeline_commands,
    project_commands,
    replay_commands,
    run_commands,
    scaffold_commands,
    service_commands,
)
from mlops_kit.cli.crash import DEBUG_VARIABLE, report_crash
from mlops_kit.core.environment import complete_environment
from mlops_kit.core.errors import KitError

_DEBUG_OPTION = "--debug"
# Imported modules stay until the process ends. With Python's default the garbage collector scans
# them again and again, which takes an eighth of the time of a short command.
_GC_THRESHOLD_OBJECTS = 50_000

# In the order in which ``mlops --help`` lists them.
_COMMANDS: dict[str, Callable[..., None]] = {
    "new": scaffold_commands.new_command,
    "update": scaffold_commands.update_command,
    "run": pipeline_commands.run_command,
    "plan": pipeline_commands.plan_command,
    "params": pipeline_commands.params_command,
    "status": run_commands.status_command,
    "runs": run_commands.runs_command,
    "logs": run_commands.logs_command,
    "debug": run_commands.debug_command,
    "diff": run_commands.diff_command,
    "reproduce": run_commands.reproduce_command,
    "resume": run_commands.resume_command,
    "clean": run_commands.clean_command,
    "approve": model_commands.approve_command,
    "reject": model_commands.reject_command,
    "rollback": model_commands.rollback_command,
    "predict": model_commands.predict_command,
    "serve": service_commands.serve_command,
    "watch": service_commands.watch_command,
    "drift": service_commands.drift_command,
    "replay": replay_commands.replay_command,
    "dashboard": service_commands.dashboard_command,
    "report": service_commands.report_command,
    "lab": project_commands.lab_command,
    "config": project_commands.config_command,
    "doctor": project_commands.doctor_command,
    "export": project_commands.export_command,
}
# Groups of commands, such as ``mlops data show``.
_GROUPS: dict[str, typer.Typer] = {
    "notebook": scaffold_commands.notebook_app,
    "data": data_commands.data_app,
    "alerts": alert_commands.alerts_app,
    "people": people_commands.people_app,
    "promotion": model_commands.promotion_app,
    "reference": model_commands.reference_app,
}

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Run, review, serve and monitor a model with seven notebooks: "
        "explore, prepare, train, review, deploy, monitor, retrain."
    ),
)


@app.callback()
def _set_global_options(
    debug: Annotated[
        bool, typer.Option(_DEBUG_OPTION, help="Show the traceback of an error")
    ] = False,
) -> None:
    """Handle the options before the command."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


for _name, _function in _COMMANDS.items():
    app.command(_name)(_function)
for _group_name, _group in _GROUPS.items():
    app.add_typer(_group, name=_group_name)


def main() -> None:
    """Run the command line; an error is printed and determines the exit code."""
    if _DEBUG_OPTION in sys.argv:  # also after the command
        sys.argv.remove(_DEBUG_OPTION)
        os.environ[DEBUG_VARIABLE] = "1"
    gc.set_threshold(_GC_THRESHOLD_OBJECTS)
    try:
        complete_environment()
        _accept_any_output_encoding()
        app()
    except KitError as error:
        _exit_with_error(error)
    except Exception as error:  # whatever a library, the environment or a plugin raises
        raise SystemExit(report_crash(error)) from None
    finally:
        # Freezing spares the final collection. DuckDB reports an error if its objects are still
        # there at the end.
        if "duckdb" not in sys.modules:
            gc.freeze()


def _accept_any_output_encoding() -> None:
    """Print what a terminal's encoding lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_with_error(error: KitError) -> NoReturn:
    """Print an error and exit."""
    if os.environ.get(DEBUG_VARIABLE):
        traceback.print_exception(error)
    output.print_error(f"{error.label}: {error}")
    raise SystemExit(error.exit_code)
