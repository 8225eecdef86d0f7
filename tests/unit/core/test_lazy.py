"""Heavy libraries are imported when they are first used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlops_kit.core.lazy import LazyModule, np, pd

LIST_LOADED_MODULES = """
import json, sys
import mlops_kit.core.charts, mlops_kit.core.lazy, mlops_kit.core.results
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.slow
def test_importing_modules_that_use_tables_loads_no_heavy_library() -> None:
    process = subprocess.run(
        [sys.executable, "-c", LIST_LOADED_MODULES], capture_output=True, text=True, check=True
    )
    assert not set(json.loads(process.stdout)) & {"pandas", "numpy", "altair"}


def test_lazy_module_has_the_attributes_of_the_library() -> None:
    import numpy
    import pandas

    assert pd.DataFrame is pandas.DataFrame
    assert isinstance(np.zeros(1), numpy.ndarray)


def test_missing_attribute_raises_the_error_of_the_library() -> None:
    with pytest.raises(AttributeError, match="module 'colorsys' has no attribute 'cmyk'"):
        _ = LazyModule("colorsys").cmyk
