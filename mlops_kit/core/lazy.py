"""Heavy libraries that are imported when first used, so that importing a module loads none of them.

To add a library: 1. import it below for the type checker, 2. assign a ``LazyModule`` of the same
name, 3. add the name to ``__all__``.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mlops_kit.core.extras import import_from_extra

__all__ = ["alt", "np", "pd", "scipy_stats"]


class LazyModule:
    """A stand-in for a module that is imported when one of its attributes is first used.

    Parameters
    ----------
    module_name : str
        The module to import.
    extra : str
        The extra that installs it; empty for a library of the base.

    >>> LazyModule("colorsys").rgb_to_hsv(0.0, 0.0, 1.0)[2]
    1.0
    """

    def __init__(self, module_name: str, extra: str = "") -> None:
        self.module_name = module_name
        self.extra = extra
        self._module: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        # Attributes are looked up each time, because tests and tracers replace functions.
        if self._module is None:
            self._module = self._import()
        return getattr(self._module, name)

    def _import(self) -> ModuleType:
        """Import the module; report a missing extra."""
        if not self.extra:
            return import_module(self.module_name)
        with import_from_extra(self.extra):
            return import_module(self.module_name)


if TYPE_CHECKING:
    import altair as alt
    import numpy as np
    import pandas as pd
    from scipy import stats as scipy_stats
else:
    alt = LazyModule("altair", extra="train")
    np = LazyModule("numpy")
    pd = LazyModule("pandas")
    scipy_stats = LazyModule("scipy.stats")
