"""Libraries that come late: not at import, but at first use."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from mlops_kit.core.lazy import LazyModule, np, pd


def test_modules_that_use_tables_load_no_library_until_they_do() -> None:
    code = "import sys, json, mlops_kit.core.lazy, mlops_kit.core.results, mlops_kit.core.charts; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & {"pandas", "numpy", "altair"}


def test_what_comes_late_is_the_library_itself() -> None:
    import numpy
    import pandas

    assert pd.DataFrame is pandas.DataFrame
    assert isinstance(np.zeros(1), numpy.ndarray)


def test_a_name_that_a_library_has_not_is_its_own_error() -> None:
    with pytest.raises(AttributeError, match="module 'colorsys' has no attribute 'cmyk'"):
        _ = LazyModule("colorsys").cmyk
