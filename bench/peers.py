"""Projects of the same small notebooks for several tools: what each tool needs, and its commands.

Each notebook imports pandas, scikit-learn and MLflow, fits a model and hands a file to the next
one. All tools start the same kernel, that of the running interpreter; each tool is installed in a
virtual environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import yaml

BIN_FOLDER = Path(sys.executable).parent
OUTPUT_FOLDER = "out"
KERNEL_NAME = "bench"
CODE_CELLS = (
    """\
import json
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import train_test_split
from sklearn.datasets import load_diabetes""",
    """\
rows = load_diabetes(as_frame=True).frame
before = json.loads(Path(source).read_text()) if source else {}
seed = len(before)""",
    """\
train, test = train_test_split(rows, random_state=seed)
model = RandomForestRegressor(20, random_state=seed)
model.fit(train.drop(columns="target"), train["target"])""",
    """\
score = model.score(test.drop(columns="target"), test["target"])
pd.Series({**before, target: score}).to_frame("r2")""",
    "Path(target).write_text(json.dumps({**before, target: score}))",
)
PAPERMILL_CODE = """
import sys
from pathlib import Path
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config
for notebook in sys.argv[1:]:
    target = f"out/{notebook}"
    papermill.execute_notebook(notebook, target, progress_bar=False, log_output=False)
    Path(f"{target}.html").write_text(HTMLExporter().from_filename(target)[0])
"""


def get_stage_name(number: int) -> str:
    """Return the name of the stage with this number."""
    return f"s{number:02d}"


def get_output_name(number: int) -> str:
    """Return the name of the file that the notebook with this number writes."""
    return f"made_{number}.json"


def build_cells(number: int) -> list[str]:
    """Return the code cells of the notebook with this number, its parameters first."""
    source = get_output_name(number - 1) if number else ""
    parameters = [
        f'source = "{source}"  # The file that the notebook before has written.',
        f'target = "{get_output_name(number)}"  # The file to write.',
        "upstream = None",
        "product = None",
    ]
    return ["\n".join(parameters), *CODE_CELLS]


def write_notebooks(folder: Path, count: int) -> list[str]:
    """Write the notebooks and return their names.

    Ploomber's own two parameters are in the first cell.
    """
    names = []
    for number in range(count):
        cells = [nbformat.v4.new_code_cell(cell) for cell in build_cells(number)]
        cells[0].metadata.tags = ["parameters"]
        if number:
            upstream = f'upstream = ["{get_stage_name(number - 1)}"]'
            cells[0].source = cells[0].source.replace("upstream = None", upstream)
        title = nbformat.v4.new_markdown_cell(f"# What does step {number} add?")
        notebook = nbformat.v4.new_notebook(cells=[title, *cells])
        notebook.metadata.kernelspec = {
            "name": KERNEL_NAME,
            "language": "python",
            "display_name": KERNEL_NAME,
        }
        name = f"{get_stage_name(number)}.ipynb"
        nbformat.write(notebook, folder / name)
        names.append(name)
    return names


def install_kernel(home: Path) -> None:
    """Describe the running interpreter's kernel in a folder for the variable JUPYTER_PATH."""
    folder = home / "kernels" / KERNEL_NAME
    folder.mkdir(parents=True, exist_ok=True)
    specification = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "language": "python",
        "display_name": KERNEL_NAME,
    }
    (folder / "kernel.json").write_text(json.dumps(specification))


@dataclass
class Tool:
    """A tool that runs notebooks.

    Attributes
    ----------
    name : str
        What the tables call it.
    package : str
        The package to install; empty if it is installed already.
    prepare : callable
        Makes a folder with notebooks a project of the tool: from the folder, the names of the
        notebooks and the folder of the tool's programs.
    build_commands : callable
        From the names of the notebooks and the folder of programs to the command lines of a run.
    skips_unchanged : bool
        Whether it skips what is unchanged.
    versions : str
        The installed versions.
    environment : dict of str to str
        Environment variables for its commands.
    """

    name: str
    package: str
    prepare: Callable[[Path, list[str], Path], None]
    build_commands: Callable[[list[str], Path], list[list[str]]]
    skips_unchanged: bool = True
    versions: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def install(self, home: Path) -> Path:
        """Install the tool if it is not there, and return the folder of its programs."""
        if not self.package:
            return BIN_FOLDER
        programs = home / self.name / "bin"
        if not (programs / self.package).exists():
            subprocess.run([sys.executable, "-m", "venv", str(home / self.name)], check=True)
            install_command = [str(programs / "pip"), "install", "--quiet", self.package]
            subprocess.run(install_command, check=True, capture_output=True)
        self.versions = self._list_versions(programs)
        return programs

    def _list_versions(self, programs: Path) -> str:
        list_command = [str(programs / "pip"), "list", "--format", "json"]
        process = subprocess.run(list_command, check=True, capture_output=True, text=True)
        versions = []
        for package in json.loads(process.stdout):
            if package["name"] in {self.package, "papermill"}:
                versions.append(f"{package['name']} {package['version']}")
        return ", ".join(versions)


