"""The OpenAPI document of the prediction service.

FastAPI generates the routes without a body; ``openapi.yaml`` describes those with one.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Template

from mlops_kit.data.target import load_coding
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
    positive_class = load_coding(service.project).positive
    if served is not None and served.facts.classes:
        positive_class = served.facts.classes[-1]
    text: str = template.render(
        row=row_schema,
        example_row=example_row,
        label=label_schema.json_schema,
        example_value=value_field.allowed[0] if value_field.allowed else 0.0,
        classes=[*(value_field.allowed or ()), None],
        max_items=f"{config.serve.max_rows:,}",
        is_binary=config.task == "binary",
        score_description=_describe_score(config.event, positive_class),
        id_pattern=ID_PATTERN.pattern,
        to_flow=_format_flow_yaml,
    )
    return text


def _describe_score(event: str, positive_class: Any) -> str:
    """Describe the score of a binary task."""
    description = f"Probability of the positive class {positive_class}"
    return f"{description}: {event}" if event else description


def _format_flow_yaml(value: Any) -> str:
    """Return a value as YAML in one line, for use within a line of the template."""
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf)
    return text.strip().removeprefix("[").removesuffix("]")
