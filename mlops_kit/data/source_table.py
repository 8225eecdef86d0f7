"""The project's source as it is read: all its rows, its columns, and files written as it is."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.data.datasets import DATASETS
from mlops_kit.data.readers import find_plugin_ending, read_query, read_table, resolve_location
from mlops_kit.data.reading.files import TEXT_ENDINGS, find_file_ending, list_text_columns
from mlops_kit.data.reading.records import ReadReport, TableRead
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import is_glob, is_url
from mlops_kit.project.config.data import QuerySource, get_file_location
from mlops_kit.project.config.reserved_names import (
    ROW_ID_NAME,
    choose_source_names,
    name_beside_chain,
)
from mlops_kit.project.loader import Project

DATASET_PREFIX = "dataset:"


def read_raw_source(project: Project, limit: int | None = None) -> pd.DataFrame:
    """Read the source's rows; see ``read_source_table``."""
    frame = _read_rows_without_file(project, limit)
    if frame is None:
        return read_source_table(project, limit).frame
    return frame.rename(columns=_choose_names(project, frame.columns))


def _read_rows_without_file(project: Project, limit: int | None) -> pd.DataFrame | None:
    """Read the rows of a query or a dataset; None if the source is a file."""
    source = project.config.source
    if isinstance(source, QuerySource):
        return read_query(source, limit)
    location = get_file_location(source)
    if location.startswith(DATASET_PREFIX):
        load_dataset = DATASETS[location.removeprefix(DATASET_PREFIX)]
        return load_dataset(limit)
    return None


def read_source_table(
    project: Project,
    limit: int | None = None,
    must_be_usable: bool = True,
) -> TableRead:
    """Read the source's rows, with a report on what was read.

    Parameters
    ----------
    limit : int, optional
        Number of rows to read; None for all.
    must_be_usable : bool
        Whether columns that no stage can use are an error: those with lists, objects or dates with
        two readings. Excluded columns may have them.

    Raises
    ------
    KitError
        If the source is missing or cannot be read, or a column is not usable.
    """
    from mlops_kit.data.reading.typed_table import describe_frame

    source = project.config.source
    location = get_file_location(source)
    frame = _read_rows_without_file(project, limit)
    if frame is not None:
        table = TableRead(frame, describe_frame(frame, location or "query"))
        return _rename_columns(project, table)
    excluded_columns = frozenset(project.config.excluded_columns)
    table = read_table(
        resolve_location(project, location),
        limit,
        f"source: {location!r}",
        "edit 'source' in mlops.yaml",
        ReadSettings.from_source(source, excluded_columns),
    )
    table = replace(table, report=_shorten_paths(project, table.report))
    if must_be_usable:
        _check_usable_columns(table, excluded_columns)
    return _rename_columns(project, table)


def _shorten_paths(project: Project, report: ReadReport) -> ReadReport:
    """Return the report with paths from the project's folder: a moved project reads the same."""
    prefix = f"{project.root}/"
    rejected = [
        line.model_copy(update={"file": line.file.removeprefix(prefix)}) for line in report.rejected
    ]
    files = [file.removeprefix(prefix) for file in report.files]
    return report.model_copy(update={"files": files, "rejected": rejected})


def _choose_names(project: Project, columns: Iterable[str]) -> dict[str, str]:
    """Return the columns that are read under another name, see ``reserved_names``."""
    return choose_source_names(project.config.role_columns, columns)


def _rename_columns(project: Project, table: TableRead) -> TableRead:
    """Rename the columns that would collide with those of the chain, and note it."""
    names = _choose_names(project, table.frame.columns)
    if not names:
        return table
    readings = []
    for reading in table.report.columns:
        name = names.get(reading.column, reading.column)
        notes = list(reading.notes)
        if name != reading.column:
            notes.append(f"called {name}, since tables of a run have a column {reading.column}")
        readings.append(reading.model_copy(update={"column": name, "notes": notes}))
    unreadable_rows = table.unreadable_rows
    return replace(
        table,
        frame=table.frame.rename(columns=names),
        report=table.report.model_copy(update={"columns": readings}),
        unreadable_rows=None if unreadable_rows is None else unreadable_rows.rename(columns=names),
    )


def _check_usable_columns(table: TableRead, excluded_columns: frozenset[str]) -> None:
    """Check that no column that is in use holds lists, objects or dates with two readings."""
    from mlops_kit.data.reading.date_problems import AmbiguousDates, build_date_error

    nested = sorted(table.nested_columns - excluded_columns)
    if nested:
        listed = ", ".join(map(repr, nested))
        raise KitError(
            f"the source has lists or objects in the column {listed}",
            "numbers, text, booleans or timestamps",
            f"excluded_columns: [{', '.join(nested)}] in mlops.yaml, or split the column",
        )
    for column, problem in table.date_problems.items():
        if column not in excluded_columns and isinstance(problem, AmbiguousDates):
            raise build_date_error(problem)


def read_rows_to_score(project: Project, file: str) -> TableRead:
    """Read a file of rows that a person wants to have scored, written as the source is.

    Raises
    ------
    KitError
        If the file cannot be read, or none of its rows.
    """
    from mlops_kit.data.reading.summary import describe_rejected_rows

    source = project.config.source
    excluded_columns = frozenset(project.config.excluded_columns)
    settings = ReadSettings.from_source(source, excluded_columns)
    settings = replace(
        settings, separator=None, encoding=None, header=None, skip_rows=None, sheet=None
    )
    table = read_table(file, settings=settings)
    _check_usable_columns(table, excluded_columns)
    if table.report.rejected_count and table.frame.empty:
        raise KitError(
            f"{file!r} has no row that can be read: {describe_rejected_rows(table.report)}",
            "values of each column's type, and the same number of fields in each line",
            "correct these lines",
        )
    frame = table.frame
    if ROW_ID_NAME in frame and name_beside_chain(ROW_ID_NAME) not in list_source_columns(project):
        return table  # it numbers the rows of a source that has no such column
    return replace(table, frame=frame.rename(columns=_choose_names(project, frame.columns)))


def list_source_columns(project: Project) -> list[str]:
    """Return the source's column names without reading all of it.

    Raises
    ------
    RunFailedError
        If the source has no rows.
    """
    columns = _list_text_file_columns(project)
    if columns:
        names = _choose_names(project, columns)
        return [names.get(column, column) for column in columns]
    frame = read_raw_source(project, limit=5)
    if frame.empty:
        raise build_empty_source_error(project)
    return [str(column) for column in frame.columns]


def _list_text_file_columns(project: Project) -> list[str]:
    """Return the columns of local text files, without importing pandas (1 s); empty for others."""
    source = project.config.source
    location = get_file_location(source)
    if not location or is_url(location) or find_file_ending(location) not in TEXT_ENDINGS:
        return []
    path = resolve_location(project, location)
    is_readable = is_glob(path) or os.path.isfile(path)
    if find_plugin_ending(path) or not is_readable:
        return []
    try:
        return list_text_columns(path, ReadSettings.from_source(source))
    except (OSError, ValueError):
        return []  # reading it all says what is wrong


def build_empty_source_error(project: Project) -> RunFailedError:
    """Build the error for a source without rows."""
    location = get_file_location(project.config.source) or str(project.config.source)
    return RunFailedError(
        f"the source {location!r} has no rows",
        "a header and at least one row",
        "check the job that fills the source",
    )
