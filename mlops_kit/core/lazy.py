"""pandas, numpy, scipy's statistics and Altair, imported when first used: importing a module loads none of them.

To add a library: its import for the type checker, and its name below.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["alt", "np", "pd", "scipy_stats"]


class LazyModule:
    """A module that is not imported yet; asked for a name, it imports it.

    >>> Late("colorsys").rgb_to_hsv(0.0, 0.0, 1.0)[2]
    1.0
    """

    def __init__(self, module: str) -> None:
        self.module_name = module

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.module_name), name)


if TYPE_CHECKING:
    import altair as alt
    import numpy as np
    import pandas as pd
    from scipy import stats as scipy_stats
else:
    alt, np, pd, scipy_stats = (
        LazyModule("altair"),
        LazyModule("numpy"),
        LazyModule("pandas"),
        LazyModule("scipy.stats"),
    )
