"""A registry of decorated functions: what an extension is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar  # noqa: F401 - Any is the doctest's

from mlops_kit.errors import KitError, nearest

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Names to registered things; an unknown name is an error that lists those it knows.

    >>> metrics: Registry[Any] = Registry("metric")
    >>> @metrics.register("mae")
    ... def mae(y, p): return abs(y - p)
    >>> list(metrics)
    ['mae']
    >>> metrics["maee"]
    Traceback (most recent call last):
    mlops_kit.errors.KitError: unknown metric 'maee'
      expected: 'mae' (of: mae)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._known: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Register the decorated thing under a name that nothing else has."""

        def keep(thing: T) -> T:
            if name in self._known:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._known[name] = thing
            return thing

        return keep

    def __getitem__(self, name: str) -> T:
        if name not in self._known:
            raise KitError(f"unknown {self.kind} {name!r}", nearest(name, self._known))
        return self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)
