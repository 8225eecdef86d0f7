"""The types of notebook parameters: what values they accept, and how values are stored.

To add a type: an entry of ``PARAMETER_TYPES``; one that is written as text and checked by
``fromisoformat`` also in ``TEMPORAL_TYPES``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.project.loader import DateAsTextLoader

TEMPORAL_TYPES: dict[str, type[date]] = {"date": date, "datetime": datetime}
PARAMETER_TYPES: dict[str, type] = {
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
# Keys with a meaning in stored JSON (core.serialization): no dict parameter can have them.
RESERVED_KEYS = frozenset({"__float__", "__kind__", "__frame__"})
_BOOLEAN_WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NULL_WORDS = frozenset({"null", "None", "~"})
_NON_FINITE_FLOATS = ("nan", "inf", "-inf")
_PLAIN_TYPES = frozenset({bool, int, float, str})
_MAX_NESTING = 100  # Python's parser does not read much deeper literals

StageValues = Mapping[str, Any]  # parameter values of one stage, by name


@dataclass(frozen=True)
class ComputedDefault:
    """A default that only running the notebook tells, such as ``date(2024, 2, 29)``.

    The notebook keeps it, unless the parameter is given another value.
    """

    source: str

    def __repr__(self) -> str:
        return self.source


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell.

    Attributes
    ----------
    type : str
        The annotation, or the type of the default; empty if neither says it (a default of None or
        ``""``, a type that is not known): then any value is accepted.
    default : Any
        The value of the line, or a ``ComputedDefault``.
    description : str
        The comment at the end of the line.
    is_optional : bool
        Whether the type says that None is accepted.
    is_untyped : bool
        Whether the cell has a type or default from which no type can be told without running it:
        a value is passed as it is.
    """

    name: str
    type: str
    default: Any
    description: str
    is_optional: bool = False
    is_untyped: bool = False

    @property
    def base_type(self) -> str:
        """The type without its items: ``list`` for ``list[str]``."""
        return self.type.partition("[")[0]


class UntypedText(str):
    """Text from the command line or the environment, to be parsed as the parameter's type."""

    __slots__ = ()


def cast_value(
    stage: str,
    parameter: Parameter,
    value: Any,
    origin: str,
) -> Any:
    """Return a value with the type of its parameter.

    Text is parsed as that type and an integer is accepted as a float; nothing else is converted.
    None is accepted where it is the default or the type says so.

    Parameters
    ----------
    origin : str
        Where the value comes from, for the error message.

    Raises
    ------
    KitError
        For a value of another type, or one that cannot be passed to a kernel unchanged.
    """
    if isinstance(value, ComputedDefault):
        return value
    accepts_none = parameter.default is None or parameter.is_optional
    try:
        if isinstance(value, UntypedText):
            plain = normalize_value(_parse_text(value, parameter.type))
        else:
            plain = normalize_value(value)
        if plain is None and accepts_none:
            return None
        return _coerce_to_type(plain, parameter.type)
    except (TypeError, RecursionError):
        fault = "cannot be passed to a notebook unchanged"
    except (ValueError, OverflowError, yaml.YAMLError):
        fault = f"is not a valid {parameter.type or 'value'}"
    hints = {
        "-p": f"-p {stage}.{parameter.name}=…",
        "notebook": f"edit the parameters cell of {stage}",
    }
    raise KitError(
        f"{stage}.{parameter.name}: {value!r} ({origin}) {fault}",
        _describe_type(parameter),
        hints.get(origin, f"correct {origin}"),
    )


def _describe_type(parameter: Parameter) -> str:
    """Return what values a parameter accepts, with its description."""
    text = parameter.type or "a plain value"
    if parameter.base_type in TEMPORAL_TYPES:
        text += " such as 2013-07-01 (ISO 8601)"
    if parameter.description:
        text += f": {parameter.description}"
    return text


