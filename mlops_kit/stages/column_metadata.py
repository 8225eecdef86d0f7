"""Labels, units and descriptions of a project's columns: where they are written, and which count.

``mlops.yaml`` overrides the data contract, which overrides the docstrings of feature views. A view
describes its columns in a section of its docstring::

    Columns
    -------
    plane_age : Age of the plane (years)
        Years since it was built.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import replace

from mlops_kit.core.column_labels import ColumnLabel, use_column_labels
from mlops_kit.core.errors import KitError
from mlops_kit.data.contract import read_contract
from mlops_kit.project.loader import Project

_VIEW_DECORATOR = "view"
_SECTION = re.compile(r"^Columns\n-{3,}\n(?P<body>.*?)(?=^\S[^\n]*\n-{3,}\n|\Z)", re.M | re.S)
_COLUMN_LINE = re.compile(r"(?P<name>\w+)\s*:\s*(?P<label>.*?)(?:\s*\((?P<unit>[^()]*)\))?")


def load_column_labels(project: Project) -> dict[str, ColumnLabel]:
    """Return the labels of a project's columns, by name.

    A contract or a feature file that cannot be read has none: what needs it says so.
    """
    labels: dict[str, ColumnLabel] = {}
    for label in [
        *_iterate_view_labels(project),
        *_iterate_contract_labels(project),
        *_iterate_configured_labels(project),
    ]:
        known = labels.get(label.name, ColumnLabel(label.name))
        labels[label.name] = replace(
            known,
            label=label.label or known.label,
            unit=label.unit or known.unit,
            description=label.description or known.description,
        )
    return labels


def show_column_labels(project: Project) -> None:
    """Show columns by the labels of a project from now on."""
    use_column_labels(load_column_labels(project))


def _iterate_configured_labels(project: Project) -> Iterator[ColumnLabel]:
    """Yield the labels in ``mlops.yaml``.

    A label changes no result, so that reading it is not recorded as a use of the setting.
    """
    for name, column in vars(project.config)["columns"].items():
        yield ColumnLabel(name, **vars(column))


def _iterate_contract_labels(project: Project) -> Iterator[ColumnLabel]:
    """Yield the labels in the data contract."""
    file = project.resolve_path(vars(project.config.contract)["file"])
    try:
        columns = read_contract(file).columns
    except (KitError, OSError):
        return
    for name, column in columns.items():
        yield ColumnLabel(name, column.label, column.unit, column.description)


def _iterate_view_labels(project: Project) -> Iterator[ColumnLabel]:
    """Yield the labels in the docstrings of the project's feature views, without running them."""
    for file_name in vars(project.config)["features"]:
        try:
            text = project.resolve_path(file_name).read_text(encoding="utf-8")
            statements = ast.parse(text).body
        except (OSError, SyntaxError, ValueError):
            continue
        for statement in statements:
            if isinstance(statement, ast.FunctionDef) and _is_view(statement):
                yield from parse_column_section(ast.get_docstring(statement) or "")


def _is_view(function: ast.FunctionDef) -> bool:
    """Return whether a function is decorated as a feature view."""
    names = [ast.unparse(decorator).rpartition(".")[2] for decorator in function.decorator_list]
    return _VIEW_DECORATOR in names


def parse_column_section(docstring: str) -> Iterator[ColumnLabel]:
    """Yield the columns that a docstring describes in its section ``Columns``.

    >>> text = '''Look up the plane.
    ...
    ... Columns
    ... -------
    ... plane_age : Age of the plane (years)
    ...     Years since it was built.
    ... '''
    >>> [label] = parse_column_section(text)
    >>> label.text, label.description
    ('Age of the plane (years)', 'Years since it was built.')
    """
    section = _SECTION.search(inspect.cleandoc(docstring) + "\n")
    if section is None:
        return
    current: ColumnLabel | None = None
    for line in section["body"].splitlines():
        is_indented = line.startswith((" ", "\t"))
        if is_indented and current is not None:
            description = " ".join([current.description, line.strip()]).strip()
            current = replace(current, description=description)
            continue
        if current is not None:
            yield current
        match = _COLUMN_LINE.fullmatch(line.strip())
        current = None
        if match is not None:
            current = ColumnLabel(match["name"], match["label"], match["unit"] or "")
    if current is not None:
        yield current
