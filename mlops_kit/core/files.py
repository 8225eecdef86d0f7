"""Files of a run: written atomically, hashed by content, read back with their type.

A run is a folder; what a stage hands on stands in ``artifacts/``. Tables are Parquet, results JSON,
documents Markdown or HTML, so that others can read them without this package.

Two hashes stand beside each artifact: ``sha256`` of the file (is it damaged?) and ``content`` (is it
the same?), which leaves out what differs between two equal runs: columns named volatile, and all of
a *record* (a fact about the world outside, such as a version's number or the moment of an approval).
"""

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


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, flush it to disk, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text atomically, as UTF-8."""
    write_atomically(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a result or plain values as JSON, atomically."""
    write_text(
        path, json.dumps(to_json_value(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote; results come back as their own kind."""
    return from_json_value(json.loads(path.read_text(encoding="utf-8")))


def hash_file(path: Path) -> str:
    """The hash of a file's bytes; of a folder, of its files' names and hashes."""
    if path.is_dir():
        inner = [
            f"{p.relative_to(path)} {hash_file(p)}" for p in sorted(path.rglob("*")) if p.is_file()
        ]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_table(frame: pd.DataFrame, volatile: Iterable[str] = ()) -> str:
    """The hash of a table's values: names, types and cells in order; not of how Parquet packed them.

    Missing is one value, whatever stands for it; a category counts as its text.
    """
    digest = hashlib.sha256()
    for column in [c for c in frame.columns if c not in set(volatile)]:
        series = frame[column]
        if isinstance(series.dtype, pd.CategoricalDtype):
            series = series.astype(object)
        if series.dtype == object:
            series = series.map(lambda v: None if v is None or v is pd.NA or v != v else str(v))
        digest.update(
            f"{column}:{series.dtype.kind if hasattr(series.dtype, 'kind') else 'O'}:{len(series)}".encode()
        )
        digest.update(pd.util.hash_pandas_object(series, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """The hash of anything JSON can hold, keys sorted."""
    return hashlib.sha256(
        json.dumps(to_json_value(value), sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()
