"""What papermill's entry point names: our engine, loaded only when a notebook is run with it.

Papermill loads the engines of all packages while it is imported itself, and ours is made of papermill.
"""

from __future__ import annotations

from typing import Any


class Engine:
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

        return engine.Engine.execute_notebook(nb, kernel_name, **given)
