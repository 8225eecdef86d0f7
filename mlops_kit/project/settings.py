"""Walk through all settings of a project by their dotted names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mlops_kit.core.dependencies import EXTENSIONS_SECTION
from mlops_kit.core.extensions import ExtensionKind, declared_extensions
from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.data import FileSource, QuerySource
from mlops_kit.project.config.root import ProjectConfig


class Setting(NamedTuple):
    """A setting: the section and field that hold it, its dotted name, and whether it is set."""

    section: ConfigSection
    field: str
    name: str
    is_set: bool


def walk_settings(
    section: ConfigSection, prefix: str = "", is_section_set: bool = True
) -> Iterator[Setting]:
    """Iterate over the settings of a section and its subsections, without recording a read.

    Parameters
    ----------
    section : ConfigSection
        Where to begin.
    prefix : str
        The dotted name of the section, with a final dot.
    is_section_set : bool
        Whether the section itself is in ``mlops.yaml``; otherwise all its values are defaults.
    """
    for field in type(section).model_fields:
        value = vars(section)[field]
        is_set = is_section_set and field in section.model_fields_set
        is_source = isinstance(value, FileSource | QuerySource)
        is_subsection = isinstance(value, ConfigSection) and not is_source
        if is_subsection:
            yield from walk_settings(value, f"{prefix}{field}.", is_set)
        else:
            yield Setting(section, field, f"{prefix}{field}", is_set)


def _walk_settings_outside_stages(config: ProjectConfig) -> Iterator[Setting]:
    """Iterate over all settings but ``stages``, which the fingerprint covers separately."""
    for setting in walk_settings(config):
        if setting.field != "stages":
            yield setting


def map_fields_to_settings(config: ProjectConfig) -> dict[tuple[str, str], str]:
    """Map the class and field of each setting to its dotted name.

    What plugins register counts as a setting too, one for each kind of extension.
    """
    names = {(EXTENSIONS_SECTION, str(kind)): _name_extensions(kind) for kind in ExtensionKind}
    for setting in _walk_settings_outside_stages(config):
        class_name = type(setting.section).__name__
        names[class_name, setting.field] = setting.name
    return names


def list_setting_values(config: ProjectConfig) -> dict[str, Any]:
    """Map the dotted name of each setting to its value as JSON."""
    values = {}
    for setting in _walk_settings_outside_stages(config):
        dumped = setting.section.model_dump(mode="json", include={setting.field})
        values[setting.name] = dumped[setting.field]
    for kind in ExtensionKind:
        values[_name_extensions(kind)] = []
    for declared in declared_extensions:
        name = _name_extensions(declared.kind)
        values[name].append(f"{declared.plugin}: {declared.name}")
    return values


def _name_extensions(kind: str) -> str:
    """Return the name under which the plugins' extensions of a kind count as a setting."""
    return f"{EXTENSIONS_SECTION} ({kind})"
