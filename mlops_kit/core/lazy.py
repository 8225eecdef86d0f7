"""Heavy libraries that are imported when first used, so that importing a module loads none of them.

To add a library: 1. import it below for the type checker, 2. assign a ``LazyModule`` of the same
name, 3. add the name to ``__all__``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["alt", "np", "pd", "scipy_stats"]


class LazyModule:
    """A stand-in for a module that is imported when one of its attributes is first used.

    >>> LazyModule("colorsys").rgb_to_hsv(0.0, 0.0, 1.0)[2]
    1.0
    """

    def __init__(self, module_name: str) -> None:
        self.module_name = module_name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.module_name), name)


if TYPE_CHECKING:
    import altair as alt
    import numpy as np
    import pandas as pd
    from scipy import stats as scipy_stats
else:
    alt = LazyModule("altair")
    np = LazyModule("numpy")
    pd = LazyModule("pandas")
    scipy_stats = LazyModule("scipy.stats")
