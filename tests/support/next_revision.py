"""A schema revision that the package does not have yet, to test migrations on real tables.

Run as a program (``python -m tests.support.next_revision URL FOLDER [STATEMENT]``) it opens a
database, knowing the revision, and kills itself before a statement that begins so.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mlops_kit.db import engine, schema
from mlops_kit.db.migrations import upgrade
from tests.support.environment import ROOT

NEXT_REVISION = f"{int(schema.HEAD_REVISION) + 1:04}"
READY = "ready"
_MIGRATION = f'''"""Note of a promotion."""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT_REVISION}"
down_revision = "{schema.HEAD_REVISION}"


def upgrade() -> None:
    recreate = "always" if op.get_bind().dialect.name == "sqlite" else "auto"
    with op.batch_alter_table("promotions", recreate=recreate) as batch:
        batch.add_column(sa.Column("note", sa.String(), nullable=True))
    op.execute("UPDATE promotions SET note = why")
'''
_FAULT = '    op.execute("UPDATE promotions SET no_such_column = 1")\n'


def install_next_revision(
    folder: Path,
    set_attribute: Callable[[Any, str, Any], None] = setattr,
    fails: bool = False,
) -> None:
    """Let this process know a second schema revision, which adds a column to ``promotions``."""
    if not folder.exists():
        shutil.copytree(ROOT / "mlops_kit" / "db" / "migrations", folder)
    path = folder / "versions" / f"r{NEXT_REVISION}_note_of_a_promotion.py"
    path.write_text(_MIGRATION + _FAULT * fails)
    set_attribute(upgrade, "SCRIPT_LOCATION", str(folder))
    set_attribute(schema, "HEAD_REVISION", NEXT_REVISION)


def open_database(url: str) -> sa.Engine:
    """Open a database as the package does."""
    path = sa.make_url(url).database
    file = Path(path) if url.startswith("sqlite") and path else None
    engine.get_engine.cache_clear()
    return engine.get_engine(url, file)


def kill_before(statement: str) -> None:
    """Kill this process before it executes a statement that begins so."""

    def kill(_connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        if text.strip().startswith(statement):
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", kill)
    if statement == "COMMIT":
        sa.event.listen(sa.Engine, "commit", lambda _: os.kill(os.getpid(), signal.SIGKILL))


def main() -> None:
    """Open a database in a process of its own."""
    url, folder, *statements = sys.argv[1:]
    if folder:
        install_next_revision(Path(folder))
    for statement in statements:
        kill_before(statement)
    sys.stdout.write(f"{READY}\n")
    sys.stdout.flush()
    open_database(url)


if __name__ == "__main__":
    main()
