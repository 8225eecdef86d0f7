"""JSON Schema of ``mlops.yaml`` (``mlops config --schema``), for editors and other tools.

The schema states what can be said about one file by itself: keys, types, ranges, how durations,
timestamps and sizes are written. Only the loader knows the time zones, the metrics and model
families, the order of ``as_of`` and ``until``, and whether ``needs`` names existing stages without
a cycle. The schema asks for plain values: a number in quotes, which the loader accepts too, is
not valid.
"""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import CoreSchema

from mlops_kit.project.config.pipeline import DEFAULT_STAGES
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.explain import format_setting_value

_DEFINITIONS = "#/$defs/{model}"
_STAGE_REFERENCE = {"$ref": "#/$defs/StageConfig"}
_NON_EMPTY_TEXT = {"type": "string", "minLength": 1}
# A chain of own stages need not read a source or train a model.
_REQUIRED_BY_EVERY_PROJECT = ["name"]
_REQUIRED_BY_DEFAULT_CHAIN = ["source", "target", "task"]


class _SchemaGenerator(GenerateJsonSchema):
    """Pydantic's generator with the dialect stated and without titles made from field names."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> dict[str, Any]:
        return {"$schema": self.schema_dialect, **super().generate(schema, mode)}

    def encode_default(self, dft: Any) -> Any:
        return super().encode_default(format_setting_value(dft))

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def build_config_schema() -> dict[str, Any]:
    """Build the JSON Schema (draft 2020-12) of ``mlops.yaml``.

    Returns
    -------
    dict
        The schema. Unknown keys are not valid; every setting has its description and default.
    """
    schema = ProjectConfig.model_json_schema(
        ref_template=_DEFINITIONS, schema_generator=_SchemaGenerator
    )
    schema["title"] = "mlops.yaml"
    schema["properties"]["split"] = _build_split_schema(schema["$defs"]["ValidationConfig"])
    earlier_sinks = _build_earlier_sinks_schema(schema["$defs"]["AlertsConfig"])
    schema["$defs"]["WatchConfig"]["properties"]["alerts"] = earlier_sinks
    schema["properties"]["stages"] = _build_stages_schema(schema["properties"]["stages"])
    schema["required"] = _REQUIRED_BY_EVERY_PROJECT
    for setting in schema["properties"].values():
        if "$ref" in setting:  # a section is its settings, each with its own default
            setting.pop("default", None)
    schema["allOf"] = [_require_source_unless_own_chain(), _forbid_times_without_time_column()]
    for definition in schema["$defs"].values():
        definition.pop("title", None)
    return schema


def _build_stages_schema(setting: dict[str, Any]) -> dict[str, Any]:
    """Allow changes to the default stages; any other stage has to name its notebook."""
    changed_stage = {"anyOf": [_STAGE_REFERENCE, {"type": "null"}]}
    own_stage = {"allOf": [_STAGE_REFERENCE, _build_notebook_requirement()]}
    return {
        "description": setting["description"],
        "anyOf": [
            {
                "type": "object",
                "properties": dict.fromkeys(DEFAULT_STAGES, changed_stage),
                "additionalProperties": own_stage,
            },
            {"type": "null"},
        ],
    }


def _build_split_schema(validation: dict[str, Any]) -> dict[str, Any]:
    """Accept ``split``, the earlier name of two settings of ``validation``."""
    names = ("test", "folds")
    return {
        "description": "Earlier name of validation.test and validation.folds",
        "deprecated": True,
        "type": "object",
        "properties": {name: validation["properties"][name] for name in names},
        "additionalProperties": False,
    }


def _build_earlier_sinks_schema(alerts: dict[str, Any]) -> dict[str, Any]:
    """Accept ``watch.alerts``, the earlier name of ``alerts.sinks``."""
    return {
        "description": "Earlier name of alerts.sinks",
        "deprecated": True,
        "anyOf": alerts["properties"]["sinks"]["anyOf"],
    }


def _build_notebook_requirement() -> dict[str, Any]:
    return {"required": ["notebook"], "properties": {"notebook": _NON_EMPTY_TEXT}}


def _require_source_unless_own_chain() -> dict[str, Any]:
    """Only a project all of whose stages name their notebooks can have a chain of its own."""
    own_stages = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": "object", **_build_notebook_requirement()},
    }
    return {
        "if": {"required": ["stages"], "properties": {"stages": own_stages}},
        "else": {"required": _REQUIRED_BY_DEFAULT_CHAIN},
    }


def _forbid_times_without_time_column() -> dict[str, Any]:
    """Require a time column for cut-offs and durations, and none for random folds."""
    no_timestamp = {"enum": [None, ""]}
    held_out_share = {"properties": {"test": {"type": "number"}}}
    drawn_once = {"properties": {"repeats": {"const": 1}, "stratify": {"enum": [None, False]}}}
    return {
        "if": {"required": ["time"], "properties": {"time": {"type": "string"}}},
        "then": {"properties": {"validation": drawn_once}},
        "else": {
            "properties": {
                "as_of": no_timestamp,
                "until": no_timestamp,
                "split": held_out_share,
                "validation": held_out_share,
            }
        },
    }
