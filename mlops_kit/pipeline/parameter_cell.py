"""Read the cell tagged ``parameters`` of a notebook, without running it.

A line is ``name: type = literal  # Sentence.`` Whatever else papermill runs is accepted: a default
that is not a literal is left to the notebook, and so is one that later code of the cell may change.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import MissingExtraError, import_from_extra
from mlops_kit.pipeline.param_types import (
    PARAMETER_TYPES,
    ComputedDefault,
    Parameter,
    normalize_value,
)
from mlops_kit.project.notebook_cells import load_code_cells

_TYPE_PATTERN = re.compile(rf"(({'|'.join(PARAMETER_TYPES)})\b[\[\], ]*)*")
# Commands of IPython, which are not Python: alone on a line, or as the value of a name.
_MAGIC_LINE = re.compile(r"^[ \t]*(%|!|\?).*$", re.MULTILINE)
_MAGIC_VALUE = re.compile(r"^([ \t]*\w+[ \t]*=)[ \t]*[%!].*$", re.MULTILINE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_NO_DEFAULT = "not set"
_OPTIONAL_NAMES = ("Optional", "Union")
_GENERIC_NAMES = {"List": "list", "Dict": "dict"}


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name; none if no cell is tagged ``parameters``.

    Of a name that is assigned twice, the last line counts, as it does when the cell is run.

    Raises
    ------
    KitError
        If the cell is not Python.
    """
    text = _read_parameters_cell(notebook)
    try:
        statements = _parse_cell(text)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise KitError(
            f"{notebook.name}: line {error.lineno} of the parameters cell is not Python: {line!r}",
            "lines of name: type = literal  # Sentence.",
            "correct the line in JupyterLab",
        ) from error
    lines = text.split("\n")
    parameters: dict[str, Parameter] = {}
    for statement in statements:
        # ast counts bytes; what follows the statement on its last line is the comment.
        last_line = lines[(statement.end_lineno or statement.lineno) - 1].encode()
        rest_of_line = last_line[statement.end_col_offset :].decode()
        description = rest_of_line.partition("#")[2].strip()
        for name in _list_changed_names(statement) & parameters.keys():
            default = ComputedDefault(repr(parameters[name].default))
            parameters[name] = replace(parameters[name], default=default)
        for parameter in _parse_statement(statement, description):
            parameters[parameter.name] = parameter
    return parameters


def _parse_cell(text: str) -> list[ast.stmt]:
    """Parse a cell; one with syntax of IPython is translated first.

    Raises
    ------
    SyntaxError
        If a kernel could not run it either.
    """
    try:
        return ast.parse(text).body
    except SyntaxError as error:
        try:
            with import_from_extra("train"):
                from IPython.core.inputtransformer2 import TransformerManager
        except MissingExtraError:  # an installation that runs no notebooks
            raise error from None
        return ast.parse(TransformerManager().transform_cell(text)).body


def _list_changed_names(statement: ast.stmt) -> set[str]:
    """Return the names whose value a statement may change without assigning it anew.

    Those are the names that code mentions; a plain assignment changes only what it assigns.
    """
    is_assignment = isinstance(statement, ast.Assign | ast.AnnAssign)
    has_call = any(isinstance(node, ast.Call) for node in ast.walk(statement))
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    assigns_names = all(isinstance(target, ast.Name | ast.Tuple | ast.List) for target in targets)
    if is_assignment and assigns_names and not has_call:
        return set()
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _read_parameters_cell(notebook: Path) -> str:
    """Return the source of the first cell tagged ``parameters``, without IPython's commands."""
    for cell in load_code_cells(notebook):
        if "parameters" in cell["metadata"].get("tags", []):
            source = _MAGIC_VALUE.sub(r"\1 ...", str(cell["source"]))
            return _MAGIC_LINE.sub("", source)
    return ""


def _parse_statement(statement: ast.stmt, description: str) -> Iterator[Parameter]:
    """Yield the parameters that a statement defines: those that it assigns."""
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        type_name, is_optional = _parse_annotation(statement.annotation)
        default: Any = ComputedDefault(_NO_DEFAULT)
        if statement.value is not None:
            default = _read_default(statement.value)
        yield _create_parameter(
            statement.target.id, type_name, default, description, is_optional=is_optional
        )
    elif isinstance(statement, ast.Assign):
        default = _read_default(statement.value)
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield _create_parameter(target.id, "", default, description)
            elif isinstance(target, ast.Tuple | ast.List):
                part = ComputedDefault(ast.unparse(statement.value))
                for name in _list_names(target):
                    yield _create_parameter(name, "", part, description)
    elif not isinstance(statement, _DEFINITIONS):
        code = ComputedDefault(ast.unparse(statement).partition("\n")[0])
        for name in _list_names(statement):
            yield _create_parameter(name, "", code, description)


def _list_names(node: ast.AST) -> list[str]:
    """Return the names that code assigns."""
    names = [inner for inner in ast.walk(node) if isinstance(inner, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, ast.Store)]


def _create_parameter(
    name: str, type_name: str, default: Any, description: str, is_optional: bool = False
) -> Parameter:
    """Create a parameter; without a type it has the one of its default."""
    has_typed_default = type(default).__name__ in PARAMETER_TYPES and default != ""
    if not type_name and has_typed_default:
        type_name = type(default).__name__
    is_untyped = not type_name and default is not None and default != ""
    return Parameter(name, type_name, default, description, is_optional, is_untyped)


def _parse_annotation(annotation: ast.expr) -> tuple[str, bool]:
    """Return the type that an annotation names, and whether it accepts None.

    The type is empty if it is none of ``PARAMETER_TYPES``: then any value is accepted.
    """
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return "", False
    alternatives = list(_list_alternatives(annotation))
    types = [name for name in alternatives if name != "None"]
    is_optional = len(types) < len(alternatives)
    if len(types) != 1 or not _TYPE_PATTERN.fullmatch(types[0]):
        return "", is_optional
    return types[0], is_optional


def _list_alternatives(annotation: ast.expr) -> Iterator[str]:
    """Yield the types of ``A | B``, ``Optional[A]`` and ``Union[A, B]``, else the type itself."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        yield from _list_alternatives(annotation.left)
        yield from _list_alternatives(annotation.right)
        return
    if isinstance(annotation, ast.Subscript):
        name = _get_last_name(annotation.value)
        if name in _OPTIONAL_NAMES:
            items = annotation.slice
            for item in items.elts if isinstance(items, ast.Tuple) else [items]:
                yield from _list_alternatives(item)
            if name == "Optional":
                yield "None"
            return
        if name in _GENERIC_NAMES:
            yield f"{_GENERIC_NAMES[name]}[{ast.unparse(annotation.slice).strip('()')}]"
            return
    yield ast.unparse(annotation)


def _get_last_name(expression: ast.expr) -> str:
    """Return the name of ``Optional`` and of ``typing.Optional``."""
    return ast.unparse(expression).rpartition(".")[2]


def _read_default(value: ast.expr) -> Any:
    """Return the value of a literal that papermill passes on unchanged, else its code."""
    try:
        default = ast.literal_eval(value)
        # A tuple, for example, would become a list.
        if normalize_value(default) == default and _has_plain_type(default):
            return default
    except (ValueError, TypeError):
        pass
    return ComputedDefault(ast.unparse(value))


def _has_plain_type(default: Any) -> bool:
    """Return whether a default is None or of a type that parameters may have."""
    return default is None or type(default).__name__ in PARAMETER_TYPES
