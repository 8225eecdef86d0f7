"""Kernels of JupyterLab start where the kernels of the chain start."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_kit.cli.lab_kernels import LabKernelManager


def test_kernel_starts_in_the_working_folder_of_its_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for name in ("a", "b", "scratch"):
        (notebooks / f"{name}.ipynb").write_text('{"cells": []}')
    (tmp_path / "mlops.yaml").write_text(
        "name: chain\nstages:\n  a: {notebook: a.ipynb}\n  b: {notebook: b.ipynb, cwd: notebook}\n"
    )
    monkeypatch.setenv("MLOPS_PROJECT", str(tmp_path))
    manager = LabKernelManager(root_dir=str(notebooks))

    def find_folder(name: str) -> str | None:
        notebook = str(notebooks / f"{name}.ipynb")
        return manager.cwd_for_path("", env={"JPY_SESSION_NAME": notebook})

    assert find_folder("a") == str(tmp_path)
    assert find_folder("b") == find_folder("scratch") == str(notebooks)
    assert manager.cwd_for_path("") == str(notebooks)


def test_kernel_starts_beside_its_notebook_while_the_settings_are_invalid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mlops.yaml").write_text("name: [\n")
    monkeypatch.setenv("MLOPS_PROJECT", str(tmp_path))
    manager = LabKernelManager(root_dir=str(tmp_path))
    manager.log.propagate = True
    notebook = str(tmp_path / "a.ipynb")
    assert manager.cwd_for_path("", env={"JPY_SESSION_NAME": notebook}) == str(tmp_path)
    assert "mlops.yaml" in caplog.text
