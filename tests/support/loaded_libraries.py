"""Which heavy libraries a command or a stage loads; libraries have the names of their packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support.environment import make_clean_environment

PACKAGE_BY_MODULE = {
    "IPython": "ipython",
    "data_profiling": "fg-data-profiling",
    "mlflow": "mlflow-skinny",
    "sklearn": "scikit-learn",
    "vl_convert": "vl-convert-python",
    "ydata_profiling": "fg-data-profiling",
}
KERNEL = {"ipykernel", "ipython", "matplotlib"}  # IPython's display of tables looks for matplotlib
CONFIG = {"pydantic"}
DATABASE = {*CONFIG, "sqlalchemy"}
TABLES = {*CONFIG, "numpy", "pandas", "pyarrow"}
CHARTS = {"altair", "jinja2", "vl-convert-python"}
STATISTICS = {"joblib", "scikit-learn", "scipy"}
# MLflow itself imports Alembic and FastAPI.
MODELS = {
    *DATABASE,
    *STATISTICS,
    "alembic",
    "fastapi",
    "lightgbm",
    "mlflow-skinny",
    "skops",
    "skrub",
}
STAGE = {*KERNEL, *TABLES, *STATISTICS}
LIBRARIES_BY_STAGE = {
    "explore": {*STAGE, *CHARTS, "fg-data-profiling", "ipywidgets", "numba"},
    "prepare": {*STAGE, "duckdb", "pandera"},
    "train": {*STAGE, *CHARTS, *MODELS, "ipywidgets", "optuna"},
    "review": {*STAGE, *CHARTS, *MODELS, "ipywidgets"},
    "deploy": {*STAGE, *CHARTS, *MODELS, "duckdb", "ipywidgets"},
    "monitor": {*STAGE, *CHARTS, "sqlalchemy"},
    "retrain": STAGE,
}
HEAVY_LIBRARIES = {
    *set().union(*LIBRARIES_BY_STAGE.values()),
    "copier",
    "nbclient",
    "nbconvert",
    "papermill",
    "uvicorn",
    "voila",
}
# Runs each command in a fork of a process that has only loaded the command line.
_RUN_COMMANDS = """
import json, os, sys
from mlops_kit.cli import application

def run_command(words):
    sys.argv = ["mlops", *words]
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    try:
        application.main()
    except SystemExit as exited:
        return exited.code or 0
    return 0

for line in sys.stdin:
    reader, writer = os.pipe()
    if os.fork() == 0:
        answer = [run_command(json.loads(line)), sorted(sys.modules)]
        with os.fdopen(writer, "w") as stream:
            json.dump(answer, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        print(stream.read(), flush=True)
    os.wait()
"""


def select_heavy_libraries(packages: Iterable[str]) -> set[str]:
    """Return the heavy libraries among some packages."""
    return set(packages) & HEAVY_LIBRARIES


def map_to_packages(modules: Iterable[str]) -> set[str]:
    """Return the packages of some modules."""
    top_level_modules = {name.partition(".")[0] for name in modules}
    return {PACKAGE_BY_MODULE.get(name, name) for name in top_level_modules}


def list_libraries_by_command(commands: Sequence[str], folder: Path) -> dict[str, set[str]]:
    """Run commands of ``mlops``, each in a process of its own.

    Returns
    -------
    dict
        The heavy libraries that each command loaded.
    """
    requests = [json.dumps(command.split()) for command in commands]
    completed = subprocess.run(
        [sys.executable, "-c", _RUN_COMMANDS],
        input="\n".join(requests),
        env=make_clean_environment(),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    libraries = {}
    # Exit code 1: mlops doctor has found a problem.
    for command, line in zip(commands, completed.stdout.splitlines(), strict=True):
        code, modules = json.loads(line)
        assert code in (0, 1), f"{command}: exit code {code}\n{completed.stderr}"
        libraries[command] = select_heavy_libraries(map_to_packages(modules))
    return libraries
