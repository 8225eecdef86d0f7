"""Settings of the source, the validation, the data contract and the labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Day, Duration, NameList, Share

DEFAULT_MAX_UNREADABLE_SHARE = 0.01


class FileSource(ConfigSection):
    """A source that is a file, with how it is written; what is not set is detected."""

    file: str = Field(description="File, folder, glob or URL")
    separator: str | None = Field(
        None, description="Character between the fields of a text file; null: detected"
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="Decimal separator of numbers; null: detected"
    )
    thousands: Literal[".", ",", " ", "'", ""] | None = Field(
        None, description="Thousands separator of numbers; null: detected"
    )
    encoding: str | None = Field(
        None, description="Encoding of a text file, such as utf-8 or cp1252; null: detected"
    )
    header: bool | None = Field(
        None, description="Whether the first row has the column names; null: detected"
    )
    skip_rows: int | None = Field(
        None, ge=0, description="Number of lines before the table; null: detected"
    )
    missing: NameList = Field(
        default_factory=list,
        description="Words that stand for a missing value in every column, besides the empty field",
    )
    dates: str | dict[str, str] = Field(
        default_factory=dict,
        description="Format of dates, such as %d/%m/%Y, day-first or month-first, or {column: "
        "format}; empty: detected",
    )
    max_unreadable_share: Share = Field(
        DEFAULT_MAX_UNREADABLE_SHARE,
        description="A column of numbers, timestamps or booleans may have other values in this "
        "share of its rows (in at least one, unless it is 0): those rows are quarantined. With "
        "more of them the column is text",
    )
    sheet: str | int | None = Field(
        None, description="Sheet of an Excel file, by name or position from 1; null: the first"
    )

    @field_validator("separator")
    @classmethod
    def _check_separator(cls, value: str | None) -> str | None:
        """Accept one character, and the word ``tab``."""
        if value in {"tab", "\\t"}:
            return "\t"
        if value is not None and len(value) != 1:
            raise ValueError("expected one character, or tab")
        return value


class QuerySource(ConfigSection):
    """A source that is an SQL query."""

    sql: str = Field(description="The SELECT statement")
    url: str = Field(
        description="SQLAlchemy URL of the database; ${NAME} is replaced by the environment "
        "variable NAME"
    )


def _find_source_type(value: Any) -> str:
    """Return which kind of source a value of mlops.yaml is."""
    if isinstance(value, FileSource | QuerySource):
        return type(value).__name__
    if not isinstance(value, dict):
        return "str"
    return "QuerySource" if {"sql", "url"} & set(value) else "FileSource"


TableSource = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[FileSource, Tag("FileSource")]
    | Annotated[QuerySource, Tag("QuerySource")],
    Discriminator(_find_source_type),
]


def get_file_location(source: TableSource) -> str:
    """Return the path, pattern or URL of a source of files; empty for a query."""
    if isinstance(source, QuerySource):
        return ""
    return source.file if isinstance(source, FileSource) else source


class ValidationConfig(ConfigSection):
    """How rows are split wherever a model is fitted on some and evaluated on others."""

    test: Share | Duration = Field(
        0.2,
        description="Held-out set for the review: the newest 30d (a duration), or a share of the "
        "rows",
    )
    folds: int = Field(
        4,
        ge=2,
        le=20,
        description="Folds of the cross-validation; in time order if the table has timestamps",
    )
    group: str | None = Field(
        None,
        description="Column whose rows belong together, such as the patient of a visit: no group "
        "is in two parts of a split, and intervals resample whole groups. The column is not a "
        "feature. null: rows are split one by one",
    )
    stratify: bool | None = Field(
        None,
        description="Whether random splits keep the class shares, or the distribution of a "
        "regression's target; null: where the classes have enough rows. A split in time cannot",
    )
    repeats: int = Field(
        1,
        ge=1,
        le=20,
        description="How often the random folds are drawn; a recipe's score is the mean over all "
        "of them. Folds in time order can only be formed once",
    )
    excluded_days: list[Day] = Field(
        default_factory=list,
        description="Days, such as 2013-07-04, whose rows neither train nor evaluate a model; a "
        "retraining of mlops watch, and a run by hand, adds those with faults of the feed",
    )


class ColumnDescription(ConfigSection):
    """What a column is called for readers."""

    label: str = Field("", description="What it is called on pages and in reports")
    unit: str = Field("", description="Unit of its values")
    description: str = Field("", description="What it is, in a sentence")


class ContractConfig(ConfigSection):
    """Where the data contract is, and how many rows may violate it."""

    file: str = Field(
        "contract.yaml",
        description="The data contract; inferred from the data if the file is missing, then "
        "edited by people",
    )
    max_quarantined_share: Share = Field(
        0.05, description="Maximum share of rows that may be quarantined; above it the run fails"
    )


class LabelsConfig(ConfigSection):
    """A table from which labels are imported; it may grow."""

    source: TableSource = Field(
        description="File, folder or glob (text, Parquet, Excel, JSON Lines), {file, separator, …} "
        "or {sql, url}"
    )
    key: NameList = Field(
        default_factory=list,
        description="Columns that identify the row, as in 'id', or the single column "
        "prediction_id; empty: the columns of 'id'",
    )
    time: str | None = Field(
        None,
        description="Column with the time from which the label was known; null: the time of the "
        "import",
    )
    value: str = Field("", description="Column with the label; empty: the target's name")
