"""Registries of decorated functions: how metrics, checks and other extensions are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlops_kit.core.errors import KitError, suggest_names

_T = TypeVar("_T")


class ExtensionRegistry(dict[str, _T]):
    """Registered objects by name; looking up an unknown name raises an error that lists the names.

    >>> metrics = ExtensionRegistry("metric")
    >>> @metrics.register("mae")
    ... def compute_mae(y, score): return abs(y - score)
    >>> list(metrics)
    ['mae']
    >>> metrics["maee"]
    Traceback (most recent call last):
    mlops_kit.core.errors.KitError: unknown metric 'maee'
      Expected: 'mae' (of: mae)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def register(self, name: str) -> Callable[[_T], _T]:
        """Return a decorator that registers an object under a name that is still free."""

        def add_extension(extension: _T) -> _T:
            if name in self:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self[name] = extension
            return extension

        return add_extension

    def __missing__(self, name: str) -> _T:
        raise KitError(f"unknown {self.kind} {name!r}", suggest_names(name, self))
