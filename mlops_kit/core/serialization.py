"""Results as JSON and back: each serializable class is stored with its name and its fields.

To rename a serializable class or a field of one: set ``legacy_kind`` or ``legacy_fields`` in the
class, so that files of earlier versions are still read.
"""

from __future__ import annotations

import math
from dataclasses import fields
from enum import Enum
from importlib import import_module
from typing import Any, ClassVar

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.lazy import pd

_KIND_KEY = "__kind__"
_FRAME_KEY = "__frame__"
_MISSING_TEXTS = {"NaT", "<NA>"}
_SERIALIZABLE_TYPES: dict[str, type[Serializable]] = {}
_DEFAULT_MODULE = "mlops_kit.core.results"  # defines the result types that are not listed below
# Result types outside this package, which are only known once their module is imported.
_DEFINING_MODULES = {
    "ContractReport": "mlops_kit.data.contract_validation",
    "JointCost": "mlops_kit.stages.monitor.joint_cost",
    "PolicyComparison": "mlops_kit.watch.policy_replay.result",
    "ReferencePerformance": "mlops_kit.stages.monitor.reference_performance",
    "ReferenceRefits": "mlops_kit.stats.refit_agreement",
    "Report": "mlops_kit.data.contract_validation",
    "SplitTable": "mlops_kit.data.splits",
    "ValidationScheme": "mlops_kit.data.splitters",
}


class Serializable:
    """Base of results that are stored as JSON and read back; subclasses are frozen dataclasses.

    Attributes
    ----------
    legacy_kind : str
        The class name under which earlier versions stored it.
    legacy_fields : dict of str to str
        Field names of earlier versions with their present names.
    """

    legacy_kind: ClassVar[str] = ""
    legacy_fields: ClassVar[dict[str, str]] = {}

    def __init_subclass__(cls) -> None:
        _SERIALIZABLE_TYPES[cls.__name__] = cls
        if "legacy_kind" in vars(cls):
            _SERIALIZABLE_TYPES[cls.legacy_kind] = cls

    def to_json_dict(self) -> dict[str, Any]:
        """Convert the fields to JSON values, with the name of the class."""
        json_dict: dict[str, Any] = {_KIND_KEY: type(self).__name__}
        for field in fields(self):  # type: ignore[arg-type]
            json_dict[field.name] = to_json_value(getattr(self, field.name))
        return json_dict


def to_json_value(value: Any) -> Any:
    """Convert a value to what JSON can hold.

    NumPy scalars and arrays, timestamps and data frames are converted; NaN, infinity and missing
    values become None.
    """
    if hasattr(value, "to_json_dict"):
        return value.to_json_dict()
    if isinstance(value, dict):
        return {str(key): to_json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json_value(item) for item in value]
    if hasattr(value, "iterrows"):
        return {
            _FRAME_KEY: {
                "columns": [str(column) for column in value.columns],
                "rows": to_json_value(value.to_numpy(dtype=object).tolist()),
            }
        }
    if hasattr(value, "tolist"):
        return to_json_value(value.tolist())
    return _to_json_scalar(value)


def _to_json_scalar(value: Any) -> str | int | float | bool | None:
    if isinstance(value, Enum):
        return _to_json_scalar(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    text = str(value)
    if text in _MISSING_TEXTS:
        return None
    return text


def from_json_value(value: Any) -> Any:
    """Restore results and data frames from ``to_json_value``; leave other values as they are."""
    if isinstance(value, list):
        return [from_json_value(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {_FRAME_KEY}:
        frame = value[_FRAME_KEY]
        return pd.DataFrame(frame["rows"], columns=frame["columns"])
    restored = {key: from_json_value(item) for key, item in value.items()}
    if _KIND_KEY not in restored:
        return restored
    return _restore_result(restored)


def _restore_result(stored: dict[str, Any]) -> Serializable:
    kind = stored[_KIND_KEY]
    if kind not in _SERIALIZABLE_TYPES:
        import_module(_DEFINING_MODULES.get(kind, _DEFAULT_MODULE))
    if kind not in _SERIALIZABLE_TYPES:
        raise KitError(
            f"a stored result has the unknown kind {kind!r}",
            suggest_names(kind, _SERIALIZABLE_TYPES),
            "install the version of mlops-kit that wrote it",
        )
    result_type = _SERIALIZABLE_TYPES[kind]
    values = {result_type.legacy_fields.get(key, key): value for key, value in stored.items()}
    arguments = {}
    for field in fields(result_type):  # type: ignore[arg-type]
        if field.name not in values:
            continue
        value = values[field.name]
        arguments[field.name] = tuple(value) if isinstance(value, list) else value
    return result_type(**arguments)
