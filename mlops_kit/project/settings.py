"""Settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.config.root import ProjectConfig


def walk_settings(
    model: ConfigSection, prefix: str = "", given: bool = True
) -> Iterator[tuple[ConfigSection, str, str, bool]]:
    """Each setting below a section, unnoted: the section it stands in, its field, its dotted name, and whether it was given."""
    for name in type(model).model_fields:
        value, said = model.__dict__[name], given and name in model.model_fields_set
        if isinstance(value, ConfigSection) and not isinstance(value, QuerySource):
            yield from walk_settings(value, f"{prefix}{name}.", said)
        else:
            yield model, name, f"{prefix}{name}", said


def map_fields_to_settings(config: ProjectConfig) -> dict[tuple[str, str], str]:
    """The dotted name of each setting, by its class and field; sections of ``stages`` count by other ways."""
    return {
        (type(model).__name__, name): dotted
        for model, name, dotted, _ in walk_settings(config)
        if name != "stages"
    }


def list_setting_values(config: ProjectConfig) -> dict[str, Any]:
    """Every setting outside ``stages`` by its dotted name, as ``mlops.yaml`` has it."""
    return {
        dotted: model.model_dump(mode="json", include={name})[name]
        for model, name, dotted, _ in walk_settings(config)
        if name != "stages"
    }
