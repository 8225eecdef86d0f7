"""Where the project's database is. Finding it does not import SQLAlchemy."""

from __future__ import annotations

import os
from pathlib import Path

from mlops_kit.project.loader import SQLITE_PREFIX, Project


def resolve_database_url(project: Project) -> tuple[str, Path | None]:
    """Return the database's URL, and its file if it is SQLite.

    Environment variables in the URL are expanded; a relative SQLite path starts at the project
    folder.
    """
    url = os.path.expandvars(project.config.database)
    file = project.find_sqlite_file(url)
    return (url, None) if file is None else (f"{SQLITE_PREFIX}{file}", file)
