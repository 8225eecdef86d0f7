"""The settings that a notebook's parameters cell overrides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.root import ProjectConfig

_NUMBERS = ("seed", "sample")  # a zero keeps the configured value


def select_overrides(stage: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values given to ``open_stage`` that are not empty.

    Raises
    ------
    KitError
        With the names that are not settings, such as parameters of the notebook only.
    """
    unknown = [name for name in parameters if name not in ProjectConfig.model_fields]
    if unknown:
        verb = "is not a setting" if len(unknown) == 1 else "are not settings"
        raise KitError(
            f"open_stage({stage!r}, …): {', '.join(unknown)} {verb} of the project",
            "settings that the parameters cell overrides: as_of, until, sample, seed",
            "leave a parameter of the notebook's own out: its cells use it as it is",
        )
    overrides = {}
    for name, value in parameters.items():
        is_default = value in ("", None) or (name in _NUMBERS and value == 0)
        if not is_default:
            overrides[name] = value
    return overrides
