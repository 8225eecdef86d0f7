"""Param types."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePath
from typing import Any

import yaml

from mlops_kit.core.errors import KitError
from mlops_kit.project.loader import DateAsTextLoader

TEMPORAL_TYPES: dict[str, Any] = {"date": date, "datetime": datetime}
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
RESERVED_KEYS = {
    "__float__",
    "__kind__",
    "__frame__",
}  # by these keys a manifest tells what JSON has no word for
_BOOLEAN_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


@dataclass(frozen=True)
class Parameter:
    """One line of a parameters cell; ``type`` is the default's if none is written, and empty if that is None or ``""``: any value is meant."""

    name: str
    type: str
    default: Any
    description: str

    @property
    def base_type(self) -> str:
        """The type without what it holds: ``list`` of ``list[str]``."""
        return self.type.partition("[")[0]


class UntypedText(str):
    """A value as it was typed, to be read by the parameter's declared type."""


def cast_value(stage: str, parameter: Parameter, value: Any, origin: str) -> Any:
    """A value as its parameter's type; text is read by that type, an int is a float too, nothing else is bent.

    Raises
    ------
    KitError
        For a value of another type, or one that cannot reach a kernel as it is. None is a value where the default is None.
    """
    try:
        made = normalize_value(
            _parse_text(value, parameter.type) if isinstance(value, UntypedText) else value
        )
        return (
            None
            if made is None and parameter.default is None
            else _coerce_to_type(made, parameter.type)
        )
    except (TypeError, RecursionError):
        fault = "cannot be handed to a notebook as it is"
    except (ValueError, OverflowError, yaml.YAMLError):
        fault = f"is no {parameter.type or 'value'}"
    expected = f"{parameter.type or 'a plain value'}{' such as 2013-07-01 (ISO 8601)' if parameter.base_type in TEMPORAL_TYPES else ''}{': ' + parameter.description if parameter.description else ''}"
    cure = {
        "-p": f"-p {stage}.{parameter.name}=…",
        "notebook": f"edit the parameters cell of {stage}",
    }.get(origin, f"mend {origin}")
    raise KitError(f"{stage}.{parameter.name}: {value!r} ({origin}) {fault}", expected, cure)


def _parse_text(text: str, declared: str) -> Any:
    """Text as a type: ``007`` is 7 for an int and stays ``007`` for text."""
    kind = declared.partition("[")[0]
    if kind in {"str", "Path", *TEMPORAL_TYPES}:
        return str(text)
    if text.strip() in {"null", "None", "~"}:
        return None
    if kind == "bool":
        return _BOOLEAN_WORDS.get(text.strip().lower(), str(text))
    if kind in {"int", "float"}:
        return PARAMETER_TYPES[kind](text)
    if declared in {"list[str]", "dict[str, str]"}:
        return parse_yaml(text, yaml.BaseLoader)
    with suppress(ValueError):
        if kind:
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


def _coerce_to_type(value: Any, declared: str) -> Any:
    """A value that is of the declared type, and all that it holds of the inner one; a ValueError if not."""
    kind, _, inner = declared.partition("[")
    wanted, inner = PARAMETER_TYPES.get(kind), inner[:-1].removeprefix("str, ")
    if wanted is float and type(value) is int and float(value) == value:
        return float(value)
    if wanted and type(value) is not wanted:
        raise ValueError(type(value).__name__)
    if kind in TEMPORAL_TYPES:
        value = value.removesuffix("T00:00:00") if kind == "date" else value
        TEMPORAL_TYPES[kind].fromisoformat(value)
    if inner and wanted is dict:
        return {k: _coerce_to_type(v, inner) for k, v in value.items()}
    return [_coerce_to_type(v, inner) for v in value] if inner and wanted is list else value


def normalize_value(value: Any, depth: int = 0) -> Any:
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
    if isinstance(value, dict) and all(type(k) is str and k not in RESERVED_KEYS for k in value):
        return {normalize_value(k): normalize_value(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [normalize_value(v, depth + 1) for v in value]
    if isinstance(value, date) and value.isoformat() != "NaT":
        return value.isoformat()
    if isinstance(value, (PurePath, UntypedText)):
        return normalize_value(str(value))
    if (
        getattr(value, "shape", None) == ()
        and value.dtype.kind in "biufU"
        and type(value.item()) in {bool, int, float, str}
    ):
        return normalize_value(value.item())
    raise TypeError(type(value).__name__)


def encode_value(value: Any) -> Any:
    """A value, or values by name, as JSON can hold them and ``exact`` reads them back."""
    if isinstance(value, dict):
        return {k: encode_value(v) for k, v in value.items()}
    if isinstance(value, list):
        return [encode_value(v) for v in value]
    return (
        {"__float__": repr(value)}
        if isinstance(value, float) and not math.isfinite(value)
        else value
    )
