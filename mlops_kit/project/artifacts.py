"""Artifacts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.files import (
    hash_file,
    hash_json,
    hash_table,
    read_json,
    write_atomically,
    write_json,
    write_text,
)
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import to_json_value


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
        content = None if record else hash_table(value, volatile)
        facts = {"rows": len(value), "columns": value.shape[1]}
        kind, path = (
            ("tables", run / "artifacts" / name)
            if partition
            else ("table", run / "artifacts" / f"{name}.parquet")
        )
        _write_partitioned_table(path, value, partition) if partition else write_atomically(
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
        held = to_json_value(value)
        kept = (
            {k: v for k, v in held.items() if k not in set(volatile)}
            if isinstance(held, dict)
            else held
        )
        content = None if record else hash_json(kept)
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
        sha256=hash_file(path),
        content=content,
        bytes=size,
        **facts,
    )


def is_project_file_name(name: str) -> bool:
    """Whether a declared output is a file of the project (it has an ending or a folder), not the name of an artifact."""
    return "/" in name or "." in name


def copy_file_artifact(run: Path, stage: str, name: str, path: Path) -> Artifact:
    """File a copy of what a notebook wrote into the project itself."""
    target = run / "artifacts" / name
    write_atomically(target, lambda p: shutil.copyfile(path, p))
    made = hash_file(target)
    return Artifact(
        name=name,
        stage=stage,
        path=str(target.relative_to(run)),
        kind="file",
        sha256=made,
        content=made,
        bytes=target.stat().st_size,
    )


def _write_partitioned_table(path: Path, frame: pd.DataFrame, column: str) -> None:
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
        raise RunFailedError(
            f"the artifact {artifact.name!r} of {run.name} is gone ({artifact.path})",
            "the file that the stage wrote",
            f"mlops run --from {artifact.stage}",
        )
    found = hash_file(path)
    if found != artifact.sha256:
        raise RunFailedError(
            f"the artifact {artifact.name!r} of {run.name} is damaged: hash {found[:12]}",
            artifact.sha256[:12],
            f"mlops run --from {artifact.stage}",
        )
    if artifact.kind == "file":
        return path
    if artifact.kind in {"table", "tables"}:
        return pd.read_parquet(path)
    return read_json(path) if artifact.kind == "result" else path.read_text(encoding="utf-8")


def are_artifacts_intact(run: Path, artifacts: Iterable[Artifact]) -> bool:
    """Whether all of these files are there with the bytes that were recorded."""
    return all((run / a.path).exists() and hash_file(run / a.path) == a.sha256 for a in artifacts)


def find_artifact(artifacts: dict[str, Artifact], name: str, where: str) -> Artifact:
    """An artifact by name, or an error that lists those there are."""
    if name not in artifacts:
        raise KitError(
            f"no artifact {name!r} in {where}",
            suggest_names(name, artifacts) if artifacts else "a run that has got that far",
            "mlops run",
        )
    return artifacts[name]
