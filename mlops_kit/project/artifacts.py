"""Artifacts: what a stage hands on to later stages, as files in the ``artifacts`` folder of a run.

Tables are stored as Parquet, results as JSON, documents as Markdown or HTML, so that they can be
read without this package.

Each artifact has two hashes. ``sha256`` of the file tells whether it is damaged. ``content`` tells
whether it is the same as in another run: it leaves out what differs between two equal runs, that
is volatile columns or keys. A record, a fact about the outside world such as the number of a
version or the time of an approval, has no ``content``.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable
from enum import StrEnum
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
from mlops_kit.core.frames import convert_foreign_frame, to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import to_json_value

_ARTIFACTS_FOLDER = "artifacts"
_SHOWN_HASH_CHARACTERS = 12
_FOLDER_MODE = 0o755  # mkdtemp creates folders that only their owner can read


class ArtifactKind(StrEnum):
    """How an artifact is stored."""

    TABLE = "table"
    PARTITIONED_TABLE = "tables"
    RESULT = "result"
    DOCUMENT = "document"
    FILE = "file"  # a copy of a file that a notebook wrote into the project


class Artifact(BaseModel, extra="forbid"):
    """The description of an artifact.

    Attributes
    ----------
    name, stage : str
        Its name, and the stage that wrote it.
    path : str
        Its file or folder, relative to the run.
    kind : ArtifactKind
        How it is stored.
    sha256 : str
        The hash of the file.
    content : str or None
        The hash of what is the same in equal runs; None for a record.
    bytes : int
        Its size.
    rows, columns : int or None
        The size of a table.
    made_from : dict of str to str
        The artifacts that the stage had read, with their content hashes.
    """

    name: str
    stage: str
    path: str
    kind: ArtifactKind
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
) -> Artifact:
    """Write a value as an artifact of a run.

    Parameters
    ----------
    run : Path
        The folder of the run.
    stage, name : str
        The stage that writes it, and its name.
    value : DataFrame, Result, dict, list, or str
        Data frames become Parquet, text becomes a document (HTML if it starts with ``<``), other
        values JSON.
    volatile : iterable of str
        Columns of a table or keys of a dict that the content hash leaves out.
    record : bool
        Whether it is a fact about the outside world, which has no content hash.
    """
    folder = run / _ARTIFACTS_FOLDER
    value = convert_foreign_frame(value)
    content: str | None
    if hasattr(value, "iterrows"):
        path = folder / f"{name}.parquet"
        write_atomically(path, lambda file: value.to_parquet(file, index=False))
        content = hash_table(value, volatile)
        artifact = _describe_artifact(
            run,
            stage,
            name,
            path,
            ArtifactKind.TABLE,
        )
        artifact.rows, artifact.columns = value.shape
    elif isinstance(value, str):
        is_html = value.lstrip().startswith("<")
        path = folder / f"{name}.{'html' if is_html else 'md'}"
        write_text(path, value)
        content = hashlib.sha256(value.encode()).hexdigest()
        artifact = _describe_artifact(
            run,
            stage,
            name,
            path,
            ArtifactKind.DOCUMENT,
        )
    else:
        path = folder / f"{name}.json"
        write_json(path, value)
        content = hash_json(_drop_keys(to_json_value(value), volatile))
        artifact = _describe_artifact(
            run,
            stage,
            name,
            path,
            ArtifactKind.RESULT,
        )
    artifact.content = None if record else content
    return artifact


def write_partitioned_artifact(
    run: Path,
    stage: str,
    name: str,
    frame: pd.DataFrame,
    partition: str,
    volatile: Iterable[str] = (),
) -> Artifact:
    """Write a table as an artifact with one folder per value of a column (``day=2013-07-01/``).

    Parameters
    ----------
    run : Path
        The folder of the run.
    stage, name : str
        The stage that writes it, and its name.
    frame : DataFrame
        The table.
    partition : str
        The column.
    volatile : iterable of str
        Columns that the content hash leaves out.
    """
    frame = to_pandas(frame)
    path = run / _ARTIFACTS_FOLDER / name
    _write_partitioned_table(path, frame, partition)
    artifact = _describe_artifact(
        run,
        stage,
        name,
        path,
        ArtifactKind.PARTITIONED_TABLE,
    )
    artifact.rows, artifact.columns = frame.shape
    artifact.content = hash_table(frame, volatile)
    return artifact


def copy_file_artifact(
    run: Path,
    stage: str,
    name: str,
    path: Path,
) -> Artifact:
    """Copy a file that a notebook wrote into the project to the artifacts of the run."""
    target = run / _ARTIFACTS_FOLDER / name
    write_atomically(target, lambda file: shutil.copyfile(path, file))
    artifact = _describe_artifact(
        run,
        stage,
        name,
        target,
        ArtifactKind.FILE,
    )
    artifact.content = artifact.sha256
    return artifact


def _describe_artifact(
    run: Path,
    stage: str,
    name: str,
    path: Path,
    kind: ArtifactKind,
) -> Artifact:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return Artifact(
        name=name,
        stage=stage,
        path=str(path.relative_to(run)),
        kind=kind,
        sha256=hash_file(path),
        bytes=sum(file.stat().st_size for file in files),
    )


def _drop_keys(value: Any, keys: Iterable[str]) -> Any:
    if not isinstance(value, dict):
        return value
    dropped = set(keys)
    return {key: item for key, item in value.items() if key not in dropped}


def _write_partitioned_table(
    path: Path,
    frame: pd.DataFrame,
    column: str,
) -> None:
    """Write one Parquet file per value of a column; an earlier folder is replaced as a whole."""
    path.parent.mkdir(
        parents=True,
        exist_ok=True,
    )
    temporary_folder = Path(
        tempfile.mkdtemp(
            dir=path.parent,
            prefix=f".{path.name}.",
        )
    )
    for value, rows in frame.groupby(column, sort=True):
        folder = temporary_folder / f"{column}={value}"
        folder.mkdir()
        rows.drop(columns=column).to_parquet(folder / "part-0.parquet", index=False)
    if path.exists():
        shutil.rmtree(path)
    temporary_folder.chmod(_FOLDER_MODE)
    temporary_folder.replace(path)


def is_project_file_name(name: str) -> bool:
    """Return whether a declared output is a file of the project instead of an artifact.

    >>> [is_project_file_name(name) for name in ("features", "data/raw", "raw.csv")]
    [False, True, True]
    """
    return "/" in name or "." in name


def read_artifact(run: Path, artifact: Artifact) -> Any:
    """Read an artifact.

    Returns
    -------
    DataFrame, Result, dict, list, str or Path
        What was written; of a file its path.

    Raises
    ------
    RunFailedError
        If the file is missing or damaged.
    """
    path = run / artifact.path
    if not path.exists():
        raise RunFailedError(
            f"the artifact {artifact.name!r} of {run.name} is missing ({artifact.path})",
            "the file that the stage wrote",
            f"mlops run --from {artifact.stage}",
        )
    sha256 = hash_file(path)
    if sha256 != artifact.sha256:
        raise RunFailedError(
            f"the artifact {artifact.name!r} of {run.name} is damaged: "
            f"hash {sha256[:_SHOWN_HASH_CHARACTERS]}",
            artifact.sha256[:_SHOWN_HASH_CHARACTERS],
            f"mlops run --from {artifact.stage}",
        )
    match artifact.kind:
        case ArtifactKind.FILE:
            return path
        case ArtifactKind.TABLE | ArtifactKind.PARTITIONED_TABLE:
            return pd.read_parquet(path)
        case ArtifactKind.RESULT:
            return read_json(path)
        case ArtifactKind.DOCUMENT:
            return path.read_text(encoding="utf-8")


def are_artifacts_intact(run: Path, artifacts: Iterable[Artifact]) -> bool:
    """Return whether the files of all artifacts exist and are as they were written."""
    for artifact in artifacts:
        path = run / artifact.path
        if not path.exists() or hash_file(path) != artifact.sha256:
            return False
    return True


def find_artifact(
    artifacts: dict[str, Artifact],
    name: str,
    run_name: str,
) -> Artifact:
    """Find an artifact by its name.

    Raises
    ------
    KitError
        If there is none; the message lists those there are.
    """
    if name in artifacts:
        return artifacts[name]
    expected = "a run that wrote it"
    if artifacts:
        expected = suggest_names(name, artifacts)
    raise KitError(f"no artifact {name!r} in {run_name}", expected, "mlops run")
