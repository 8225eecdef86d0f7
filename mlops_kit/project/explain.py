"""Explain."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlops_kit.project.config.base import CONFIG_FILE_NAME
from mlops_kit.project.config.data import QuerySource
from mlops_kit.project.config.pipeline import DEFAULT_STAGES, StageConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.settings import walk_settings


def explain_settings(project: Project) -> list[tuple[str, Any, str, str]]:
    """Every setting: dotted name, value, where it came from, meaning."""
    rows: list[tuple[str, Any, str, str]] = []
    for model, name, dotted, given in walk_settings(project.config):
        if dotted != "stages":
            rows.append(
                (
                    dotted,
                    format_setting_value(getattr(model, name)),
                    project.value_origins.get(dotted, CONFIG_FILE_NAME if given else "default"),
                    type(model).model_fields[name].description or "",
                )
            )
            continue
        for key, stage in project.config.stages.items():
            changed = stage.model_dump() != StageConfig(**DEFAULT_STAGES.get(key, {})).model_dump()
            rows.append(
                (
                    f"stages.{key}",
                    f"{stage.notebook} needs {', '.join(stage.needs) or 'nothing'}",
                    CONFIG_FILE_NAME if changed else "default",
                    "its notebook and what it waits for",
                )
            )
    return rows


def format_setting_value(value: Any) -> Any:
    """A setting's value as one would write it in ``mlops.yaml``."""
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("T00:00:00")
    return value.sql if isinstance(value, QuerySource) else value
