"""Parameter cell."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.pipeline.param_types import PARAMETER_TYPES, Parameter, normalize_value
from mlops_kit.project.notebook_cells import load_code_cells


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, by name.

    Raises
    ------
    KitError
        If no cell is tagged ``parameters``, it holds more than literals, or a line of it is one that papermill loses.
    """
    tagged = [c for c in load_code_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    if not tagged:
        raise KitError(
            f"{notebook.name} has no cell tagged 'parameters'",
            "one, near the top",
            "add the tag in JupyterLab (property inspector)",
        )
    text = tagged[0]["source"]
    found: dict[str, Parameter] = {}
    try:
        body = ast.parse(text).body
    except SyntaxError as error:
        raise KitError(
            f"{notebook.name}: line {error.lineno} of the parameters cell is no Python: {(error.text or '').strip()!r}",
            "lines of name: type = literal  # Sentence.",
            "mend it in JupyterLab",
        ) from error
    for node in body:
        made = _parse_parameter(
            notebook.name, node, text.split("\n")[node.lineno - 1 : node.end_lineno]
        )
        if found.setdefault(made.name, made) is not made:
            raise KitError(
                f"{notebook.name}: the parameters cell sets {made.name!r} twice",
                "each name once",
                "take one line out",
            )
    return found


def _parse_parameter(book: str, node: ast.stmt, lines: list[str]) -> Parameter:
    """One statement of a parameters cell, which is these lines, as a parameter."""
    target = (
        node.target
        if isinstance(node, ast.AnnAssign)
        else node.targets[0]
        if isinstance(node, ast.Assign)
        else None
    )
    if (
        not isinstance(node, (ast.AnnAssign, ast.Assign))
        or not isinstance(target, ast.Name)
        or node.value is None
    ):
        raise KitError(
            f"{book}: the parameters cell holds {ast.unparse(node)!r}",
            "lines of name: type = literal  # Sentence.",
            "move it to another cell",
        )
    try:
        default = ast.literal_eval(node.value)
        if normalize_value(default) != default:
            raise TypeError("a tuple")
    except (ValueError, TypeError) as error:
        raise KitError(
            f"{book}: parameter {target.id!r} is not a plain literal: {ast.unparse(node.value)}",
            "a number, text, list or dict written out",
            "move the computation to another cell",
        ) from error
    annotated = ast.unparse(node.annotation).strip("'") if isinstance(node, ast.AnnAssign) else ""
    if "\n".join(lines).count("=") > 1:
        raise KitError(
            f"{book}: papermill loses the parameter {target.id!r}: {lines[0].strip()!r}",
            "no second '=', not even in text or in the comment",
            "mend the line in JupyterLab",
        )
    if not re.fullmatch(rf"(({'|'.join(PARAMETER_TYPES)})\b[\[\], ]*)*", annotated):
        raise KitError(
            f"{book}: parameter {target.id!r} has the type {annotated!r}, which papermill loses or nothing checks",
            f"{suggest_names(annotated, PARAMETER_TYPES)}; none, and a default of None or '', if any value is meant",
            "mend the line in JupyterLab",
        )
    sentence = (
        lines[-1].encode()[node.end_col_offset :].decode().partition("#")[2].strip()
    )  # ast counts bytes
    return Parameter(
        target.id,
        annotated or ("" if default in (None, "") else type(default).__name__),
        default,
        sentence,
    )
