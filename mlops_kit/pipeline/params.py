"""The parameters cell as an interface: read with ``ast``, checked before any kernel starts.

A line is ``name: type = literal  # Sentence.``; papermill only warns of an unknown parameter and
goes on with the default, here it is an error with the nearest name.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import Any

import yaml

from mlops_kit.config import FILE, Loader, Project
from mlops_kit.errors import KitError, nearest

SHARED = ("as_of", "until", "sample", "seed")  # run-wide values given to each notebook that declares them
MOMENTS: dict[str, Any] = {"date": date, "datetime": datetime}
TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": list, "dict": dict, "Path": str, "date": str, "datetime": str}
BOOLS = {**dict.fromkeys(("true", "yes", "on", "1"), True), **dict.fromkeys(("false", "no", "off", "0"), False)}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``type`` is empty where any value (or None) is meant."""

    name: str
    type: str
    default: Any
    sentence: str

    @property
    def kind(self) -> str:
        """The type without what it holds: ``list`` of ``list[str]``."""
        return self.type.partition("[")[0]


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
        line = lines[node.lineno - 1]
        if line.count("=") > 1 and node.end_lineno == node.lineno and "=" in line.partition("#")[2] or "|" in kind:
            raise KitError(f"{notebook.name}: papermill loses the parameter {target.id!r}: {line.strip()!r}", "no second '=' in the comment, and one plain type or none", "mend the line in JupyterLab")
        found[target.id] = Parameter(target.id, kind, default, sentence)
    return found


class Text(str):
    """A value as it was typed, to be read by the parameter's declared type."""


@dataclass(frozen=True)
class Resolved:
    """A parameter with the value that a run uses, where that came from, and what it may be."""

    parameter: Parameter
    value: Any
    origin: str
    least: Any = None
    most: Any = None
    choices: list[Any] | None = None


def resolve(project: Project, stage: str, given: Mapping[str, Any]) -> dict[str, Resolved]:
    """Each parameter of a stage's notebook with its value: notebook, run-wide, mlops.yaml, environment, what is given; the later over the earlier.

    Raises
    ------
    KitError
        For a name that the notebook does not have, a value of another type, or one outside what ``mlops.yaml`` declares.
    """
    known, config = read(project.notebook(stage)), project.config
    wide = {"as_of": config.as_of.isoformat() if config.as_of else "", "until": config.until.isoformat() if config.until else "", "sample": config.sample, "seed": config.seed}
    declared = {n: v if n in known and declares(v, known[n]) else {"value": v} for n, v in config.stages[stage].params.items()}
    layers = [
        ("notebook", {n: p.default for n, p in known.items()}), (FILE, {n: wide[n] for n in SHARED if n in known}), (FILE, {n: d["value"] for n, d in declared.items() if "value" in d}),
        ("environment", from_environment(project).get(stage, {})), ("-p", given),
    ]  # fmt: skip
    for name in [*declared, *given]:
        if name not in known:
            raise KitError(f"{stage} has no parameter {name!r}", nearest(name, known) if known else "none: its parameters cell is empty", f"mlops params {stage} lists them")
    found = {}
    for origin, values in layers:
        for name, value in values.items():
            said = f"{variable(stage, name)} of the environment" if origin == "environment" else origin
            about = {k: v for k, v in declared.get(name, {}).items() if k != "value"}
            found[name] = Resolved(known[name], cast(stage, known[name], value, said), said, **about)
    return {name: within(stage, r) for name, r in found.items()}


def values(found: Mapping[str, Resolved]) -> dict[str, Any]:
    """Name and value of each resolved parameter."""
    return {name: r.value for name, r in found.items()}


def declares(value: Any, parameter: Parameter) -> bool:
    """Whether an entry of ``stages.NAME.params`` says what a parameter may be, and is not its value."""
    keys = set(value) if isinstance(value, dict) else set()
    return bool(keys) and keys <= {"value", "least", "most", "choices"} and (parameter.kind != "dict" or keys != {"value"})


def span(found: Resolved) -> str:
    """What is declared of a parameter, in words; empty if nothing is."""
    if found.choices is not None:
        return " | ".join(map(str, found.choices))
    return " and ".join(f"{word} {limit!r}" for word, limit in (("at least", found.least), ("at most", found.most)) if limit is not None)


