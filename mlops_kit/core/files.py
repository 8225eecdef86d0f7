"""Files that are written atomically, and hashes of their content."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import from_json_value, to_json_value

_FILE_MODE = 0o644  # mkstemp creates files that only their owner can read


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary_path = Path(name)
    try:
        write(temporary_path)
        with temporary_path.open("rb") as file:
            os.fsync(file.fileno())
        temporary_path.chmod(_FILE_MODE)
        temporary_path.replace(path)
    finally:
        temporary_path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_atomically(path, lambda temporary_path: temporary_path.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a result or plain values as JSON, atomically."""
    text = json.dumps(
        to_json_value(value),
        indent=1,
        ensure_ascii=False,
        allow_nan=False,
    )
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote; results are restored."""
    return from_json_value(json.loads(path.read_text(encoding="utf-8")))


def hash_file(path: Path) -> str:
    """Hash the bytes of a file, or the names and hashes of a folder's files."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = []
    for inner_path in sorted(path.rglob("*")):
        if inner_path.is_file():
            lines.append(f"{inner_path.relative_to(path)} {hash_file(inner_path)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hash_table(frame: pd.DataFrame, volatile_columns: Iterable[str] = ()) -> str:
    """Hash the names, types and values of a table, not how Parquet stores them.

    All missing values are equal, whatever represents them; a category counts as its text.

    Parameters
    ----------
    frame : DataFrame
        The table; the order of rows and columns counts.
    volatile_columns : iterable of str
        Columns that the hash leaves out.
    """
    excluded = set(volatile_columns)
    digest = hashlib.sha256()
    for column in frame.columns:
        if column in excluded:
            continue
        series = frame[column]
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(object)
        if series.dtype == object:
            series = series.map(_to_hashable_text)
        kind = getattr(series.dtype, "kind", "O")
        digest.update(f"{column}:{kind}:{len(series)}".encode())
        digest.update(pd.util.hash_pandas_object(series, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _to_hashable_text(value: Any) -> str | None:
    if getattr(value, "shape", ()):  # a list, as Parquet returns it
        return str(value.tolist())
    is_missing = value is None or value is pd.NA or value != value
    if is_missing:
        return None
    return str(value)


def hash_json(value: Any) -> str:
    """Hash a value that JSON can hold; the order of keys does not count."""
    text = json.dumps(to_json_value(value), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
