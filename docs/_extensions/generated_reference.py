"""Directives that generate reference pages from the package itself.

``{command-reference}``
    All commands with their options, from the typer application.
``{configuration-reference}``
    All settings, from the JSON Schema of ``mlops.yaml``.
``{api-reference}``
    The docstrings of the public names, from ``mlops_kit.__all__``.
``{statistics-sources}``
    The functions whose docstrings name a publication, with what they say about it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer.cli
import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import mlops_kit
from mlops_kit.cli.application import app as mlops_application
from mlops_kit.project.config_schema import build_config_schema

PACKAGE_FOLDER = Path(mlops_kit.__file__).parent
SCHEMA_FILE_NAME = "mlops.schema.json"
PROGRAM = "mlops"
# What stands for the value of an option.
PLACEHOLDERS = {"<list[str]>": "TEXT", "<str>": "TEXT", "<int range>": "N", "<int>": "N"}


class _GeneratedText(SphinxDirective):
    """A directive whose content is Markdown that a function writes."""

    def write_text(self) -> str:
        """Write the Markdown."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the text where the directive stands."""
        return self.parse_text_to_nodes(self.write_text(), allow_section_headings=True)


class CommandReference(_GeneratedText):
    """All commands with their arguments and options."""

    def write_text(self) -> str:
        """Write one section per command."""
        application = typer.main.get_command(mlops_application)
        context_class = application.context_class
        context = context_class(application, info_name=PROGRAM)
        text = typer.cli.get_docs_for_click(obj=application, ctx=context, name=PROGRAM)
        _, _, sections = text.partition(f"## `{PROGRAM} ")
        for python_type, placeholder in PLACEHOLDERS.items():
            sections = sections.replace(python_type, placeholder)
        return f"## `{PROGRAM} {sections}"


class SettingRow(NamedTuple):
    """One row of the configuration reference."""

    name: str
    values: str
    default: str
    description: str


class ConfigurationReference(_GeneratedText):
    """All settings with allowed values, default and meaning."""

    def write_text(self) -> str:
        """Write one table for the settings of the top level and one per section."""
        schema = build_config_schema()
        properties = schema["properties"]
        top_level = {name: item for name, item in properties.items() if "$ref" not in item}
        parts = ["## Top level", *render_settings("", top_level, schema)]
        for name, item in properties.items():
            if "$ref" in item:
                parts += render_section(name, resolve_reference(item, schema), schema)
        stage = schema["$defs"]["StageConfig"]
        parts += render_section("stages.NAME", stage, schema)
        return "\n".join(parts)


