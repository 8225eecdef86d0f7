"""The parameters cell as an interface: read with ``ast``, checked before any kernel starts.

A line is ``name: type = literal  # Sentence.``; papermill only warns of an unknown parameter and
goes on with the default, here it is an error with the nearest name.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mlops_kit.errors import KitError, nearest

SHARED = ("as_of", "until", "sample", "seed")  # run-wide values given to each notebook that declares them
TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``type`` is empty where any value (or None) is meant."""

    name: str
    type: str
    default: Any
    sentence: str


def code_cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's code cells, in their order."""
    return [c for c in cells(notebook) if c["cell_type"] == "code"]


def cells(notebook: Path) -> list[dict[str, Any]]:
    """A notebook's cells, read as JSON (nbformat takes ten times as long)."""
    import json

    try:
        held = json.loads(notebook.read_text(encoding="utf-8"))
        return [{**c, "source": "".join(c["source"])} for c in held["cells"]]
    except FileNotFoundError as error:
        raise KitError(f"the notebook {notebook.name!r} does not exist", str(notebook.parent), "put it there, or name another under 'stages'") from error
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(f"{notebook.name} is not a notebook: {error}", "a file that JupyterLab opens", "restore it from git") from error


def question(notebook: Path) -> str:
    """The notebook's title, which is the question that its stage answers; its file's name without one.

    A run of one stage needs no other stage's notebook.
    """
    if not notebook.exists():
        return notebook.stem
    titled = (c["source"].lstrip() for c in cells(notebook) if c["cell_type"] == "markdown")
    return next((t.splitlines()[0].removeprefix("# ") for t in titled if t.startswith("# ")), notebook.stem)


def read(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, by name.

    Raises
    ------
    KitError
        If no cell is tagged ``parameters``, or it holds more than literals.
    """
    tagged = [c for c in code_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    if not tagged:
        raise KitError(f"{notebook.name} has no cell tagged 'parameters'", "one, near the top", "add the tag in JupyterLab (property inspector)")
    text = tagged[0]["source"]
    lines = text.splitlines()
    found = {}
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise KitError(f"{notebook.name}: line {error.lineno} of the parameters cell is no Python: {(error.text or '').strip()!r}", "lines of name: type = literal  # Sentence.", "mend it in JupyterLab") from error
    for node in body:
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Name) or node.value is None:
            raise KitError(f"{notebook.name}: the parameters cell holds {ast.unparse(node)!r}", "lines of name: type = literal  # Sentence.", "move it to another cell")
        try:
            default = ast.literal_eval(node.value)
        except ValueError as error:
            raise KitError(f"{notebook.name}: parameter {target.id!r} is not a literal", "a number, text, list or dict written out", "move the computation to another cell") from error
        kind = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
        sentence = lines[node.lineno - 1].partition("#")[2].strip()
        found[target.id] = Parameter(target.id, kind, default, sentence)
    return found


def checked(stage: str, known: dict[str, Parameter], given: dict[str, Any]) -> dict[str, Any]:
    """The given values, each of its parameter's type.

    Raises
    ------
    KitError
        For a name that the notebook does not have, or a value of another type.
    """
    out = {}
    for name, value in given.items():
        if name not in known:
            raise KitError(f"{stage} has no parameter {name!r}", nearest(name, known), f"-p {stage}.NAME=value with one of these")
        out[name] = cast(stage, known[name], value)
    return out


def cast(stage: str, parameter: Parameter, value: Any) -> Any:
    """A value as its parameter's type; an int is a float too, nothing else is bent."""
    wanted = TYPES.get(parameter.type)
    if wanted is None or value is None:
        return value
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)):
        return value
    raise KitError(f"{stage}.{parameter.name}: {value!r} is a {type(value).__name__}", f"{parameter.type}: {parameter.sentence}", f"-p {stage}.{parameter.name}=…")


def from_text(items: list[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """``["train.trials=5"]`` as ``{"train": {"trials": 5}}``; text is read as YAML reads it."""
    out: dict[str, dict[str, Any]] = {}
    for item in items:
        left, equals, text = item.partition("=")
        stage, dot, name = left.partition(".")
        if not (equals and dot and name):
            raise KitError(f"-p {item!r} cannot be read", "stage.name=value", "-p train.seed=1")
        if stage not in stages:
            raise KitError(f"-p {item!r}: unknown stage {stage!r}", nearest(stage, stages))
        out.setdefault(stage, {})[name] = yaml.safe_load(text) if text else ""
    return out
