"""The ``mlops`` command."""

import sys

# Commands that take longer to import libraries than to do their work.
_RESIDENT_COMMANDS = frozenset({"run", "resume"})
_COLD_OPTION = "--cold"
# What the commands import when they run.
_COMMAND_MODULES = [
    "mlops_kit.cli.application",
    "mlops_kit.client",
    "mlops_kit.pipeline.papermill_engine",
]


def main() -> None:
    """Run the command line, here or in a process of the resident server."""
    exit_code = _hand_over_command()
    if exit_code is not None:
        raise SystemExit(exit_code)
    run_application()


def run_application() -> None:
    """Run the command line in this process; whatever it raises is reported in a few lines.

    The commands are imported here, so that a failing import is reported like any other error.
    """
    from mlops_kit.cli.crash import report_crash

    try:
        from mlops_kit.cli import application

        application.main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as a shell reports a program that Ctrl-C ended
    except Exception as error:  # a fault anywhere: a library, the environment, this package
        raise SystemExit(report_crash(error)) from None


def _hand_over_command() -> int | None:
    """Let the resident server run the command, if there is one; return the exit code."""
    if _RESIDENT_COMMANDS.isdisjoint(sys.argv[1:2]) or _COLD_OPTION in sys.argv:
        return None
    from mlops_kit.pipeline.resident import client

    return client.hand_over_command(f"{__name__}:{run_application.__name__}", _COMMAND_MODULES)
