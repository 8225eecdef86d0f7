"""Read the cell tagged ``parameters`` of a notebook, without running it.

A line is ``name: type = literal  # Sentence.``
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.pipeline.param_types import PARAMETER_TYPES, Parameter, normalize_value
from mlops_kit.project.notebook_cells import load_code_cells

_LINE_FORM = "lines of name: type = literal  # Sentence."
_EDIT_HINT = "correct the line in JupyterLab"
_TYPE_PATTERN = re.compile(rf"(({'|'.join(PARAMETER_TYPES)})\b[\[\], ]*)*")


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name.

    Raises
    ------
    KitError
        If no cell is tagged ``parameters``, or the cell has anything other than literals, or a line
        that papermill does not recognise.
    """
    text = _read_parameters_cell(notebook)
    try:
        statements = ast.parse(text).body
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise KitError(
            f"{notebook.name}: line {error.lineno} of the parameters cell is not Python: {line!r}",
            _LINE_FORM,
            _EDIT_HINT,
        ) from error
    lines = text.split("\n")
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        statement_lines = lines[statement.lineno - 1 : statement.end_lineno]
        parameter = _parse_parameter(notebook.name, statement, statement_lines)
        if parameter.name in parameters:
            raise KitError(
                f"{notebook.name}: the parameters cell sets {parameter.name!r} twice",
                "each name once",
                "remove one of the lines",
            )
        parameters[parameter.name] = parameter
    return parameters


def _read_parameters_cell(notebook: Path) -> str:
    """Return the source of the first cell tagged ``parameters``."""
    for cell in load_code_cells(notebook):
        if "parameters" in cell["metadata"].get("tags", []):
            return str(cell["source"])
    raise KitError(
        f"{notebook.name} has no cell tagged 'parameters'",
        "one, near the top",
        "add the tag in JupyterLab (property inspector)",
    )


def _parse_parameter(
    notebook: str,
    statement: ast.stmt,
    lines: list[str],
) -> Parameter:
    """Return the parameter that a statement (which is these lines) defines."""
    target, annotation = _get_target(statement)
    value = statement.value if isinstance(statement, ast.AnnAssign | ast.Assign) else None
    if target is None or value is None:
        raise KitError(
            f"{notebook}: the parameters cell holds {ast.unparse(statement)!r}",
            _LINE_FORM,
            "move it to another cell",
        )
    default = _read_literal(notebook, target, value)
    if "\n".join(lines).count("=") > 1:
        raise KitError(
            f"{notebook}: papermill ignores the parameter {target!r}: {lines[0].strip()!r}",
            "no second '=', not even in text or in the comment",
            _EDIT_HINT,
        )
    if not _TYPE_PATTERN.fullmatch(annotation):
        known_types = suggest_names(annotation, PARAMETER_TYPES)
        raise KitError(
            f"{notebook}: parameter {target!r} has the type {annotation!r}, which is not supported",
            f"{known_types}; none, and a default of None or '', if any value is accepted",
            _EDIT_HINT,
        )
    has_typed_default = default is not None and default != ""
    default_type = type(default).__name__ if has_typed_default else ""
    # ast counts bytes; what follows the statement on its last line is the comment.
    rest_of_line = lines[-1].encode()[statement.end_col_offset :].decode()
    description = rest_of_line.partition("#")[2].strip()
    return Parameter(target, annotation or default_type, default, description)


def _get_target(statement: ast.stmt) -> tuple[str | None, str]:
    """Return the name and the annotation of an assignment; no name for anything else."""
    if isinstance(statement, ast.AnnAssign):
        target: ast.expr = statement.target
        annotation = ast.unparse(statement.annotation).strip("'")
    elif isinstance(statement, ast.Assign):
        target, annotation = statement.targets[0], ""
    else:
        return None, ""
    return (target.id if isinstance(target, ast.Name) else None), annotation


def _read_literal(
    notebook: str,
    name: str,
    value: ast.expr,
) -> Any:
    """Return the value of a literal that papermill passes on unchanged."""
    try:
        default = ast.literal_eval(value)
        is_unchanged = normalize_value(default) == default  # a tuple becomes a list
    except (ValueError, TypeError):
        is_unchanged = False
    if is_unchanged:
        return default
    raise KitError(
        f"{notebook}: parameter {name!r} is not a plain literal: {ast.unparse(value)}",
        "a number, text, list or dict written out",
        "move the computation to another cell",
    )
