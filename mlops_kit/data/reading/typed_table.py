"""Tables that come with types: Parquet files, query results and frames of plugins.

Types that no later step can use are converted, and the conversion is reported: categories become
their values, decimals numbers, durations seconds, and lists and structs JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.data.column_kinds import DisplayKind, infer_display_kind
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.names import choose_names
from mlops_kit.data.reading.records import ColumnReading, ReadReport, TableRead
from mlops_kit.data.reading.storage import is_glob

fsspec = LazyModule("fsspec")
pa = LazyModule("pyarrow")
pc = LazyModule("pyarrow.compute")
ds = LazyModule("pyarrow.dataset")

_MAX_EXAMPLES = 3
_MAX_EXAMPLE_CHARACTERS = 50
_MAX_EXACT_INTEGER = 2**53  # above it, a float does not hold every whole number
_UNNAMED_INDEX = "__index_level_"
_KINDS_BY_DISPLAY_KIND = {
    DisplayKind.BOOLEAN: ColumnKind.BOOLEAN,
    DisplayKind.TIMESTAMP: ColumnKind.TIMESTAMP,
    DisplayKind.EMPTY: ColumnKind.EMPTY,
}


class _TypedColumn(NamedTuple):
    """A column of a usable type, with sentences about what was converted."""

    values: Any
    conversions: list[str]
    is_nested: bool = False


def read_parquet(
    location: str,
    limit: int | None,
    file: str,
) -> TableRead:
    """Read a Parquet file, a folder of them, or all that match a glob pattern.

    Raises
    ------
    FileNotFoundError
        If a pattern matches nothing.
    KitError
        If the files have different columns.
    """
    filesystem, path = fsspec.core.url_to_fs(location)
    paths = sorted(filesystem.glob(path)) if is_glob(path) else path
    if not paths:
        raise FileNotFoundError(location)
    dataset = ds.dataset(
        paths,
        filesystem=filesystem,
        partitioning="hive",
    )
    _check_same_columns(dataset)
    table = dataset.to_table() if limit is None else dataset.head(limit)
    files = list(dataset.files) if isinstance(paths, list) else [file]
    return convert_table(table, files)


def _check_same_columns(dataset: Any) -> None:
    """Check that all files of a dataset have the same columns."""
    first_file = ""
    expected: set[str] = set()
    for fragment in dataset.get_fragments():
        names = set(fragment.physical_schema.names)
        if not first_file:
            first_file, expected = fragment.path, names
        if names != expected:
            listed = ", ".join(sorted(names ^ expected))
            raise KitError(
                f"the files have different columns: {fragment.path} and {first_file} differ in "
                f"{listed}",
                "files with the same columns, in any order",
                "correct the file, or set a pattern that leaves it out",
            )


def convert_table(table: Any, files: Sequence[str]) -> TableRead:
    """Convert an Arrow table to a frame of usable types, with a report."""
    notes = []
    unnamed_index = [name for name in table.column_names if name.startswith(_UNNAMED_INDEX)]
    if unnamed_index:
        table = table.drop_columns(unnamed_index)
        notes.append("An index without a name, stored by pandas, was left out.")
    series: dict[str, pd.Series] = {}
    readings = []
    nested = set()
    for name, column in zip(choose_names(table.column_names), table.columns, strict=True):
        typed = _convert_column(column)
        values = typed.values.to_pandas(ignore_metadata=True) if len(table) else None
        if values is None:
            values = pd.Series(dtype=typed.values.type.to_pandas_dtype())
        series[name.column] = values
        if typed.is_nested:
            nested.add(name.column)
        readings.append(
            ColumnReading(
                column=name.column,
                name_in_file=name.name_in_file,
                type=_choose_kind(typed.values.type, len(column) == column.null_count),
                missing_share=column.null_count / len(column) if len(column) else 0.0,
                examples=_list_examples(values),
                conversions=typed.conversions,
                notes=[name.note] if name.note else [],
            )
        )
    frame = pd.DataFrame(
        series,
        index=pd.RangeIndex(len(table)),
        copy=False,
    )
    report = ReadReport(
        files=list(files),
        rows_in_file=len(frame),
        rows_kept=len(frame),
        columns=readings,
        notes=notes,
    )
    return TableRead(frame, report, frozenset(nested))


def _convert_column(column: Any) -> _TypedColumn:
    """Convert a column to a type that later steps can use."""
    types = pa.types
    if isinstance(column.type, pa.BaseExtensionType):
        stored = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(stored, column.type.storage_type)
    kind = column.type
    if types.is_dictionary(kind):
        typed = _convert_column(column.cast(kind.value_type))
        sentence = "Categories were read as their values."
        return _TypedColumn(typed.values, [sentence, *typed.conversions], typed.is_nested)
    if types.is_decimal(kind):
        return _convert_decimals(column)
    if types.is_integer(kind) and column.null_count and _has_large_integers(column):
        sentence = "Whole numbers beyond 2^53 are text, since some values are missing."
        return _TypedColumn(column.cast(pa.string()), [sentence])
    for is_of_type, convert in _CONVERSIONS:
        if is_of_type(kind):
            return convert(column)
    return _TypedColumn(column, [])


def _convert_durations(column: Any) -> _TypedColumn:
    """Convert durations to seconds."""
    nanoseconds = column.cast(pa.duration("ns")).cast(pa.int64()).cast(pa.float64(), safe=False)
    seconds = pc.divide(nanoseconds, 1e9)
    return _TypedColumn(seconds, ["Durations were converted to seconds."])


def _convert_nested(column: Any) -> _TypedColumn:
    """Convert lists and objects to JSON text."""
    texts = [_format_nested(value) for value in column.to_pylist()]
    sentence = "Lists or objects were read as JSON text."
    return _TypedColumn(_as_text(texts), [sentence], is_nested=True)


def _convert_bytes(column: Any) -> _TypedColumn:
    """Convert bytes to hexadecimal text."""
    texts = [None if value is None else value.hex() for value in column.to_pylist()]
    return _TypedColumn(_as_text(texts), ["Bytes were read as hexadecimal text."])


def _convert_times(column: Any) -> _TypedColumn:
    """Convert times of day to text."""
    return _TypedColumn(column.cast(pa.string()), ["Times of day were read as text."])


def _convert_dates(column: Any) -> _TypedColumn:
    """Convert dates to timestamps."""
    return _TypedColumn(column.cast(pa.timestamp("us")), [])


def _is_bytes(arrow_type: Any) -> bool:
    """Return whether a type holds bytes."""
    types = pa.types
    is_variable = types.is_binary(arrow_type) or types.is_large_binary(arrow_type)
    return bool(is_variable or types.is_fixed_size_binary(arrow_type))


# Each type that is converted, with its conversion; the types are looked up when first used.
_CONVERSIONS: tuple[tuple[Callable[[Any], bool], Callable[[Any], _TypedColumn]], ...] = (
    (lambda kind: pa.types.is_duration(kind), _convert_durations),
    (lambda kind: pa.types.is_nested(kind), _convert_nested),
    (_is_bytes, _convert_bytes),
    (lambda kind: pa.types.is_time(kind), _convert_times),
    (lambda kind: pa.types.is_date(kind), _convert_dates),
    (
        lambda kind: pa.types.is_float16(kind),
        lambda column: _TypedColumn(column.cast(pa.float32()), []),
    ),
)


def _convert_decimals(column: Any) -> _TypedColumn:
    """Convert decimals to whole numbers where that is exact, else to floating-point numbers."""
    try:
        return _convert_column(column.cast(pa.int64()))
    except pa.ArrowInvalid:
        sentence = "Decimals were converted to floating-point numbers."
        return _TypedColumn(column.cast(pa.float64()), [sentence])


def _as_text(texts: Sequence[str | None]) -> Any:
    return pa.chunked_array([pa.array(texts, pa.string())])


def _format_nested(value: Any) -> str | None:
    """Return a list or an object as JSON text."""
    if value is None:
        return None
    return json.dumps(
        value,
        ensure_ascii=False,
        default=str,
    )


def _has_large_integers(column: Any) -> bool:
    """Return whether a float would not hold every value of a column."""
    limits = pc.min_max(column).as_py()
    largest = max(abs(limits["min"] or 0), abs(limits["max"] or 0))
    return bool(largest > _MAX_EXACT_INTEGER)


def _choose_kind(arrow_type: Any, is_empty: bool) -> ColumnKind:
    """Return the kind of a column by its Arrow type."""
    types = pa.types
    if is_empty:
        return ColumnKind.EMPTY
    if types.is_boolean(arrow_type):
        return ColumnKind.BOOLEAN
    if types.is_integer(arrow_type):
        return ColumnKind.INTEGER
    if types.is_floating(arrow_type):
        return ColumnKind.NUMBER
    if types.is_timestamp(arrow_type):
        return ColumnKind.TIMESTAMP
    return ColumnKind.TEXT


def describe_frame(frame: pd.DataFrame, source: str) -> ReadReport:
    """Describe a table that was read by other means, such as a query.

    Parameters
    ----------
    source : str
        Where it comes from.
    """
    readings = [
        ColumnReading(
            column=str(name),
            name_in_file=str(name),
            type=_infer_stored_kind(frame[name]),
            missing_share=float(frame[name].isna().mean()) if len(frame) else 0.0,
            examples=_list_examples(frame[name]),
        )
        for name in frame.columns
    ]
    return ReadReport(
        files=[source],
        rows_in_file=len(frame),
        rows_kept=len(frame),
        columns=readings,
    )


def _infer_stored_kind(values: pd.Series) -> ColumnKind:
    """Return the kind of a column as it is stored; text is text, whatever it says."""
    display_kind = infer_display_kind(values)
    if display_kind is DisplayKind.NUMBER:
        is_integer = pd.api.types.is_integer_dtype(values.dtype)
        return ColumnKind.INTEGER if is_integer else ColumnKind.NUMBER
    return _KINDS_BY_DISPLAY_KIND.get(display_kind, ColumnKind.TEXT)


def _list_examples(values: pd.Series) -> list[str]:
    """Return the first distinct values as text."""
    examples: dict[str, None] = {}
    for value in values.dropna().head(100):
        examples.setdefault(str(value)[:_MAX_EXAMPLE_CHARACTERS])
        if len(examples) == _MAX_EXAMPLES:
            break
    return list(examples)
