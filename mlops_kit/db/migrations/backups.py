"""Backups of a SQLite database, made before its tables are migrated."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.files import hash_file, write_atomically

_BYTES_PER_MB = 10**6


def find_backups(file: Path | None) -> list[Path]:
    """Return the backups of a SQLite file, the oldest first; none of a database server."""
    if file is None:
        return []
    backups = file.parent.glob(f"{file.name}.backup-*")
    return sorted(backups, key=lambda backup: backup.name.rpartition("-")[2])


def back_up_file(file: Path, revision: str) -> Path:
    """Copy a SQLite database to ``<file>.backup-<revision>-<timestamp>``, including its WAL.

    If the newest backup has the same content, as after a failed migration, it is returned instead.

    Raises
    ------
    RunFailedError
        If the copy cannot be written.
    """
    timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    backup = file.with_name(f"{file.name}.backup-{revision}-{timestamp}")
    earlier_backups = find_backups(file)
    try:
        write_atomically(backup, partial(_copy_database, file))
        shutil.copymode(file, backup)
    except (OSError, sqlite3.Error) as error:
        size = file.stat().st_size / _BYTES_PER_MB
        raise RunFailedError(
            f"the backup {backup.name} cannot be written: {error}",
            f"space for a copy of the database ({size:.1f} MB) in {file.parent}",
            "free disk space; the database was not changed",
        ) from error
    for earlier_backup in earlier_backups[-1:]:
        if earlier_backup != backup and hash_file(earlier_backup) == hash_file(backup):
            backup.unlink()
            return earlier_backup
    return backup


def _copy_database(file: Path, target_file: Path) -> None:
    """Copy what is committed, with SQLite's backup API."""
    source_uri = f"{file.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(source_uri, uri=True)) as source,
        closing(sqlite3.connect(target_file)) as target,
    ):
        source.backup(target)
