"""Comparison of the JSON artifacts that the stages of two runs wrote, value by value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mlops_kit.core.formatting import format_number
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, Difference, RunSide
from mlops_kit.project.artifacts import Artifact, ArtifactKind
from mlops_kit.project.run_folder import list_artifacts

_SECTION = "JSON artifacts"
_MAX_VALUE_ROWS = 20  # changed values that are shown of each artifact
_COMPARED_ELSEWHERE = "metrics"  # with their confidence intervals, in a section of their own
_PLAIN_KEY = re.compile(r"[^\W\d][\w-]*")
_FRAME_KEY = "__frame__"  # of a table within a result
_ABSENT = object()  # in place of a value that one of the runs does not have


class _ChangedValue(NamedTuple):
    """A value of a JSON document that differs: its path, and the value in either run."""

    path: str
    old: Any
    new: Any


def compare_json_artifacts(old: RunSide, new: RunSide) -> Iterator[ComparisonRow]:
    """Yield the values that differ in the JSON artifacts and JSON files of both runs.

    Values are matched by their path: the keys of objects and the positions in lists. Of numbers the
    difference is stated; nothing is concluded from it, because it is unknown how much of it is
    noise. Records of the outside world, such as the number of a version, are not compared.
    """
    old_artifacts = _list_json_artifacts(old.folder)
    new_artifacts = _list_json_artifacts(new.folder)
    for name in dict.fromkeys([*old_artifacts, *new_artifacts]):
        old_artifact = old_artifacts.get(name)
        new_artifact = new_artifacts.get(name)
        if old_artifact is None or new_artifact is None:
            yield ComparisonRow(
                _SECTION,
                name,
                _describe_presence(old_artifact),
                _describe_presence(new_artifact),
            )
        elif old_artifact.content != new_artifact.content:
            yield from _compare_contents(
                name,
                old.folder / old_artifact.path,
                new.folder / new_artifact.path,
            )


def _list_json_artifacts(run: Path) -> dict[str, Artifact]:
    """Return the JSON artifacts of a run by name, and the project files that are JSON."""
    return {
        name: artifact
        for name, artifact in list_artifacts(run).items()
        if _is_json(artifact) and artifact.content and name != _COMPARED_ELSEWHERE
    }


def _is_json(artifact: Artifact) -> bool:
    """Return whether an artifact is stored as JSON."""
    is_json_file = artifact.kind == ArtifactKind.FILE and artifact.path.endswith(".json")
    return is_json_file or artifact.kind == ArtifactKind.RESULT


def _describe_presence(artifact: Artifact | None) -> str:
    """Return the size of an artifact that a run may not have."""
    return NOT_THERE if artifact is None else f"{artifact.bytes:,} bytes"


def _compare_contents(name: str, old_path: Path, new_path: Path) -> Iterator[ComparisonRow]:
    """Yield the first values of an artifact that differ, and how many more there are."""
    try:
        old_value = _read_plain_values(old_path)
        new_value = _read_plain_values(new_path)
    except (OSError, ValueError) as error:  # removed, damaged or not JSON
        yield ComparisonRow(
            _SECTION,
            name,
            "",
            "",
            explanation=f"other content, which cannot be read as JSON: {error}",
        )
        return
    changed_values = list(find_changed_values(old_value, new_value))
    for changed in changed_values[:_MAX_VALUE_ROWS]:
        yield _build_row(name, changed)
    omitted = len(changed_values) - _MAX_VALUE_ROWS
    if omitted > 0:
        yield ComparisonRow(
            _SECTION,
            f"{name}: other values",
            "",
            "",
            explanation=f"{omitted:,} more",
        )
    if not changed_values:
        yield ComparisonRow(
            _SECTION,
            name,
            "",
            "",
            explanation="the same values, written in another order or form",
        )


def _read_plain_values(path: Path) -> Any:
    """Read a JSON file as plain values, without restoring the results and tables in it."""
    return _expand_frames(json.loads(path.read_text(encoding="utf-8")))


def _expand_frames(value: Any) -> Any:
    """Return a JSON document with each stored table as a list of rows with named values.

    >>> _expand_frames({"data": {"__frame__": {"columns": ["a"], "rows": [[1], [2]]}}})
    {'data': [{'a': 1}, {'a': 2}]}
    """
    if isinstance(value, list):
        return [_expand_frames(item) for item in value]
    if not isinstance(value, dict):
        return value
    frame = value.get(_FRAME_KEY)
    if isinstance(frame, dict) and {"columns", "rows"} <= set(frame):
        return [dict(zip(frame["columns"], row, strict=False)) for row in frame["rows"]]
    return {key: _expand_frames(item) for key, item in value.items()}


def find_changed_values(old: Any, new: Any, path: str = "") -> Iterator[_ChangedValue]:
    """Yield the values that differ between two JSON documents, the innermost ones.

    Examples
    --------
    >>> old = {"rows": 3, "means": {"north": 1.5}, "labels": ["a", "b"]}
    >>> new = {"rows": 4, "means": {"north": 1.5}, "labels": ["a", "c"]}
    >>> [changed.path for changed in find_changed_values(old, new)]
    ['.rows', '.labels[1]']
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from find_changed_values(
                old.get(key, _ABSENT),
                new.get(key, _ABSENT),
                path + _format_key(key),
            )
    elif isinstance(old, list) and isinstance(new, list):
        for position in range(max(len(old), len(new))):
            yield from find_changed_values(
                old[position] if position < len(old) else _ABSENT,
                new[position] if position < len(new) else _ABSENT,
                f"{path}[{position}]",
            )
    elif not _are_equal(old, new):
        yield _ChangedValue(path, old, new)


def _are_equal(old: Any, new: Any) -> bool:
    """Return whether two values are equal; 1 and 1.0 are, 1 and true are not, NaN is NaN."""
    if _is_number(old) and _is_number(new):
        return bool(old == new or (old != old and new != new))
    return type(old) is type(new) and bool(old == new)


def _format_key(key: str) -> str:
    """Return a key as the end of a path; one that is not a plain word has quotes."""
    if _PLAIN_KEY.fullmatch(key):
        return f".{key}"
    return f"[{_format_value(key)}]"


def _build_row(name: str, changed: _ChangedValue) -> ComparisonRow:
    """Build the row of a value that differs; of two numbers with their difference."""
    difference = Difference.DIFFERENT
    explanation = ""
    if _is_number(changed.old) and _is_number(changed.new):
        difference = Difference.UNKNOWN
        explanation = f"difference {format_number(changed.new - changed.old)}"
    return ComparisonRow(
        _SECTION,
        f"{name}{changed.path}",
        _format_value(changed.old),
        _format_value(changed.new),
        difference,
        explanation,
    )


def _is_number(value: Any) -> bool:
    """Return whether a value is a number; JSON's true and false are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _format_value(value: Any) -> str:
    """Return a value as JSON, so that the text "1" and the number 1 look different."""
    if value is _ABSENT:
        return NOT_THERE
    return json.dumps(value, ensure_ascii=False)
