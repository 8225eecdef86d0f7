"""Native libraries use as many threads as a fit asks for."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from mlops_kit.core import threads
from mlops_kit.core.threads import limit_threads


def list_thread_counts() -> list[int]:
    """List the threads of the loaded libraries."""
    return [library["num_threads"] for library in threadpool_info()]


def test_threads_are_limited_inside_of_the_context_only() -> None:
    assert np.linalg.det(np.eye(2)) == 1
    with limit_threads(2):
        outside = list_thread_counts()
        with limit_threads(1):
            assert set(list_thread_counts()) == {1}
        assert list_thread_counts() == outside


def test_libraries_are_looked_up_again_only_after_an_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with limit_threads(1):
        pass
    known = threads._loaded
    with limit_threads(1):
        assert threads._loaded is known
    monkeypatch.setitem(sys.modules, "module_with_a_library", ModuleType("module_with_a_library"))
    with limit_threads(1):
        assert threads._loaded is not known