def within(stage: str, found: Resolved) -> Resolved:
    """The same, if it lies within what is declared of it."""
    value, name = found.value, f"{stage}.{found.parameter.name}"
    if value is None:
        return found
    if found.choices is not None and value not in found.choices:
        raise KitError(f"{name}: {value!r} ({found.origin}) is not among its choices", nearest(str(value), map(str, found.choices)), f"edit it, or stages.{stage}.params in {FILE}")
    if found.least is not None and not value >= found.least or found.most is not None and not value <= found.most:
        raise KitError(f"{name}: {value!r} ({found.origin}) is out of its range", span(found), f"edit it, or stages.{stage}.params in {FILE}")
    return found


def cast(stage: str, parameter: Parameter, value: Any, origin: str) -> Any:
    """A value as its parameter's type; text is read by that type, an int is a float too, nothing else is bent."""
    said = f"{stage}.{parameter.name}: {value!r} ({origin})"
    expected = f"{parameter.type or 'a plain value'}{': ' + parameter.sentence if parameter.sentence else ''}"
    cure = f"-p {stage}.{parameter.name}=…"
    try:
        made = exact(typed(value, parameter.kind) if isinstance(value, Text) else value)
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise KitError(f"{said} cannot be handed to a notebook as it is" if isinstance(error, TypeError) else f"{said} is no {parameter.type or 'value'}", expected, cure) from error
    wanted = TYPES.get(parameter.kind)
    if wanted is None or made is None:
        return made
    if wanted is float and type(made) is int:
        return float(made)
    if type(made) is not wanted:
        raise KitError(f"{said} is a {type(made).__name__}", expected, cure)
    if parameter.kind in MOMENTS:
        try:
            MOMENTS[parameter.kind].fromisoformat(made)
        except ValueError as error:
            raise KitError(f"{said} is no {parameter.kind} such as 2013-07-01 (ISO 8601)", expected, cure) from error
    return made


def typed(text: str, kind: str) -> Any:
    """Text as a type: ``007`` is 7 for an int and stays ``007`` for text."""
    if kind in {"str", "Path", *MOMENTS}:
        return str(text)
    if kind == "bool":
        return BOOLS[text.strip().lower()] if text.strip().lower() in BOOLS else str(text)
    if text.strip() in {"null", "None", "~"}:
        return None
    if kind in {"int", "float"}:
        return TYPES[kind](text)
    return yaml.load(text, Loader) if text else ""  # noqa: S506 - a SafeLoader whose dates stay text


def exact(value: Any) -> Any:
    """A value as papermill hands it on without loss: NumPy scalars, paths, dates and tuples as what they say.

    Raises
    ------
    TypeError
        For anything that would arrive as something else.
    """
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if isinstance(value, dict) and value.keys() == {"__float__"}:
        return float(value["__float__"])
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {str(k): exact(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(v) for v in value]
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, (PurePath, Text)):
        return str(value)
    if getattr(value, "ndim", None) == 0 and getattr(value, "dtype", None) is not None and value.dtype.kind in "biufU" and value.dtype.itemsize != 16:
        return exact(value.item())
    raise TypeError(type(value).__name__)


def kept(found: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON can hold them and ``exact`` reads them back."""

    def plain(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return {"__float__": repr(value)}
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return {name: plain(value) for name, value in found.items()}


def variable(stage: str, name: str) -> str:
    """The environment variable of a parameter."""
    return f"MLOPS_PARAM_{stage}_{name}".upper()


def from_environment(project: Project) -> dict[str, dict[str, Any]]:
    """What ``MLOPS_PARAM_STAGE_NAME`` variables give, by stage and name.

    Raises
    ------
    KitError
        For a variable that names no parameter.
    """
    there = {n: v for n, v in os.environ.items() if n.startswith("MLOPS_PARAM_")}
    if not there:
        return {}
    places = {variable(s, n): (s, n) for s in project.config.stages if project.notebook(s).exists() for n in read(project.notebook(s))}
    out: dict[str, dict[str, Any]] = {}
    for name, text in there.items():
        if name not in places:
            raise KitError(f"the environment variable {name} names no parameter", nearest(name, places), f"unset {name}, or rename it")
        stage, parameter = places[name]
        out.setdefault(stage, {})[parameter] = Text(text)
    return out


def from_text(items: list[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """``["train.trials=5"]`` as ``{"train": {"trials": Text("5")}}``: the notebook's type says what it is."""
    out: dict[str, dict[str, Any]] = {}
    for item in items:
        left, equals, text = item.partition("=")
        stage, dot, name = left.partition(".")
        if not (equals and dot and name):
            raise KitError(f"-p {item!r} cannot be read", "stage.name=value", "-p train.seed=1")
        if stage not in stages:
            raise KitError(f"-p {item!r}: unknown stage {stage!r}", nearest(stage, stages))
        out.setdefault(stage, {})[name] = Text(text)
    return out
