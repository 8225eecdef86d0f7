"""The parameters cell as an interface: read with ``ast``, checked before any kernel starts.

A line is ``name: type = literal  # Sentence.``; papermill only warns of an unknown parameter and
goes on with the default, here it is an error with the nearest name.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import Any

import yaml

from mlops_kit.config import FILE, Loader, Project
from mlops_kit.errors import KitError, nearest

SHARED = (
    "as_of",
    "until",
    "sample",
    "seed",
)  # run-wide values given to each notebook that declares them
MOMENTS: dict[str, Any] = {"date": date, "datetime": datetime}
TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "Path": str,
    "date": str,
    "datetime": str,
}
DECLARED = ("value", "least", "most", "choices")  # what an entry of stages.NAME.params may say
RESERVED = {
    "__float__",
    "__kind__",
    "__frame__",
}  # by these keys a manifest tells what JSON has no word for
BOOLS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``type`` is the default's if none is written, and empty if that is None or ``""``: any value is meant."""

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
    try:
        held = json.loads(notebook.read_text(encoding="utf-8"))
        return [{**c, "source": "".join(c["source"])} for c in held["cells"]]
    except FileNotFoundError as error:
        raise KitError(
            f"the notebook {notebook.name!r} does not exist",
            str(notebook.parent),
            "put it there, or name another under 'stages'",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{notebook.name} is not a notebook: {error}",
            "a file that JupyterLab opens",
            "restore it from git",
        ) from error


def question(notebook: Path) -> str:
    """The notebook's title, which is the question that its stage answers; its file's name without one.

    A run of one stage needs no other stage's notebook.
    """
    if not notebook.exists():
        return notebook.stem
    titled = (c["source"].lstrip() for c in cells(notebook) if c["cell_type"] == "markdown")
    return next(
        (t.splitlines()[0].removeprefix("# ") for t in titled if t.startswith("# ")), notebook.stem
    )


