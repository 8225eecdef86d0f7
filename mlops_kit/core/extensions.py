"""A registry of decorated functions: what an extension is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mlops_kit.core.errors import KitError, suggest_names

_T = TypeVar("_T")


class ExtensionRegistry(dict[str, _T]):
    """Names to registered things; an unknown name is an error that lists those it knows.

    >>> metrics: Registry[Any] = Registry("metric")
    >>> @metrics.register("mae")
    ... def mae(y, p): return abs(y - p)
    >>> list(metrics)
    ['mae']
    >>> metrics["maee"]
    Traceback (most recent call last):
    mlops_kit.core.errors.KitError: unknown metric 'maee'
      expected: 'mae' (of: mae)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def register(self, name: str) -> Callable[[_T], _T]:
        """Register the decorated thing under a name that nothing else has."""

        def keep(thing: _T) -> _T:
            if name in self:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self[name] = thing
            return thing

        return keep

    def __missing__(self, name: str) -> _T:
        raise KitError(f"unknown {self.kind} {name!r}", suggest_names(name, self))
