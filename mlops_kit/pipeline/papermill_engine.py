"""The papermill engine ``mlops``: ``papermill --engine mlops NOTEBOOK OUTPUT``.

Papermill loads the engines of all packages (entry points) while it is imported itself. This module
therefore imports neither papermill nor ``engine``, which needs papermill, before it is used.
"""

from __future__ import annotations

import logging
from typing import Any

from mlops_kit.core.extras import import_from_extra

ENGINE_NAME = "mlops"


class PapermillEngine:
    """The engine as papermill calls it."""

    @classmethod
    def nb_kernel_name(cls, _nb: Any, _name: str | None = None) -> str:
        """Return the kernel's name: this interpreter, whatever the notebook was saved with."""
        return "python3"

    @classmethod
    def nb_language(cls, _nb: Any, _language: str | None = None) -> str:
        """Return the kernel's language."""
        return "python"

    @classmethod
    def execute_notebook(cls, nb: Any, _kernel_name: str | None = None, **options: Any) -> Any:
        """Execute a notebook; see ``engine.execute_notebook``."""
        from mlops_kit.pipeline import engine

        return engine.execute_notebook(nb, options)


def register_engine() -> None:
    """Register the engine with papermill, also where the package's entry points are not installed.

    Papermill's log messages are turned off: a run reports its progress itself.
    """
    with import_from_extra("train"):
        from papermill.engines import papermill_engines

    logging.getLogger("papermill").setLevel(logging.ERROR)
    papermill_engines.register(ENGINE_NAME, PapermillEngine)
