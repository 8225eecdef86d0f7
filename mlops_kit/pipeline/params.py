"""The parameters cell as an interface: read with ``ast``, checked before any kernel starts.

A line is ``name: type = literal  # Sentence.``; papermill only warns of an unknown parameter and
goes on with the default, here it is an error with the nearest name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.pipeline.param_types import (
    TEMPORAL_TYPES,
    Parameter,
    UntypedText,
    cast_value,
    encode_value,
)
from mlops_kit.pipeline.parameter_cell import read_parameters
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.loader import Project

SHARED_PARAMETERS = (
    "as_of",
    "until",
    "sample",
    "seed",
)  # run-wide values given to each notebook that declares them
_DECLARATION_KEYS = (
    "value",
    "least",
    "most",
    "choices",
)  # what an entry of stages.NAME.params may say


@dataclass(frozen=True)
class ResolvedParameter:
    """A parameter with the value that a run uses, where that came from, and what it may be."""

    parameter: Parameter
    value: Any
    origin: str
    min: Any = None
    max: Any = None
    choices: list[Any] | None = None


def resolve_parameters(
    project: Project, stage: str, given: Mapping[str, Any]
) -> dict[str, ResolvedParameter]:
    """Each parameter of a stage's notebook with its value: notebook, run-wide, mlops.yaml, environment, what is given; the later over the earlier.

    Raises
    ------
    KitError
        For a name that the notebook does not have, a value of another type, or one outside what ``mlops.yaml`` declares.
    """
    known, config = read_parameters(project.get_notebook_path(stage)), project.config
    own, around = config.stages[stage].params, _read_environment_values(project, stage)
    for name in [*own, *given]:
        if name not in known:
            raise KitError(
                f"{stage} has no parameter {name!r}",
                suggest_names(name, known) if known else "none: its parameters cell is empty",
                f"mlops params {stage} lists them",
            )
    said = {n: _parse_declaration(stage, known[n], entry) for n, entry in own.items()}
    wide = {
        n: v
        for n in SHARED_PARAMETERS
        if n in known and n in config.model_fields_set and (v := getattr(config, n)) is not None
    }
    layers = [
        *(("notebook", n, p.default) for n, p in known.items()),
        *((project.value_origins.get(n, CONFIG_FILE_NAME), n, v) for n, v in wide.items()),
        *((CONFIG_FILE_NAME, n, d.pop("value")) for n, d in said.items() if "value" in d),
        *((f"environment {_get_variable_name(stage, n)}", n, v) for n, v in around.items()),
        *(("-p", n, v) for n, v in given.items()),
    ]
    found = {
        name: ResolvedParameter(
            known[name], cast_value(stage, known[name], value, origin), origin, **said.get(name, {})
        )
        for origin, name, value in layers
    }
    return {name: _check_allowed_values(stage, r) for name, r in found.items()}


def extract_values(found: Mapping[str, ResolvedParameter]) -> dict[str, Any]:
    """Name and value of each resolved parameter."""
    return {name: r.value for name, r in found.items()}


def _parse_declaration(stage: str, parameter: Parameter, entry: Any) -> dict[str, Any]:
    """An entry of ``stages.NAME.params`` as what it says: value, least, most, choices; one that is no mapping is the value."""
    if (
        not isinstance(entry, dict)
        or parameter.base_type == "dict"
        and not {"value"} < {*entry, "value"} <= {*_DECLARATION_KEYS}
    ):
        return {"value": entry}
    place = f"stages.{stage}.params.{parameter.name}"
    for key in entry:
        if key not in _DECLARATION_KEYS:
            raise KitError(
                f"{place} says {key!r}",
                suggest_names(key, _DECLARATION_KEYS),
                f"edit {CONFIG_FILE_NAME}; a mapping that is the value stands under 'value'",
            )
    if not isinstance(entry.get("choices", []), list):
        raise KitError(
            f"{place} has the choices {entry['choices']!r}",
            "a list, such as [quick, full]",
            f"edit {CONFIG_FILE_NAME}",
        )
    limits = {
        k: cast_value(stage, parameter, v, f"{k} of {CONFIG_FILE_NAME}")
        for k, v in entry.items()
        if k in {"least", "most"}
    }
    listed = {
        k: [cast_value(stage, parameter, c, f"{k} of {CONFIG_FILE_NAME}") for c in v]
        for k, v in entry.items()
        if k == "choices"
    }
    return entry | limits | listed


def describe_allowed_values(found: ResolvedParameter) -> str:
    """What is declared of a parameter, in words; empty if nothing is."""
    if found.choices is not None:
        return " | ".join(map(str, found.choices))
    return " and ".join(
        f"{word} {limit!r}"
        for word, limit in (("at least", found.min), ("at most", found.max))
        if limit is not None
    )


def _check_allowed_values(stage: str, found: ResolvedParameter) -> ResolvedParameter:
    """The same, if it lies within what is declared of it."""
    value, name, kind = found.value, f"{stage}.{found.parameter.name}", found.parameter.base_type
    cure = f"edit it, or stages.{stage}.params in {CONFIG_FILE_NAME}"
    if value is not None and found.choices is not None and value not in found.choices:
        raise KitError(
            f"{name}: {value!r} ({found.origin}) is not among its choices",
            suggest_names(str(value), map(str, found.choices)),
            cure,
        )
    as_read = TEMPORAL_TYPES[kind].fromisoformat if kind in TEMPORAL_TYPES else lambda v: v
    try:
        inside = value is None or all(
            as_read(low) <= as_read(high)
            for low, high in ((found.min, value), (value, found.max))
            if None not in (low, high)
        )
    except TypeError:  # text against a number, a moment with a zone against one without
        inside = False
    if not inside:
        raise KitError(
            f"{name}: {value!r} ({found.origin}) is out of its range",
            describe_allowed_values(found),
            cure,
        )
    return found


def format_value_origins(found: Mapping[str, ResolvedParameter]) -> str:
    """The values by where they came from: ``k = 3 (-p); seed = 0, sample = 0 (notebook)``."""
    by_origin: dict[str, list[str]] = {}
    for name, one in found.items():
        by_origin.setdefault(one.origin, []).append(f"{name} = {one.value!r}")
    return "; ".join(f"{', '.join(said)} ({origin})" for origin, said in by_origin.items())


def _get_variable_name(stage: str, name: str) -> str:
    """The environment variable of a parameter."""
    return re.sub(r"\W", "_", f"MLOPS_PARAM_{stage}_{name}").upper()


def _read_environment_values(project: Project, stage: str) -> dict[str, UntypedText]:
    """What ``MLOPS_PARAM_STAGE_NAME`` variables give a stage, by name.

    Raises
    ------
    KitError
        For a variable that names no parameter of any stage.
    """
    there = {n: UntypedText(v) for n, v in os.environ.items() if n.startswith("MLOPS_PARAM_")}
    places = {
        _get_variable_name(s, n): (s, n)
        for s in (project.config.stages if there else ())
        if project.get_notebook_path(s).exists()
        for n in read_parameters(project.get_notebook_path(s))
    }
    for name in there:
        if name not in places:
            raise KitError(
                f"the environment variable {name} names no parameter",
                suggest_names(name, places),
                f"unset {name}, or rename it",
            )
    return {places[n][1]: v for n, v in there.items() if places[n][0] == stage}


def parse_parameter_options(items: list[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """``["train.trials=5"]`` as ``{"train": {"trials": Text("5")}}``: the notebook's type says what it is; after ``:=`` stands JSON, taken as it is."""
    out: dict[str, dict[str, Any]] = {}
    for item in items:
        left, equals, text = item.partition("=")
        stage, dot, name = left.removesuffix(":").partition(".")
        if not (equals and dot and name):
            raise KitError(f"-p {item!r} cannot be read", "stage.name=value", "-p train.seed=1")
        if stage not in stages:
            raise KitError(f"-p {item!r}: unknown stage {stage!r}", suggest_names(stage, stages))
        try:
            out.setdefault(stage, {})[name] = (
                json.loads(text) if left.endswith(":") else UntypedText(text)
            )
        except ValueError as error:
            raise KitError(
                f"-p {item!r} cannot be read", "JSON after ':='", "-p train.seed:=1"
            ) from error
    return out


def format_parameter_option(name: str, value: Any) -> str:
    """What ``-p`` says of a value so that ``from_text`` reads that very value.

    >>> as_text("train.seed", "007")
    'train.seed:="007"'

    Raises
    ------
    KitError
        For a value that cannot reach a kernel as it is.
    """
    stage, _, short = name.partition(".")
    return f"{name}:={json.dumps(encode_value(cast_value(stage, Parameter(short, '', None, ''), value, '-p')))}"
