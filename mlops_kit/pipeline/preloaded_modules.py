"""Which modules a fork server imports ahead of the kernels that will need them."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from mlops_kit import find_public_module
from mlops_kit.pipeline.fork_server import DEFERRED_MODULES_MARKER
from mlops_kit.project import notebook_cells
from mlops_kit.project.loader import Project

# What the notebooks' handle of their stage needs.
STAGE_HANDLE_MODULES = (
    "pandas",
    "pyarrow.parquet",
    "IPython.display",
)
# What the end of a run needs.
END_OF_RUN_MODULES = (
    "jinja2",
    "nbconvert",
    "mlflow",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "skops.io",
)
_CHART_MODULES = ("altair", "vl_convert")
_MODEL_MODULES = (
    "sklearn.ensemble",
    "sklearn.pipeline",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "scipy.stats",
    "joblib",
)
# What each notebook imports that takes a module of the package. What it imports for some tables
# only (skrub for text and dates, scikit-learn to split rows without timestamps) is left to it.
_LIBRARIES_BY_MODULE: dict[str, tuple[str, ...]] = {
    "mlops_kit.core.charts": _CHART_MODULES,
    "mlops_kit.data.features": ("duckdb",),
    "mlops_kit.registry.comparison": _MODEL_MODULES,
    "mlops_kit.registry.scoring": _MODEL_MODULES,
    "mlops_kit.stages.explore": ("pyarrow.dataset", "scipy.stats"),
    "mlops_kit.stages.prepare": ("pyarrow.dataset", "scipy.stats", "pandera.pandas"),
    "mlops_kit.stages.train": (*_MODEL_MODULES, "optuna", "lightgbm"),
    "mlops_kit.stages.review": _MODEL_MODULES,
    "mlops_kit.stages.deploy": ("pyarrow.dataset", *_MODEL_MODULES),
    "mlops_kit.stages.monitor": ("pyarrow.dataset", "scipy.stats", "sklearn.metrics"),
    "mlops_kit.stages.retrain": ("scipy.stats", "sklearn.metrics"),
}
_PACKAGE = "mlops_kit"
_STAGE_MODULE = "mlops_kit.stages.stage"
_STAGE_HANDLE_NAMES = ("mlops_kit.stages.open_stage", "mlops_kit.stages.Stage")


def list_modules_to_preload(project: Project, stages: Iterable[str]) -> list[str]:
    """List the modules that the notebooks of some stages will import.

    Those that the notebooks name come first. Modules of the project are not imported ahead: they
    may change while the fork server lives.
    """
    imported: dict[str, None] = {}
    for stage in stages:
        for cell in notebook_cells.load_code_cells(project.get_notebook_path(stage)):
            imported |= dict.fromkeys(_list_imported_modules(cell["source"]))
    project_modules = {path.stem for path in project.root.iterdir()}
    package_modules: list[str] = []
    library_modules: list[str] = []
    for name in imported:
        if name.startswith(_PACKAGE):
            package_modules.append(name)
        elif name.partition(".")[0] not in project_modules:
            library_modules.append(name)
    used_libraries: dict[str, None] = {}
    for name in package_modules:
        used_libraries |= dict.fromkeys(_LIBRARIES_BY_MODULE.get(name, ()))
    return [
        *library_modules,
        *(STAGE_HANDLE_MODULES if package_modules else ()),
        *package_modules,
        *used_libraries,
        DEFERRED_MODULES_MARKER,
        *END_OF_RUN_MODULES,
    ]


def _list_imported_modules(source: str) -> list[str]:
    """List the modules that a cell imports; none if the cell is not plain Python."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []
    modules: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules += _list_from_imports(node.module, [alias.name for alias in node.names])
    return modules


def _list_from_imports(module: str, names: list[str]) -> list[str]:
    """List the modules behind ``from module import names``; of the package, its submodules."""
    if not module.startswith(_PACKAGE):
        return [module]
    if module == _PACKAGE:
        return [find_public_module(name) for name in names]
    qualified = [f"{module}.{name}" for name in names]
    return [_STAGE_MODULE if name in _STAGE_HANDLE_NAMES else name for name in qualified]