def read(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, by name.

    Raises
    ------
    KitError
        If no cell is tagged ``parameters``, it holds more than literals, or a line of it is one that papermill loses.
    """
    tagged = [c for c in code_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    if not tagged:
        raise KitError(
            f"{notebook.name} has no cell tagged 'parameters'",
            "one, near the top",
            "add the tag in JupyterLab (property inspector)",
        )
    text = tagged[0]["source"]
    found: dict[str, Parameter] = {}
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise KitError(
            f"{notebook.name}: line {error.lineno} of the parameters cell is no Python: {(error.text or '').strip()!r}",
            "lines of name: type = literal  # Sentence.",
            "mend it in JupyterLab",
        ) from error
    for node in body:
        made = parameter(notebook.name, node, text.split("\n")[node.lineno - 1 : node.end_lineno])
        if found.setdefault(made.name, made) is not made:
            raise KitError(
                f"{notebook.name}: the parameters cell sets {made.name!r} twice",
                "each name once",
                "take one line out",
            )
    return found


def parameter(book: str, node: ast.stmt, lines: list[str]) -> Parameter:
    """One statement of a parameters cell, which is these lines, as a parameter."""
    target = (
        node.target
        if isinstance(node, ast.AnnAssign)
        else node.targets[0]
        if isinstance(node, ast.Assign)
        else None
    )
    if (
        not isinstance(node, (ast.AnnAssign, ast.Assign))
        or not isinstance(target, ast.Name)
        or node.value is None
    ):
        raise KitError(
            f"{book}: the parameters cell holds {ast.unparse(node)!r}",
            "lines of name: type = literal  # Sentence.",
            "move it to another cell",
        )
    try:
        default = ast.literal_eval(node.value)
        if exact(default) != default:
            raise TypeError("a tuple")
    except (ValueError, TypeError) as error:
        raise KitError(
            f"{book}: parameter {target.id!r} is not a plain literal: {ast.unparse(node.value)}",
            "a number, text, list or dict written out",
            "move the computation to another cell",
        ) from error
    annotated = ast.unparse(node.annotation).strip("'") if isinstance(node, ast.AnnAssign) else ""
    if "\n".join(lines).count("=") > 1:
        raise KitError(
            f"{book}: papermill loses the parameter {target.id!r}: {lines[0].strip()!r}",
            "no second '=', not even in text or in the comment",
            "mend the line in JupyterLab",
        )
    if not re.fullmatch(rf"(({'|'.join(TYPES)})\b[\[\], ]*)*", annotated):
        raise KitError(
            f"{book}: parameter {target.id!r} has the type {annotated!r}, which papermill loses or nothing checks",
            f"{nearest(annotated, TYPES)}; none, and a default of None or '', if any value is meant",
            "mend the line in JupyterLab",
        )
    sentence = (
        lines[-1].encode()[node.end_col_offset :].decode().partition("#")[2].strip()
    )  # ast counts bytes
    return Parameter(
        target.id,
        annotated or ("" if default in (None, "") else type(default).__name__),
        default,
        sentence,
    )


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
    own, around = config.stages[stage].params, from_environment(project, stage)
    for name in [*own, *given]:
        if name not in known:
            raise KitError(
                f"{stage} has no parameter {name!r}",
                nearest(name, known) if known else "none: its parameters cell is empty",
                f"mlops params {stage} lists them",
            )
    said = {n: declaration(stage, known[n], entry) for n, entry in own.items()}
    wide = {
        n: v
        for n in SHARED
        if n in known and n in config.model_fields_set and (v := getattr(config, n)) is not None
    }
    layers = [
        *(("notebook", n, p.default) for n, p in known.items()),
        *((project.given.get(n, FILE), n, v) for n, v in wide.items()),
        *((FILE, n, d.pop("value")) for n, d in said.items() if "value" in d),
        *((f"environment {variable(stage, n)}", n, v) for n, v in around.items()),
        *(("-p", n, v) for n, v in given.items()),
    ]
    found = {
        name: Resolved(
            known[name], cast(stage, known[name], value, origin), origin, **said.get(name, {})
        )
        for origin, name, value in layers
    }
    return {name: within(stage, r) for name, r in found.items()}


def values(found: Mapping[str, Resolved]) -> dict[str, Any]:
    """Name and value of each resolved parameter."""
    return {name: r.value for name, r in found.items()}


def declaration(stage: str, parameter: Parameter, entry: Any) -> dict[str, Any]:
    """An entry of ``stages.NAME.params`` as what it says: value, least, most, choices; one that is no mapping is the value."""
    if (
        not isinstance(entry, dict)
        or parameter.kind == "dict"
        and not {"value"} < {*entry, "value"} <= {*DECLARED}
    ):
        return {"value": entry}
    place = f"stages.{stage}.params.{parameter.name}"
    for key in entry:
        if key not in DECLARED:
            raise KitError(
                f"{place} says {key!r}",
                nearest(key, DECLARED),
                f"edit {FILE}; a mapping that is the value stands under 'value'",
            )
    if not isinstance(entry.get("choices", []), list):
        raise KitError(
            f"{place} has the choices {entry['choices']!r}",
            "a list, such as [quick, full]",
            f"edit {FILE}",
        )
    limits = {
        k: cast(stage, parameter, v, f"{k} of {FILE}")
        for k, v in entry.items()
        if k in {"least", "most"}
    }
    listed = {
        k: [cast(stage, parameter, c, f"{k} of {FILE}") for c in v]
        for k, v in entry.items()
        if k == "choices"
    }
    return entry | limits | listed


def span(found: Resolved) -> str:
    """What is declared of a parameter, in words; empty if nothing is."""
    if found.choices is not None:
        return " | ".join(map(str, found.choices))
    return " and ".join(
        f"{word} {limit!r}"
        for word, limit in (("at least", found.least), ("at most", found.most))
        if limit is not None
    )


def within(stage: str, found: Resolved) -> Resolved:
    """The same, if it lies within what is declared of it."""
    value, name, kind = found.value, f"{stage}.{found.parameter.name}", found.parameter.kind
    cure = f"edit it, or stages.{stage}.params in {FILE}"
    if value is not None and found.choices is not None and value not in found.choices:
        raise KitError(
            f"{name}: {value!r} ({found.origin}) is not among its choices",
            nearest(str(value), map(str, found.choices)),
            cure,
        )
    as_read = MOMENTS[kind].fromisoformat if kind in MOMENTS else lambda v: v
    try:
        inside = value is None or all(
            as_read(low) <= as_read(high)
            for low, high in ((found.least, value), (value, found.most))
            if None not in (low, high)
        )
    except TypeError:  # text against a number, a moment with a zone against one without
        inside = False
    if not inside:
        raise KitError(f"{name}: {value!r} ({found.origin}) is out of its range", span(found), cure)
    return found


def origins(found: Mapping[str, Resolved]) -> str:
    """The values by where they came from: ``k = 3 (-p); seed = 0, sample = 0 (notebook)``."""
    by_origin: dict[str, list[str]] = {}
    for name, one in found.items():
        by_origin.setdefault(one.origin, []).append(f"{name} = {one.value!r}")
    return "; ".join(f"{', '.join(said)} ({origin})" for origin, said in by_origin.items())


def cast(stage: str, parameter: Parameter, value: Any, origin: str) -> Any:
    """A value as its parameter's type; text is read by that type, an int is a float too, nothing else is bent.

    Raises
    ------
    KitError
        For a value of another type, or one that cannot reach a kernel as it is. None is a value where the default is None.
    """
    try:
        made = exact(typed(value, parameter.type) if isinstance(value, Text) else value)
        return None if made is None and parameter.default is None else fitted(made, parameter.type)
    except (TypeError, RecursionError):
        fault = "cannot be handed to a notebook as it is"
    except (ValueError, OverflowError, yaml.YAMLError):
        fault = f"is no {parameter.type or 'value'}"
    expected = f"{parameter.type or 'a plain value'}{' such as 2013-07-01 (ISO 8601)' if parameter.kind in MOMENTS else ''}{': ' + parameter.sentence if parameter.sentence else ''}"
    cure = {
        "-p": f"-p {stage}.{parameter.name}=…",
        "notebook": f"edit the parameters cell of {stage}",
    }.get(origin, f"mend {origin}")
    raise KitError(f"{stage}.{parameter.name}: {value!r} ({origin}) {fault}", expected, cure)


def typed(text: str, declared: str) -> Any:
    """Text as a type: ``007`` is 7 for an int and stays ``007`` for text."""
    kind = declared.partition("[")[0]
    if kind in {"str", "Path", *MOMENTS}:
        return str(text)
    if text.strip() in {"null", "None", "~"}:
        return None
    if kind == "bool":
        return BOOLS.get(text.strip().lower(), str(text))
    if kind in {"int", "float"}:
        return TYPES[kind](text)
    if declared in {"list[str]", "dict[str, str]"}:
        return yaml.load(text, yaml.BaseLoader)  # noqa: S506 - it makes text of all that it finds
    with suppress(ValueError):
        if kind:
            return json.loads(text)
    return yaml.load(text, Loader) if text else ""  # noqa: S506 - a SafeLoader whose dates stay text


def fitted(value: Any, declared: str) -> Any:
    """A value that is of the declared type, and all that it holds of the inner one; a ValueError if not."""
    kind, _, inner = declared.partition("[")
    wanted, inner = TYPES.get(kind), inner[:-1].removeprefix("str, ")
    if wanted is float and type(value) is int and float(value) == value:
        return float(value)
    if wanted and type(value) is not wanted:
        raise ValueError(type(value).__name__)
    if kind in MOMENTS:
        value = value.removesuffix("T00:00:00") if kind == "date" else value
        MOMENTS[kind].fromisoformat(value)
    if inner and wanted is dict:
        return {k: fitted(v, inner) for k, v in value.items()}
    return [fitted(v, inner) for v in value] if inner and wanted is list else value


def exact(value: Any, depth: int = 0) -> Any:
    """A value as papermill hands it on without loss: NumPy scalars, paths, dates and tuples as what they say.

    Raises
    ------
    TypeError
        For anything that would arrive as something else, or is nested deeper than Python reads.
    ValueError
        For half a character, and an int of more digits than Python writes.
    """
    if value is None or type(value) in {bool, int, float, str}:
        str(value).encode()
        return value
    if depth > 100:
        raise TypeError("nested too deeply")
    if (
        isinstance(value, dict)
        and value.keys() == {"__float__"}
        and value["__float__"] in ("nan", "inf", "-inf")
    ):
        return float(value["__float__"])
    if isinstance(value, dict) and all(type(k) is str and k not in RESERVED for k in value):
        return {exact(k): exact(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [exact(v, depth + 1) for v in value]
    if isinstance(value, date) and value.isoformat() != "NaT":
        return value.isoformat()
    if isinstance(value, (PurePath, Text)):
        return exact(str(value))
    if (
        getattr(value, "shape", None) == ()
        and value.dtype.kind in "biufU"
        and type(value.item()) in {bool, int, float, str}
    ):
        return exact(value.item())
    raise TypeError(type(value).__name__)


def kept(value: Any) -> Any:
    """A value, or values by name, as JSON can hold them and ``exact`` reads them back."""
    if isinstance(value, dict):
        return {k: kept(v) for k, v in value.items()}
    if isinstance(value, list):
        return [kept(v) for v in value]
    return (
        {"__float__": repr(value)}
        if isinstance(value, float) and not math.isfinite(value)
        else value
    )


def variable(stage: str, name: str) -> str:
    """The environment variable of a parameter."""
    return re.sub(r"\W", "_", f"MLOPS_PARAM_{stage}_{name}").upper()


def from_environment(project: Project, stage: str) -> dict[str, Text]:
    """What ``MLOPS_PARAM_STAGE_NAME`` variables give a stage, by name.

    Raises
    ------
    KitError
        For a variable that names no parameter of any stage.
    """
    there = {n: Text(v) for n, v in os.environ.items() if n.startswith("MLOPS_PARAM_")}
    places = {
        variable(s, n): (s, n)
        for s in (project.config.stages if there else ())
        if project.notebook(s).exists()
        for n in read(project.notebook(s))
    }
    for name in there:
        if name not in places:
            raise KitError(
                f"the environment variable {name} names no parameter",
                nearest(name, places),
                f"unset {name}, or rename it",
            )
    return {places[n][1]: v for n, v in there.items() if places[n][0] == stage}


def from_text(items: list[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """``["train.trials=5"]`` as ``{"train": {"trials": Text("5")}}``: the notebook's type says what it is; after ``:=`` stands JSON, taken as it is."""
    out: dict[str, dict[str, Any]] = {}
    for item in items:
        left, equals, text = item.partition("=")
        stage, dot, name = left.removesuffix(":").partition(".")
        if not (equals and dot and name):
            raise KitError(f"-p {item!r} cannot be read", "stage.name=value", "-p train.seed=1")
        if stage not in stages:
            raise KitError(f"-p {item!r}: unknown stage {stage!r}", nearest(stage, stages))
        try:
            out.setdefault(stage, {})[name] = json.loads(text) if left.endswith(":") else Text(text)
        except ValueError as error:
            raise KitError(
                f"-p {item!r} cannot be read", "JSON after ':='", "-p train.seed:=1"
            ) from error
    return out


def as_text(name: str, value: Any) -> str:
    """What ``-p`` says of a value so that ``from_text`` reads that very value.

    >>> as_text("train.seed", "007")
    'train.seed:="007"'

    Raises
    ------
    KitError
        For a value that cannot reach a kernel as it is.
    """
    stage, _, short = name.partition(".")
    return f"{name}:={json.dumps(kept(cast(stage, Parameter(short, '', None, ''), value, '-p')))}"
