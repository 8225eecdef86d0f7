"""For developers: write a migration from the difference between tables.py and the migrations."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import cast

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import Script

from mlops_kit.core.errors import KitError
from mlops_kit.db.migrations.upgrade import create_config, list_revisions
from mlops_kit.db.schema import VERSION_TABLE_NAME
from mlops_kit.db.tables import Base


def write_migration(message: str) -> Path:
    """Write the next migration into ``versions/``.

    Parameters
    ----------
    message : str
        What changes; it becomes the docstring and part of the file name.

    Returns
    -------
    path : Path
        The new module.

    Raises
    ------
    KitError
        If the migrations already create the tables of ``tables.py``.
    """
    next_revision = f"{int(list_revisions()[0]) + 1:04}"
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        config = create_config(connection)
        command.upgrade(config, "head")
        options = {"version_table": VERSION_TABLE_NAME}
        context = MigrationContext.configure(connection, opts=options)
        if not compare_metadata(context, Base.metadata):
            raise KitError(
                "the migrations already create all tables as they are in tables.py",
                "a difference to write down",
                "edit mlops_kit/db/tables.py first",
            )
        config.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
        script = command.revision(
            config,
            message,
            autogenerate=True,
            rev_id=next_revision,
        )
    return Path(cast(Script, script).path)


def main() -> None:
    """Run ``python -m mlops_kit.db.migrations new MESSAGE``."""
    parser = argparse.ArgumentParser(prog="python -m mlops_kit.db.migrations", description=__doc__)
    parser.add_argument("action", choices=["new"])
    parser.add_argument("message", help="what changes, such as 'note of a promotion'")
    arguments = parser.parse_args()
    try:
        path = write_migration(arguments.message)
    except KitError as error:
        parser.exit(error.exit_code, f"{error}\n")
    sys.stdout.write(f"{path}\nRead it, then set HEAD_REVISION in mlops_kit/db/schema.py.\n")


if __name__ == "__main__":
    main()