def _parse_text(text: str, type_name: str) -> Any:
    """Parse text as a type: ``007`` is 7 for an int and stays ``007`` for a str."""
    base_type = type_name.partition("[")[0]
    word = text.strip()
    if base_type in {"str", "Path", *TEMPORAL_TYPES}:
        return str(text)
    if word in _NULL_WORDS:
        return None
    if base_type == "bool":
        return _BOOLEAN_WORDS.get(word.lower(), str(text))
    if base_type in {"int", "float"}:
        return PARAMETER_TYPES[base_type](text)
    if type_name in {"list[str]", "dict[str, str]"}:
        return parse_yaml(text, yaml.BaseLoader)
    if base_type:
        with suppress(ValueError):  # not JSON: YAML, which is easier to type
            return json.loads(text)
    return parse_yaml(text, DateAsTextLoader) if text else ""


def parse_yaml(text: str, loader_class: type[yaml.BaseLoader] | type[yaml.SafeLoader]) -> Any:
    """Return the value of a YAML text.

    Parameters
    ----------
    loader_class : type
        ``yaml.BaseLoader``, which leaves all scalars text, or a safe loader.
    """
    loader = loader_class(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _coerce_to_type(value: Any, type_name: str) -> Any:
    """Return a value of the declared type, with its items of the declared item type.

    Raises
    ------
    ValueError
        If the value or an item has another type.
    """
    base_type, _, items = type_name.partition("[")
    item_type = items.removesuffix("]").removeprefix("str, ")
    expected = PARAMETER_TYPES.get(base_type)
    if expected is float and type(value) is int and float(value) == value:
        return float(value)
    if expected is not None and type(value) is not expected:
        raise ValueError(f"a {type(value).__name__}, not a {base_type}")
    if base_type in TEMPORAL_TYPES:
        text = value.removesuffix("T00:00:00") if base_type == "date" else value
        TEMPORAL_TYPES[base_type].fromisoformat(text)
        return text
    if item_type and expected is dict:
        return {key: _coerce_to_type(item, item_type) for key, item in value.items()}
    if item_type and expected is list:
        return [_coerce_to_type(item, item_type) for item in value]
    return value


def normalize_value(value: Any, depth: int = 0) -> Any:
    """Return a value as papermill passes it on without loss.

    NumPy scalars, paths, dates and tuples become plain numbers, text and lists.

    Raises
    ------
    TypeError
        For anything that would arrive as something else, or is nested too deeply.
    ValueError
        For text with half a surrogate pair, and an int with more digits than Python writes.
    """
    if value is None or type(value) in _PLAIN_TYPES:
        str(value).encode()  # raises the ValueError
        return value
    if depth > _MAX_NESTING:
        raise TypeError(f"nested deeper than {_MAX_NESTING} levels")
    if isinstance(value, dict):
        return _normalize_dict(value, depth)
    if isinstance(value, list | tuple):
        return [normalize_value(item, depth + 1) for item in value]
    if isinstance(value, date) and value.isoformat() != "NaT":
        return value.isoformat()
    if isinstance(value, PurePath | UntypedText):
        return normalize_value(str(value))
    if _is_numpy_scalar(value):
        return normalize_value(value.item())
    raise TypeError(f"a {type(value).__name__}")


def _normalize_dict(value: dict[Any, Any], depth: int) -> Any:
    """Return a dict with normalized items; the float that an encoded one stands for."""
    if value.keys() == {"__float__"} and value["__float__"] in _NON_FINITE_FLOATS:
        return float(value["__float__"])
    normalized = {}
    for key, item in value.items():
        if type(key) is not str or key in RESERVED_KEYS:
            raise TypeError(f"a dict with the key {key!r}")
        normalized[normalize_value(key)] = normalize_value(item, depth + 1)
    return normalized


def _is_numpy_scalar(value: Any) -> bool:
    """Return whether a value is a NumPy number, truth value or text that Python has too."""
    if getattr(value, "shape", None) != ():
        return False
    return value.dtype.kind in "biufU" and type(value.item()) in _PLAIN_TYPES


def encode_value(value: Any) -> Any:
    """Return a value (or values by name) as JSON can store it.

    ``normalize_value`` decodes it.
    """
    if isinstance(value, dict):
        return {key: encode_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [encode_value(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"__float__": repr(value)}
    return value
