"""The same small notebooks in a row for several tools: what each needs beside them, and its commands.

Each notebook imports pandas, scikit-learn and MLflow, fits a model and hands a file on to the next. All tools
start the same kernel, that of the running interpreter; each stands in a virtual environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import yaml

BIN = Path(sys.executable).parent
CELLS = (
    "import json\nfrom pathlib import Path\n\nimport mlflow\nimport pandas as pd\nfrom sklearn.ensemble import RandomForestRegressor\nfrom sklearn.model_selection import train_test_split\nfrom sklearn.datasets import load_diabetes",
    "rows = load_diabetes(as_frame=True).frame\nbefore = json.loads(Path(source).read_text()) if source else {}\nseed = len(before)",
    'known, new = train_test_split(rows, random_state=seed)\nmodel = RandomForestRegressor(20, random_state=seed).fit(known.drop(columns="target"), known["target"])',
    'score = model.score(new.drop(columns="target"), new["target"])\npd.Series({**before, target: score}).to_frame("r2")',
    "Path(target).write_text(json.dumps({**before, target: score}))",
)
NAIVE = """
import sys
from pathlib import Path
import papermill
from nbconvert import HTMLExporter
from traitlets.config import Config
for book in sys.argv[1:]:
    papermill.execute_notebook(book, f"out/{book}", progress_bar=False, log_output=False)
    Path(f"out/{book}.html").write_text(HTMLExporter().from_filename(f"out/{book}")[0])
"""


def sources(number: int) -> list[str]:
    """The cells of the notebook of this number, its parameters first."""
    before = f"made_{number - 1}.json" if number else ""
    return [
        f'source = "{before}"  # The file that the notebook before has written.\ntarget = "made_{number}.json"  # The file to write.\nupstream = None\nproduct = None',
        *CELLS,
    ]


def notebooks(folder: Path, count: int) -> list[str]:
    """Write the notebooks; their names. Ploomber's own two parameters stand in the first cell."""
    names = []
    for number in range(count):
        first, *rest = [nbformat.v4.new_code_cell(s) for s in sources(number)]
        first.metadata.tags = ["parameters"]
        if number:
            first.source = first.source.replace(
                "upstream = None", f'upstream = ["s{number - 1:02d}"]'
            )
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(f"# What does step {number} add?"), first, *rest]
        )
        book.metadata.kernelspec = {"name": "bench", "language": "python", "display_name": "bench"}
        names.append(f"s{number:02d}.ipynb")
        nbformat.write(book, folder / names[-1])
    return names


def kernel(home: Path) -> None:
    """Describe the running interpreter's kernel where every tool looks for one: ``JUPYTER_PATH`` is this folder."""
    place = home / "kernels" / "bench"
    place.mkdir(parents=True, exist_ok=True)
    (place / "kernel.json").write_text(
        json.dumps(
            {
                "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                "language": "python",
                "display_name": "bench",
            }
        )
    )


@dataclass
class Tool:
    """A tool: what it needs installed, how a folder with the notebooks is made its project, its commands.

    ``build`` and ``again`` are lists of command lines, the words of each; the second is the first where none is given.
    """

    name: str
    package: str
    prepare: Callable[[Path, list[str], Path], None]
    build: Callable[[list[str], Path], list[list[str]]]
    leaves: bool = True  # whether it knows what is unchanged
    versions: str = ""
    env: dict[str, str] = field(default_factory=dict)

    def install(self, home: Path) -> Path:
        """Its programs' folder; the virtual environment is made if it is not there."""
        if not self.package:
            return BIN
        place = home / self.name
        if not (place / "bin" / self.package).exists():
            subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
            subprocess.run(
                [str(place / "bin" / "pip"), "install", "--quiet", self.package],
                check=True,
                capture_output=True,
            )
        said = subprocess.run(
            [str(place / "bin" / "pip"), "list", "--format", "json"],
            check=True,
            capture_output=True,
            text=True,
        )
        self.versions = ", ".join(
            f"{p['name']} {p['version']}"
            for p in json.loads(said.stdout)
            if p["name"] in {self.package, "papermill"}
        )
        return place / "bin"


def ours(folder: Path, books: list[str], programs: Path) -> None:
    """A project whose stages are these notebooks."""
    own = folder / "notebooks"
    own.mkdir()
    stages = {}
    for number, book in enumerate(books):
        (folder / book).rename(own / book)
        stages[f"s{number:02d}"] = {
            "notebook": book,
            "needs": [f"s{number - 1:02d}"] if number else [],
            "writes": [f"made_{number}.json"],
            "files": [f"made_{number - 1}.json"] if number else [],
        }
    (folder / "mlops.yaml").write_text(yaml.safe_dump({"name": "bench", "stages": stages}))


def nothing(folder: Path, books: list[str], programs: Path) -> None:
    """A folder for what is executed."""
    (folder / "out").mkdir()


def dvc(folder: Path, books: list[str], programs: Path) -> None:
    """A repository with a stage for each notebook, which papermill's command line executes."""
    nothing(folder, books, programs)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run(
        [str(programs / "dvc"), "init", "--quiet"],
        cwd=folder,
        check=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    stages = {
        f"s{n:02d}": {
            "cmd": f"{BIN / 'papermill'} --no-progress-bar {book} out/{book}",
            "deps": [book, *([f"made_{n - 1}.json"] if n else [])],
            "outs": [f"made_{n}.json", f"out/{book}"],
        }
        for n, book in enumerate(books)
    }
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


def ploomber(folder: Path, books: list[str], programs: Path) -> None:
    """A pipeline of the notebooks, each of which makes an executed notebook, an HTML page and its file."""
    nothing(folder, books, programs)
    tasks = [
        {
            "source": book,
            "name": f"s{n:02d}",
            "product": {"nb": f"out/{book}", "page": f"out/{book}.html", "made": f"made_{n}.json"},
            "nb_product_key": ["nb", "page"],
            "kernelspec_name": "bench",
        }
        for n, book in enumerate(books)
    ]
    (folder / "pipeline.yaml").write_text(yaml.safe_dump({"tasks": tasks}, sort_keys=False))


TOOLS = (
    Tool(
        "mlops run",
        "",
        ours,
        lambda books, programs: [[sys.executable, "-m", "mlops_kit.cli", "run"]],
    ),
    Tool(
        "papermill in one process, HTML",
        "",
        nothing,
        lambda books, programs: [[sys.executable, "-c", NAIVE, *books]],
        leaves=False,
    ),
    Tool(
        "papermill's command line, HTML",
        "",
        nothing,
        lambda books, programs: [
            *([str(BIN / "papermill"), "--no-progress-bar", b, f"out/{b}"] for b in books),
            [str(BIN / "jupyter"), "nbconvert", "--to", "html", *(f"out/{b}" for b in books)],
        ],
        leaves=False,
    ),
    Tool(
        "ploomber",
        "ploomber",
        ploomber,
        lambda books, programs: [[str(programs / "ploomber"), "build"]],
        env={"PLOOMBER_STATS_ENABLED": "false"},
    ),
    Tool(
        "dvc",
        "dvc",
        dvc,
        lambda books, programs: [[str(programs / "dvc"), "repro"]],
        env={"DVC_NO_ANALYTICS": "1"},
    ),
)
