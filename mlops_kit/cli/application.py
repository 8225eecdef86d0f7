"""``mlops VERB``: each verb is one call into the package.

Exit codes: 0 well, 1 a run or check failed, 2 the user's mistake, 3 waiting on a person.
``--debug`` (or MLOPS_DEBUG=1) shows the traceback behind an error.

To add a verb: a function here with ``@app.command()``; its docstring is its help.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Annotated

import typer

from mlops_kit.core.errors import KitError

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A model's life in seven notebooks: explore, prepare, train, review, deploy, monitor, retrain.",
)


@app.callback()
def _set_global_options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback behind an error")
    ] = False,
) -> None:
    """Options before the verb."""
    if debug:
        os.environ["MLOPS_DEBUG"] = "1"


def main() -> None:
    """The command line's door: errors are worded, the exit code says whose they are."""
    if "--debug" in sys.argv:
        sys.argv.remove("--debug")
        os.environ["MLOPS_DEBUG"] = "1"
    gc.set_threshold(
        50_000
    )  # what is imported from here on stays: to look through it again and again costs an eighth of a short verb
    try:
        app()
    except (KitError, OSError) as error:
        if os.environ.get("MLOPS_DEBUG"):
            import traceback

            traceback.print_exc()
        print(f"{getattr(error, 'label', 'error')}: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, KitError) else 1) from None
    finally:
        if "duckdb" not in sys.modules:  # which complains of what was not taken down
            gc.freeze()  # nor at the end
