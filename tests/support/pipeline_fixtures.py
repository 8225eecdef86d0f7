"""What tests of runs share: one fork server, an MLflow store, a package in several versions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlops_kit.core import files
from mlops_kit.pipeline import kernel_pool, manifest, preloaded_modules, runner
from mlops_kit.project import loader, run_manifest
from mlops_kit.project.run_manifest import RunManifest
from tests.support.commands import CompletedCommand, RunMlops, run_in_process, use_fork_server
from tests.support.environment import ROOT, make_clean_environment

PRELOADED_MODULES = (
    "pandas",
    "pyarrow.parquet",
    "fsspec",
    "IPython.display",
    "jinja2",
    "nbconvert",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "sqlalchemy",
)
OPEN_STAGE_CELL = "from mlops_kit.stages import open_stage\nstage = open_stage({name!r})"


@pytest.fixture(scope="session")
def installed_packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of installed packages that kernels and tests see.

    ``tiny`` 1.0 is imported, ``other`` 1.0 is not.
    """
    folder = tmp_path_factory.mktemp("installed") / "site-packages"
    for name in ("tiny", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("SIZE = 1\n")
        (folder / f"{name}-1.0.dist-info").mkdir()
        (folder / f"{name}-1.0.dist-info" / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.syspath_prepend(str(folder))
        yield folder


@pytest.fixture(scope="session")
def shared_fork_server(installed_packages: Path) -> Iterator[None]:
    """Keep the fork server until the last test: its imports take most of a short run."""
    kernel_pool.get_fork_server(PRELOADED_MODULES)
    kernel_pool.keep_fork_server = True
    yield
    kernel_pool.keep_fork_server = False
    kernel_pool.release_fork_server()


@pytest.fixture(scope="session")
def notebook_fork_server() -> Iterator[kernel_pool.ForkServer]:
    """A fork server of its own that has imported what the seven notebooks need."""
    project = loader.load_project(ROOT / "examples" / "diabetes")
    modules = preloaded_modules.list_modules_to_preload(project, project.config.stages)
    with mock.patch.dict(os.environ, make_clean_environment(), clear=True):
        server = kernel_pool.ForkServer(modules)
    yield server
    server.close()


@pytest.fixture(scope="session")
def run_mlops(notebook_fork_server: kernel_pool.ForkServer) -> RunMlops:
    """A function that runs commands in this process, with warm kernels."""

    def run_with_warm_kernels(*words: object, **options: Any) -> CompletedCommand:
        with use_fork_server(notebook_fork_server):
            return run_in_process(*words, **options)

    return run_with_warm_kernels


@pytest.fixture(scope="session")
def mlflow_store(shared_fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of an MLflow store: creating one takes seconds."""
    home = tmp_path_factory.mktemp("store")
    (home / "mlops.yaml").write_text("name: tiny\nsource: t.csv\ntarget: y\ntask: regression\n")
    project = loader.load_project(home)
    files.write_json(
        home / "config.json", project.config.model_dump(mode="json", exclude_unset=True)
    )
    stored = manifest.create_manifest(project, [], "")
    stored.status = run_manifest.RunStatus.SUCCEEDED
    run_manifest.write_manifest(home, stored)
    kernel_pool.get_fork_server().call_function(
        "mlops_kit.pipeline.run_completion:record_in_mlflow",
        str(home),
        str(home),
        [],
        cwd=str(home),
        log=str(home / "log"),
    )
    return home / ".mlops"


@pytest.fixture(scope="session")
def copy_mlflow_store(mlflow_store: Path) -> Callable[[Path], Path]:
    """A function that copies the MLflow store into a project folder, so that runs are quick."""

    def copy_into(home: Path) -> Path:
        shutil.copytree(mlflow_store, home / ".mlops")
        (home / "notebooks").mkdir()
        return home

    return copy_into


TINY = """\
name: tiny
stages:
  first: {notebook: first.ipynb, writes: [numbers]}
  second: {notebook: second.ipynb, needs: [first], writes: [total]}
  third: {notebook: third.ipynb, needs: [second]}
"""


def write_notebook(
    home: Path, name: str, *cells: str, parameters: str = "seed: int = 0  # Seed."
) -> None:
    """Write a notebook: a title, its parameters, the cell that opens the stage, and these cells."""
    code = [parameters, OPEN_STAGE_CELL.format(name=name), *cells]
    made = new_notebook(cells=[new_markdown_cell(f"# {name}"), *map(new_code_cell, code)])
    made.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(made, home / "notebooks" / f"{name}.ipynb")


@pytest.fixture
def tiny(tmp_path: Path, copy_mlflow_store: Callable[[Path], Path]) -> Path:
    """A project of three notebooks, the second with a parameter; nothing has been run."""
    home = tmp_path / "tiny"
    home.mkdir()
    copy_mlflow_store(home)
    (home / "mlops.yaml").write_text(TINY)
    write_notebook(
        home,
        "first",
        "stage.write('numbers', {'a': [1, 2, 3]})",
        "stage.log(n=3)",
        "stage.hand_over('Three numbers.')",
    )
    write_notebook(
        home,
        "second",
        "total = k * sum(stage.read('numbers')['a'])\nstage.log(total=total)",
        "if k == 5:\n    raise ValueError('five')",
        "stage.write('total', {'total': total})",
        "stage.hand_over('Their total.')",
        parameters="k: int = 1  # Factor.",
    )
    write_notebook(
        home,
        "third",
        "stage.write_result(got=stage.read('total')['total'], name='x')",
        "stage.hand_over('The end.')",
    )
    return home


@pytest.fixture
def run_tiny(tiny: Path) -> Callable[..., RunManifest]:
    """A function that runs the tiny project and returns the manifest."""

    def run_stages(only: str = "", force: bool = False, **given: dict[str, Any]) -> RunManifest:
        project = loader.load_project(tiny)
        return runner.run_pipeline(
            project,
            runner.select_stages(project, only=only),
            given,
            lambda text, transient=False: None,
            runner.RunOptions(force, "why"),
        )

    return run_stages
