"""Which Python processes report what they use."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.core import process_tracer


@pytest.mark.parametrize(
    ("options", "is_followed"),
    [
        ("script.py -I", True),
        ("-c code -I", True),
        ("- -I", True),
        ("-W ignore -X dev script.py -S", True),
        ("-Wignore -OO -m module", True),
        ("-I script.py", False),
        ("-uS script.py", False),
        ("-sE script.py", False),
        ("-W ignore -I script.py", False),
        ("-uX dev -E -c code", False),
    ],
)
def test_isolated_python_process_is_not_followed(
    options: str,
    is_followed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(process_tracer.REPORTS_VARIABLE, str(tmp_path))
    environment = {"PYTHONPATH": str(tmp_path)}
    arguments = ["python3", *options.split()]
    assert process_tracer._is_followed(arguments, environment) is is_followed
