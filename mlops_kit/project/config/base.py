"""Base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
)

from mlops_kit.core import dependencies

CONFIG_FILE_NAME = "mlops.yaml"


class ConfigSection(BaseModel, extra="forbid", frozen=True):
    """A part of ``mlops.yaml``; an unknown key is an error. What is read of it is noted, for a stage's fingerprint."""

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            if name[0] != "_" and name in type(self).__pydantic_fields__:
                dependencies.settings_read.add((type(self).__name__, name))
            return super().__getattribute__(name)
