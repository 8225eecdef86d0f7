"""Explain all settings: value, origin and meaning (``mlops config``)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.data import FileSource, QuerySource
from mlops_kit.project.config.pipeline import DEFAULT_STAGES, StageConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.settings import Setting, walk_settings

_DEFAULT_ORIGIN = "default"


class SettingExplanation(NamedTuple):
    """One row of ``mlops config``: dotted name, value, origin, meaning."""

    name: str
    value: Any
    origin: str
    meaning: str


def explain_settings(project: Project) -> list[SettingExplanation]:
    """List every setting with its value, where the value comes from, and its meaning."""
    explanations: list[SettingExplanation] = []
    for setting in walk_settings(project.config):
        if setting.name == "stages":
            for name, stage in project.config.stages.items():
                explanations.append(_explain_stage(name, stage))
        else:
            explanations.append(_explain_setting(setting, project))
    return explanations


def _explain_setting(setting: Setting, project: Project) -> SettingExplanation:
    origin = CONFIG_FILE_NAME if setting.is_set else _DEFAULT_ORIGIN
    field = type(setting.section).model_fields[setting.field]
    return SettingExplanation(
        name=setting.name,
        value=format_setting_value(getattr(setting.section, setting.field)),
        origin=project.value_origins.get(setting.name, origin),
        meaning=field.description or "",
    )


def _explain_stage(name: str, stage: StageConfig) -> SettingExplanation:
    default = StageConfig(**DEFAULT_STAGES.get(name, {}))
    is_default = stage.model_dump() == default.model_dump()
    needs = ", ".join(stage.needs) or "nothing"
    return SettingExplanation(
        name=f"stages.{name}",
        value=f"{stage.notebook} needs {needs}",
        origin=_DEFAULT_ORIGIN if is_default else CONFIG_FILE_NAME,
        meaning="The notebook of the stage and the stages that it needs",
    )


def format_setting_value(value: Any) -> Any:
    """Format a value as it is written in ``mlops.yaml``."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("T00:00:00")
    if isinstance(value, QuerySource):
        return value.sql
    if isinstance(value, FileSource):
        return value.model_dump(exclude_defaults=True)
    return value
