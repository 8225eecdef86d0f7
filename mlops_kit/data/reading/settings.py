"""What mlops.yaml says about how a file is to be read; what it does not say is detected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlops_kit.project.config.data import DEFAULT_MAX_UNREADABLE_SHARE, FileSource


@dataclass(frozen=True)
class ReadSettings:
    """How a file is to be read; None and empty values are detected.

    Parameters
    ----------
    separator, decimal, thousands, encoding : str, optional
        How the text is written.
    header : bool, optional
        Whether the table begins with a line of column names.
    skip_rows : int, optional
        Number of lines before the table.
    missing : tuple of str
        Words that stand for a missing value in any column.
    dates : str or dict
        Format of timestamps, of all columns or by column.
    max_unreadable_share : float
        Share of a column's values that may have another type.
    sheet : str or int, optional
        Name of the sheet of an Excel file, or its position from 1.
    excluded_columns : frozenset of str
        Columns whose values are not inspected.
    """

    separator: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    encoding: str | None = None
    header: bool | None = None
    skip_rows: int | None = None
    missing: tuple[str, ...] = ()
    dates: str | Mapping[str, str] = field(default_factory=dict)
    max_unreadable_share: float = DEFAULT_MAX_UNREADABLE_SHARE
    sheet: str | int | None = None
    excluded_columns: frozenset[str] = frozenset()

    @classmethod
    def from_source(
        cls,
        source: object,
        excluded_columns: frozenset[str] = frozenset(),
    ) -> ReadSettings:
        """Return the settings of a source; a plain path or URL has none."""
        if not isinstance(source, FileSource):
            return cls(excluded_columns=excluded_columns)
        return cls(
            separator=source.separator,
            decimal=source.decimal,
            thousands=source.thousands,
            encoding=source.encoding,
            header=source.header,
            skip_rows=source.skip_rows,
            missing=tuple(source.missing),
            dates=source.dates,
            max_unreadable_share=source.max_unreadable_share,
            sheet=source.sheet,
            excluded_columns=excluded_columns,
        )

    def find_date_format(self, column: str) -> str | None:
        """Return the format of a column's timestamps, if it is set."""
        if isinstance(self.dates, str):
            return self.dates or None
        return self.dates.get(column)
