"""What tests of runs share: one nursery for all of them, a ready MLflow store, and a package that can be installed in another version."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlops_kit import config, tracking
from mlops_kit.pipeline import kernels

WARM = ("pandas", "pyarrow.parquet", "fsspec", "IPython.display", "jinja2", "nbconvert", "mlflow", "sqlalchemy")
OPEN = "from mlops_kit import stage as stages\nstage = stages.open({name!r}, seed=seed)"


def book(file: Path, *cells: str, title: str = "# What is it?") -> None:
    """Write a notebook whose stage is named after its file: title, parameters, opening, and these cells."""
    code = ["seed: int = 0  # Seed.", OPEN.format(name=file.stem), *cells]
    made = new_notebook(cells=[new_markdown_cell(title), *map(new_code_cell, code)])
    made.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(made, file)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of installed packages that kernels and tests see: ``tiny`` 1.0, which is imported, and ``other`` 1.0, which is not."""
    folder = tmp_path_factory.mktemp("installed") / "site-packages"
    for name in ("tiny", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("SIZE = 1\n")
        (folder / f"{name}-1.0.dist-info").mkdir()
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="session")
def nursery(site: Path) -> Iterator[None]:
    """The process that kernels are forked from lives until the last test: its imports are the dear part of a short run."""
    kernels.nursery(WARM)
    kernels.keep = True
    yield
    kernels.keep = False
    kernels.release()


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an MLflow store that has been made already: to make one takes seconds."""
    home = tmp_path_factory.mktemp("store")
    (home / "mlops.yaml").write_text("name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n")
    with tracking.connected(config.load(home)):
        return home / ".mlops"


@pytest.fixture(scope="session")
def furnish(nursery: None, ready: Path) -> Callable[[Path], Path]:
    """Make a folder one in which runs are quick: a store in it, and kernels that are warm."""

    def furnished(home: Path) -> Path:
        shutil.copytree(ready, home / ".mlops")
        (home / "notebooks").mkdir()
        return home

    return furnished
