"""The OpenAPI document of the prediction service.

FastAPI generates the routes without a body; ``openapi.yaml`` describes those with one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template

from mlops_kit.data.target import load_coding
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.serving.request_fields import ID_PATTERN
from mlops_kit.serving.requests import JsonObject
from mlops_kit.serving.service import PredictionService

_DOCUMENT_TEMPLATE = Path(__file__).with_name("openapi.yaml")
_GET_REFUSAL_STATUSES = ("401", "421", "503")  # of the routes without a body


def build_openapi(service: PredictionService, generated: JsonObject, has_token: bool) -> JsonObject:
    """Return the complete document.

    Parameters
    ----------
    service : PredictionService
        The service, whose served version determines the schema of a row.
    generated : dict
        The document that FastAPI generates.
    has_token : bool
        Whether requests need a token.
    """
    described = yaml.safe_load(_render_template(service))
    for item in generated["paths"].values():
        for status in _GET_REFUSAL_STATUSES:
            item["get"]["responses"][status] = described["refusals"][status]
    document = {**generated, "paths": {**described["paths"], **generated["paths"]}}
    if has_token:
        generated_components = generated.get("components", {})
        document["components"] = {**generated_components, **described["components"]}
        document["security"] = described["security"]
    return document


def _render_template(service: PredictionService) -> str:
    """Fill in what depends on the project and the served version."""
    config = service.project.config
    served = service.follower.served
    row_schema: JsonObject = {"type": "object"}
    example_row: JsonObject = {}
    if served is not None:
        row_schema = served.schema.json_schema
        example_row = served.example_row
    label_schema = service.build_label_schema()
    value_field = label_schema.fields["value"]
    template = Template(_DOCUMENT_TEMPLATE.read_text(encoding="utf-8"), trim_blocks=True)
    known_classes = load_coding(service.project).classes
    if served is not None and served.facts.classes:
        known_classes = served.facts.classes
    text: str = template.render(
        row=row_schema,
        example_row=example_row,
        label=label_schema.json_schema,
        example_value=value_field.allowed[0] if value_field.allowed else 0.0,
        classes=[*(value_field.allowed or ()), None],
        max_items=f"{config.serve.max_rows:,}",
        has_classes=config.task != "regression",
        probability_properties=_build_probability_properties(config, known_classes),
        score_description=_describe_score(config, known_classes),
        id_pattern=ID_PATTERN.pattern,
        to_flow=_format_flow_yaml,
    )
    return text


def _describe_score(config: ProjectConfig, classes: Sequence[Any]) -> str:
    """Describe what the score of a prediction is."""
    if config.task == "regression":
        return "Predicted value"
    if config.task == "multiclass":
        return "Probability of the predicted class"
    description = f"Probability of the positive class {classes[-1]}"
    return f"{description}: {config.event}" if config.event else description


def _build_probability_properties(config: ProjectConfig, classes: Sequence[Any]) -> JsonObject:
    """Build the schema of the probability of each class; empty for another task."""
    if config.task != "multiclass":
        return {}
    return {str(value): {"type": "number"} for value in classes}


def _format_flow_yaml(value: Any) -> str:
    """Return a value as YAML in one line, for use within a line of the template."""
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf)
    return text.strip().removeprefix("[").removesuffix("]")