def render_section(name: str, section: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Render heading, description and table of a section."""
    rows = render_settings(f"{name}.", section["properties"], schema)
    return ["", f"## `{name}`", "", section["description"], "", *rows]


def render_settings(
    prefix: str, properties: dict[str, Any], schema: dict[str, Any]
) -> Iterator[str]:
    """Render settings as a table."""
    yield ""
    yield "| Setting | Values | Default | Meaning |"
    yield "|---|---|---|---|"
    for name, item in properties.items():
        row = SettingRow(
            name=f"`{prefix}{name}`",
            values=describe_values(item, schema),
            default=f"`{json.dumps(item['default'])}`" if "default" in item else "–",
            description=item.get("description", ""),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
    yield ""


def resolve_reference(item: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the definition that an item of the schema refers to."""
    return dict(schema["$defs"][item["$ref"].rpartition("/")[2]])


def describe_values(item: dict[str, Any], schema: dict[str, Any]) -> str:
    """Describe the allowed values of a setting in a few words."""
    if "title" in item:
        return str(item["title"])
    if "$ref" in item:
        keys = resolve_reference(item, schema)["properties"]
        return "`{" + ", ".join(keys) + "}`"
    if "enum" in item:
        return ", ".join(f"`{value}`" for value in item["enum"])
    if "anyOf" in item:
        return " or ".join(describe_values(choice, schema) for choice in item["anyOf"])
    if item.get("type") == "array":
        return "list"
    if item.get("type") == "object":
        return "mapping"
    kinds = {"string": "text", "number": "number", "integer": "integer", "null": "`null`"}
    kind = kinds.get(item.get("type", ""), "`true`, `false`")
    return f"{kind}{describe_range(item)}"


def describe_range(item: dict[str, Any]) -> str:
    """Describe the range of a number, such as ``≥ 0, ≤ 1``."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {item[key]:g}" for key, sign in signs.items() if key in item]
    return " " + ", ".join(limits) if limits else ""


class ApiReference(_GeneratedText):
    """The public names of the package."""

    def write_text(self) -> str:
        """Write one directive of autodoc per public name."""
        sections = []
        for name in sorted(mlops_kit.__all__, key=str.lower):
            value = getattr(mlops_kit, name)
            if inspect.ismodule(value):
                lines = [f".. automodule:: {value.__name__}"]
                lines += ["   :members:", "   :imported-members:", "   :no-index:"]
            elif inspect.isclass(value):
                lines = [f".. autoclass:: mlops_kit.{name}", "   :members:"]
            elif callable(value):
                lines = [f".. autofunction:: mlops_kit.{name}"]
            else:
                continue
            block = "\n".join(["```{eval-rst}", *lines, "```"])
            sections.append(f"## `{name}`\n\n{block}")
        return "\n\n".join(sections)


class SourcedFunction(NamedTuple):
    """A function or module whose docstring names a publication."""

    name: str
    summary: str
    source: str


class StatisticsSources(_GeneratedText):
    """The functions whose docstrings name a publication."""

    def write_text(self) -> str:
        """Write a definition list."""
        entries = [
            f"`{entry.name}`: {entry.summary}\n: {entry.source}" for entry in iterate_sources()
        ]
        return "\n\n".join(entries)


def iterate_sources() -> Iterator[SourcedFunction]:
    """Yield what the docstrings of the package say about publications."""
    for path in sorted(PACKAGE_FOLDER.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = ".".join(path.relative_to(PACKAGE_FOLDER.parent).with_suffix("").parts)
        documented = [("", tree)]
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                documented.append((f".{node.name}", node))
        for suffix, node in documented:
            docstring = ast.get_docstring(node) or ""
            source = find_source(docstring)
            if source:
                summary = docstring.splitlines()[0]
                yield SourcedFunction(f"{module}{suffix}", summary, source)


def find_source(docstring: str) -> str:
    """Return the section of a docstring, References or Notes, that names a publication."""
    sections = re.split(r"\n(\w+)\n-{3,}\n", docstring)
    for heading, text in zip(sections[1::2], sections[2::2], strict=True):
        names_publication = re.search(r"\b(1[89]|20)\d\d\b", text) is not None
        if heading in {"References", "Notes"} and names_publication:
            return " ".join(text.split())
    return ""


def write_schema(app: Sphinx, error: Exception | None) -> None:
    """Write the JSON Schema of mlops.yaml beside the pages."""
    if error is None and app.builder.format == "html":
        text = json.dumps(build_config_schema(), indent=2, ensure_ascii=False)
        (Path(app.outdir) / SCHEMA_FILE_NAME).write_text(text + "\n", encoding="utf-8")


def skip_tuple_field(
    _app: Sphinx, _what: str, _name: str, member: Any, _skip: bool, _options: Any
) -> bool | None:
    """Skip the fields of named tuples, which the class docstring describes."""
    docstring = getattr(member, "__doc__", None) or ""
    return True if docstring.startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives with Sphinx."""
    importlib.import_module("mlops_kit.stages.stage")
    app.add_directive("command-reference", CommandReference)
    app.add_directive("configuration-reference", ConfigurationReference)
    app.add_directive("api-reference", ApiReference)
    app.add_directive("statistics-sources", StatisticsSources)
    app.connect("autodoc-skip-member", skip_tuple_field)
    app.connect("build-finished", write_schema)
    return {"version": mlops_kit.__version__, "parallel_read_safe": True}
