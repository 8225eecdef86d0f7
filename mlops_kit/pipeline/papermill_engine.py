"""What papermill's entry point names: our engine, loaded only when a notebook is run with it.

Papermill loads the engines of all packages while it is imported itself, and ours is made of papermill.
"""

from __future__ import annotations

import logging
from typing import Any

ENGINE_NAME = "mlops"


class PapermillEngine:
    """The engine as papermill asks for it."""

    @classmethod
    def nb_kernel_name(cls, nb: Any, name: str | None = None) -> str:
        """The interpreter that runs us, whatever kernel's name was saved."""
        return "python3"

    @classmethod
    def nb_language(cls, nb: Any, language: str | None = None) -> str:
        """Python."""
        return "python"

    @classmethod
    def execute_notebook(cls, nb: Any, kernel_name: str, **given: Any) -> Any:
        """Run the notebook."""
        from mlops_kit.pipeline import engine

        return engine.NotebookEngine.execute_notebook(nb, kernel_name, **given)


def register_engine() -> None:
    """Make the engine known to papermill as ``mlops``, where it is not installed; what it logs of each run, the run says better."""
    from papermill.engines import papermill_engines

    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill_engines.register(ENGINE_NAME, PapermillEngine)
