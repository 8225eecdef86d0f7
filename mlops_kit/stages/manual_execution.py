"""Describe a notebook that was executed by hand, so that a run can take over its results."""

from __future__ import annotations

import time

from mlops_kit.core import dependencies
from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.stage_record import ManualExecution


def describe_manual_execution() -> ManualExecution:
    """Describe what was executed in this kernel, and what it used."""
    with import_from_extra("train"):
        from IPython import get_ipython

    shell = get_ipython()
    namespace = {} if shell is None else shell.user_ns
    cells = namespace.get("In", [""])[1:]
    values = {}
    for name, value in namespace.items():
        is_simple = isinstance(value, (str, int, float, bool, list, dict, type(None)))
        if is_simple and not name.startswith("_"):
            values[name] = value
    return ManualExecution(
        cell_hashes=[dependencies.hash_code(cell) for cell in cells],
        values=values,
        used=dependencies.report_dependencies(exact=False),
        finished_at=time.time(),
    )
