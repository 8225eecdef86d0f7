"""The base of all sections of ``mlops.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from mlops_kit.core import dependencies

CONFIG_FILE_NAME = "mlops.yaml"


class ConfigSection(BaseModel, extra="forbid", frozen=True):
    """A section of ``mlops.yaml``; an unknown key is an error.

    Every setting that is read is recorded: the settings a stage used are part of its fingerprint.
    """

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            """Return an attribute and record it if it is a setting."""
            is_setting = name[0] != "_" and name in type(self).__pydantic_fields__
            if is_setting:
                dependencies.settings_read.add((type(self).__name__, name))
            return super().__getattribute__(name)
