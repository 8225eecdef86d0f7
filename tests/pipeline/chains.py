"""Small chains of own notebooks that can be broken, for the tests of failures and for ``bench/killed_chain.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mlops_kit import stage as stages
from mlops_kit.pipeline.plan import contents

QUICK = "import sys; from mlops_kit import cli; from mlops_kit.pipeline import kernels; kernels.LATE = (); cli.main()"  # what a run imports ahead takes longer than a small chain


def cell(source: str, tag: str = "") -> Any:
    """A code cell, with a tag if one is given."""
    return new_code_cell(source, metadata={"tags": [tag]} if tag else {})


def project(home: Path, chain: dict[str, tuple[str, list[Any]]], more: str = "") -> Path:
    """Write a project: of each stage its options (YAML) and its cells (text, or a ``cell``), after a title, the parameters and the handle."""
    (home / "notebooks").mkdir(parents=True, exist_ok=True)
    lines = [f"  {name}: {{notebook: {name}.ipynb, {options}}}" for name, (options, _) in chain.items()]
    (home / "mlops.yaml").write_text("\n".join(["name: tiny", *filter(None, [more]), "stages:", *lines, ""]))
    for name, (_, cells) in chain.items():
        opening = [cell("seed: int = 0  # Seed.", "parameters"), cell(f"from mlops_kit import stage as stages\nstage = stages.open({name!r})")]
        book = new_notebook(cells=[new_markdown_cell(f"# {name}"), *opening, *(cell(c) if isinstance(c, str) else c for c in cells)])
        for number, one in enumerate(book.cells):
            one.id = f"{name}-{number}"
        nbformat.write(book, home / "notebooks" / f"{name}.ipynb")
    return home


def started(home: Path, **more: Any) -> subprocess.Popen[str]:
    """``mlops run`` as a process (and group) of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "MLFLOW_"))}
    return subprocess.Popen([sys.executable, "-c", QUICK, "run", "--project", str(home)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, **more)


def below(pid: int) -> list[psutil.Process]:
    """A process with all that it has started."""
    one = psutil.Process(pid)
    return [one, *one.children(recursive=True)]


def strays(home: Path) -> list[str]:
    """Processes that a run of this project has started and that are still there."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MLOPS_RUN", "").startswith(str(home)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue
    return found


def handed_on(run: Path) -> dict[str, str]:
    """Content of what a run's stages hand on, and the hash of each file of it."""
    held = {n: a.sha256 for n, a in stages.artifacts(run).items()}
    return held | {f"{n}: content": c for record in stages.records(run).values() for n, c in contents(record).items()}