def prepare_mlops_project(folder: Path, notebooks: list[str], _programs: Path) -> None:
    """Make a project whose stages are these notebooks."""
    notebooks_folder = folder / "notebooks"
    notebooks_folder.mkdir()
    stages: dict[str, dict[str, Any]] = {}
    for number, notebook in enumerate(notebooks):
        (folder / notebook).rename(notebooks_folder / notebook)
        stages[get_stage_name(number)] = {
            "notebook": notebook,
            "needs": [get_stage_name(number - 1)] if number else [],
            "writes": [get_output_name(number)],
            "files": [get_output_name(number - 1)] if number else [],
        }
    settings = {"name": "bench", "stages": stages}
    (folder / "mlops.yaml").write_text(yaml.safe_dump(settings))


def prepare_output_folder(folder: Path, _notebooks: list[str], _programs: Path) -> None:
    """Make a folder for the executed notebooks."""
    (folder / OUTPUT_FOLDER).mkdir()


def prepare_dvc_project(folder: Path, notebooks: list[str], programs: Path) -> None:
    """Make a repository with a stage per notebook, which papermill's command line executes."""
    prepare_output_folder(folder, notebooks, programs)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(
        [str(programs / "dvc"), "init", "--quiet"],
        cwd=folder,
        check=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    stages: dict[str, dict[str, Any]] = {}
    for number, notebook in enumerate(notebooks):
        target = f"{OUTPUT_FOLDER}/{notebook}"
        inputs = [get_output_name(number - 1)] if number else []
        stages[get_stage_name(number)] = {
            "cmd": f"{BIN_FOLDER / 'papermill'} --no-progress-bar {notebook} {target}",
            "deps": [notebook, *inputs],
            "outs": [get_output_name(number), target],
        }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


def prepare_ploomber_project(folder: Path, notebooks: list[str], programs: Path) -> None:
    """Make a pipeline whose tasks write an executed notebook, an HTML page and a file."""
    prepare_output_folder(folder, notebooks, programs)
    tasks = []
    for number, notebook in enumerate(notebooks):
        target = f"{OUTPUT_FOLDER}/{notebook}"
        tasks.append(
            {
                "source": notebook,
                "name": get_stage_name(number),
                "product": {
                    "nb": target,
                    "page": f"{target}.html",
                    "made": get_output_name(number),
                },
                "nb_product_key": ["nb", "page"],
                "kernelspec_name": KERNEL_NAME,
            }
        )
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"tasks": tasks}, sort_keys=False))


def build_mlops_commands(_notebooks: list[str], _programs: Path) -> list[list[str]]:
    """Return the command of ``mlops run``."""
    return [[sys.executable, "-m", "mlops_kit.cli", "run"]]


def build_papermill_commands(notebooks: list[str], _programs: Path) -> list[list[str]]:
    """Return the command of one process that executes and converts all notebooks."""
    return [[sys.executable, "-c", PAPERMILL_CODE, *notebooks]]


def build_papermill_cli_commands(notebooks: list[str], _programs: Path) -> list[list[str]]:
    """Return the commands of papermill for each notebook, and of nbconvert for all."""
    targets = [f"{OUTPUT_FOLDER}/{notebook}" for notebook in notebooks]
    commands = []
    for notebook, target in zip(notebooks, targets, strict=True):
        commands.append([str(BIN_FOLDER / "papermill"), "--no-progress-bar", notebook, target])
    commands.append([str(BIN_FOLDER / "jupyter"), "nbconvert", "--to", "html", *targets])
    return commands


def build_ploomber_commands(_notebooks: list[str], programs: Path) -> list[list[str]]:
    """Return the command of Ploomber."""
    return [[str(programs / "ploomber"), "build"]]


def build_dvc_commands(_notebooks: list[str], programs: Path) -> list[list[str]]:
    """Return the command of DVC."""
    return [[str(programs / "dvc"), "repro"]]


MLOPS = Tool("mlops run", "", prepare_mlops_project, build_mlops_commands)
TOOLS = (
    MLOPS,
    Tool(
        "papermill in one process, HTML",
        "",
        prepare_output_folder,
        build_papermill_commands,
        skips_unchanged=False,
    ),
    Tool(
        "papermill's command line, HTML",
        "",
        prepare_output_folder,
        build_papermill_cli_commands,
        skips_unchanged=False,
    ),
    Tool(
        "ploomber",
        "ploomber",
        prepare_ploomber_project,
        build_ploomber_commands,
        environment={"PLOOMBER_STATS_ENABLED": "false"},
    ),
    Tool(
        "dvc",
        "dvc",
        prepare_dvc_project,
        build_dvc_commands,
        environment={"DVC_NO_ANALYTICS": "1"},
    ),
)
