"""Validation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from pydantic import (
    ValidationError,
)

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.pipeline import StageConfig
from mlops_kit.project.config.root import ProjectConfig


def validate_config(data: dict[str, Any], origin: str) -> ProjectConfig:
    """The config of these values, or one error that words every mistake."""
    before = set(dependencies.settings_read)
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        said = [_describe_error(e) for e in error.errors()]
        count = f"{len(said)} mistakes" if len(said) > 1 else "a mistake"
        raise KitError(
            f"{origin} has {count}:\n  " + "\n  ".join(said),
            hint=f"{'edit' if origin == CONFIG_FILE_NAME else 'mend'} {origin}; 'mlops config' explains each value",
        ) from error
    finally:
        dependencies.settings_read.intersection_update(
            before
        )  # what the checks above read is no use of it


def _list_known_keys(where: Iterable[Any]) -> dict[str, Any]:
    """The fields a section knows, by key, found by following the models; of an optional section or one of several kinds, those of its first."""
    model: Any = ProjectConfig
    for step in where:
        found = getattr(model, "model_fields", {}).get(str(step))
        kinds = (
            get_args(found.annotation)
            if found and found.annotation != dict[str, StageConfig]
            else ()
        )
        model = (
            StageConfig
            if model == dict[str, StageConfig]
            else next((k for k in kinds if hasattr(k, "model_fields")), found.annotation)
            if found
            else model
        )
    return dict(getattr(model, "model_fields", {}))


def _describe_error(error: Any) -> str:
    """One of pydantic's errors in words: field, value, expected."""
    place = [
        p
        for p in error["loc"]
        if not (isinstance(p, str) and (p[:1].isupper() or "[" in p or p in {"str", "float"}))
    ]
    name = ".".join(map(str, place))
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown key; expected {suggest_names(str(place[-1]), _list_known_keys(place[:-1]))}"
    if error["type"] == "missing":
        return f"{name}: missing; expected: {getattr(_list_known_keys(place[:-1]).get(str(place[-1])), 'description', '')}"
    message = (
        error["msg"]
        .removeprefix("Value error, ")
        .replace("Input should be", "expected")
        .partition(", unable to parse")[0]
    )
    return f"{name}: {value!r}; {message}" if name else message
