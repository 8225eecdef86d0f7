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
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlops_kit.errors import KitError, RunFailed, nearest
from mlops_kit.late import pd
from mlops_kit.results import plain, revive


class Artifact(BaseModel, extra="forbid"):
    """What is known of a file that a stage handed on; ``path`` is relative to the run."""

    name: str
    stage: str
    path: str
    kind: str  # table, tables (partitioned), result, document, file (that a notebook wrote into the project itself)
    sha256: str
    content: str | None = None
    bytes: int
    rows: int | None = None
    columns: int | None = None
    made_from: dict[str, str] = {}


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
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
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a result or plain values as JSON, atomically."""
    write_text(path, json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote; results come back as their own kind."""
    return revive(json.loads(path.read_text(encoding="utf-8")))


def sha256(path: Path) -> str:
    """The hash of a file's bytes; of a folder, of its files' names and hashes."""
    if path.is_dir():
        inner = [
            f"{p.relative_to(path)} {sha256(p)}" for p in sorted(path.rglob("*")) if p.is_file()
        ]
        return hashlib.sha256("\n".join(inner).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def table_hash(frame: pd.DataFrame, volatile: Iterable[str] = ()) -> str:
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


def text_hash(value: Any) -> str:
    """The hash of anything JSON can hold, keys sorted."""
    return hashlib.sha256(
        json.dumps(plain(value), sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()


def write_artifact(
    run: Path,
    stage: str,
    name: str,
    value: Any,
    volatile: Iterable[str] = (),
    record: bool = False,
    partition: str = "",
) -> Artifact:
    """File a value under a name in a run's ``artifacts/``.

    Parameters
    ----------
    value : DataFrame, Result, dict, list, or str
        Frames become Parquet, text becomes a document (HTML if it starts with ``<``), the rest JSON.
    volatile : names
        Columns (of a table) or keys (of a dict) that the content hash leaves out.
    record : bool
        A fact about the world outside: no content hash at all.
    partition : str
        Column by whose values a table is split into folders (``day=2013-07-01/``).
    """
    facts: dict[str, Any] = {}
    if hasattr(value, "iterrows"):
        content = None if record else table_hash(value, volatile)
        facts = {"rows": len(value), "columns": value.shape[1]}
        kind, path = (
            ("tables", run / "artifacts" / name)
            if partition
            else ("table", run / "artifacts" / f"{name}.parquet")
        )
        write_partitions(path, value, partition) if partition else write_atomic(
            path, lambda p: value.to_parquet(p, index=False)
        )
    elif isinstance(value, str):
        kind, path = (
            "document",
            run / "artifacts" / f"{name}.{'html' if value.lstrip().startswith('<') else 'md'}",
        )
        content = None if record else hashlib.sha256(value.encode()).hexdigest()
        write_text(path, value)
    else:
        kind, path = "result", run / "artifacts" / f"{name}.json"
        held = plain(value)
        kept = (
            {k: v for k, v in held.items() if k not in set(volatile)}
            if isinstance(held, dict)
            else held
        )
        content = None if record else text_hash(kept)
        write_json(path, value)
    size = (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else path.stat().st_size
    )
    return Artifact(
        name=name,
        stage=stage,
        path=str(path.relative_to(run)),
        kind=kind,
        sha256=sha256(path),
        content=content,
        bytes=size,
        **facts,
    )


def is_file_name(name: str) -> bool:
    """Whether a declared output is a file of the project (it has an ending or a folder), not the name of an artifact."""
    return "/" in name or "." in name


def take_file(run: Path, stage: str, name: str, path: Path) -> Artifact:
    """File a copy of what a notebook wrote into the project itself."""
    target = run / "artifacts" / name
    write_atomic(target, lambda p: shutil.copyfile(path, p))
    made = sha256(target)
    return Artifact(
        name=name,
        stage=stage,
        path=str(target.relative_to(run)),
        kind="file",
        sha256=made,
        content=made,
        bytes=target.stat().st_size,
    )


def write_partitions(path: Path, frame: pd.DataFrame, column: str) -> None:
    """Write a table as one Parquet file a value of ``column``, the whole folder at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    for value, part in frame.groupby(column, sort=True):
        folder = temporary / f"{column}={value}"
        folder.mkdir()
        part.drop(columns=column).to_parquet(folder / "part-0.parquet", index=False)
    if path.exists():
        shutil.rmtree(path)
    temporary.chmod(0o755)
    temporary.replace(path)


def read_artifact(run: Path, artifact: Artifact) -> Any:
    """Read an artifact back: a DataFrame, a result, plain values, text, or the path of a file.

    Raises
    ------
    RunFailed
        If the file is gone or is not what was recorded.
    """
    path = run / artifact.path
    if not path.exists():
        raise RunFailed(
            f"the artifact {artifact.name!r} of {run.name} is gone ({artifact.path})",
            "the file that the stage wrote",
            f"mlops run --from {artifact.stage}",
        )
    found = sha256(path)
    if found != artifact.sha256:
        raise RunFailed(
            f"the artifact {artifact.name!r} of {run.name} is damaged: hash {found[:12]}",
            artifact.sha256[:12],
            f"mlops run --from {artifact.stage}",
        )
    if artifact.kind == "file":
        return path
    if artifact.kind in {"table", "tables"}:
        return pd.read_parquet(path)
    return read_json(path) if artifact.kind == "result" else path.read_text(encoding="utf-8")


def intact(run: Path, artifacts: Iterable[Artifact]) -> bool:
    """Whether all of these files are there with the bytes that were recorded."""
    return all((run / a.path).exists() and sha256(run / a.path) == a.sha256 for a in artifacts)


def pick(artifacts: dict[str, Artifact], name: str, where: str) -> Artifact:
    """An artifact by name, or an error that lists those there are."""
    if name not in artifacts:
        raise KitError(
            f"no artifact {name!r} in {where}",
            nearest(name, artifacts) if artifacts else "a run that has got that far",
            "mlops run",
        )
    return artifacts[name]
