"""Validate a configuration, and describe every mistake in it with one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.pipeline import StageConfig
from mlops_kit.project.config.root import ProjectConfig

# In the location of an error pydantic also names the alternatives of a union.
_UNION_ALTERNATIVES = {"str", "float"}


def validate_config(data: dict[str, Any], origin: str) -> ProjectConfig:
    """Validate settings.

    Parameters
    ----------
    data : dict
        Settings as in ``mlops.yaml``.
    origin : str
        Where they come from, for the error message.

    Raises
    ------
    KitError
        With every mistake.
    """
    # What validation reads is not used by a stage.
    settings_read_before = set(dependencies.settings_read)
    try:
        return ProjectConfig.model_validate(data)
    except ValidationError as error:
        mistakes = [_describe_error(detail) for detail in error.errors()]
        count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        verb = "edit" if origin == CONFIG_FILE_NAME else "correct"
        raise KitError(
            "\n  ".join([f"{origin} has {count}:", *mistakes]),
            hint=f"{verb} {origin}; 'mlops config' explains every setting",
        ) from error
    finally:
        dependencies.settings_read.intersection_update(settings_read_before)


def _list_known_fields(location: Iterable[Any]) -> dict[str, Any]:
    """Return the fields of the section at a location, by key.

    Of an optional section, or of a setting that may be a section or a plain value, the section
    counts.
    """
    model: Any = ProjectConfig
    for step in location:
        if model == dict[str, StageConfig]:
            model = StageConfig
            continue
        field = getattr(model, "model_fields", {}).get(str(step))
        if field is not None:
            model = _find_section_type(field.annotation)
    return dict(getattr(model, "model_fields", {}))


def _find_section_type(annotation: Any) -> Any:
    if annotation == dict[str, StageConfig]:
        return annotation
    for alternative in get_args(annotation):
        if get_origin(alternative) is Annotated:
            alternative = get_args(alternative)[0]
        if hasattr(alternative, "model_fields"):
            return alternative
    return annotation


def _is_user_key(part: int | str) -> bool:
    """Return whether a part of an error's location is a key that users write."""
    if isinstance(part, int):
        return True
    is_type_name = part[:1].isupper() or "[" in part
    return not is_type_name and part not in _UNION_ALTERNATIVES


def _describe_error(error: ErrorDetails) -> str:
    """Describe one error of pydantic: the setting, its value, what was expected."""
    location = [part for part in error["loc"] if _is_user_key(part)]
    name = ".".join(str(part) for part in location)
    if error["type"] == "extra_forbidden":
        known_names = _list_known_fields(location[:-1])
        return f"{name}: unknown key; expected {suggest_names(str(location[-1]), known_names)}"
    if error["type"] == "missing":
        field = _list_known_fields(location[:-1]).get(str(location[-1]))
        return f"{name}: missing; expected: {getattr(field, 'description', '')}"
    message = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    message = message.partition(", unable to parse")[0]
    if not name:
        return message
    return f"{name}: {error.get('input')!r}; {message}"
