"""Serialization."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from mlops_kit.core.lazy import pd

_SERIALIZABLE_TYPES: dict[str, type[Any]] = {}


def to_json_value(value: Any) -> Any:
    """Turn a value into what JSON holds: NumPy scalars, moments, NaN and frames included."""
    if hasattr(value, "to_json_dict"):
        return value.to_json_dict()
    if isinstance(value, dict):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json_value(v) for v in value]
    if hasattr(value, "iterrows"):
        return {
            "__frame__": {
                "columns": list(map(str, value.columns)),
                "rows": to_json_value(value.to_numpy(dtype=object).tolist()),
            }
        }
    if hasattr(value, "tolist"):
        return to_json_value(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return None if str(value) in {"NaT", "<NA>"} else str(value)


def from_json_value(value: Any) -> Any:
    """The inverse of ``plain`` for results and frames; anything else is left as it is."""
    if isinstance(value, list):
        return [from_json_value(v) for v in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"__frame__"}:
        return pd.DataFrame(value["__frame__"]["rows"], columns=value["__frame__"]["columns"])
    inner = {k: from_json_value(v) for k, v in value.items()}
    if "__kind__" not in inner:
        return inner
    cls = _SERIALIZABLE_TYPES[inner["__kind__"]]
    return cls(
        **{
            f.name: tuple(v) if isinstance(v := inner[f.name], list) else v
            for f in fields(cls)
            if f.name in inner
        }
    )


class Serializable:
    """What is filed as JSON and read back as its own kind; subclasses are frozen dataclasses."""

    def __init_subclass__(cls) -> None:
        _SERIALIZABLE_TYPES[cls.__name__] = cls

    def to_json_dict(self) -> dict[str, Any]:
        """The fields as JSON's own types, with the name of the kind."""
        return {
            "__kind__": type(self).__name__,
            **{f.name: to_json_value(getattr(self, f.name)) for f in fields(self)},  # type: ignore[arg-type]
        }
