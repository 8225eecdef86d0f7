"""Several files as one table: keys are detected, rows of the first file stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.data.readers import read_table

_MAX_KEY_COLUMNS = 3
_MIN_MATCHED_SHARE = 0.5  # of the rows whose key must be in the other file


class JoinedFile(BaseModel, frozen=True, extra="forbid"):
    """A file that is part of a table.

    Parameters
    ----------
    file : str
        Its path, absolute or from the project's folder.
    keys : list of str
        Columns by which its columns are added to the rows of the files before; empty for the first
        file and for one whose rows are appended.

    Examples
    --------
    >>> JoinedFile("data/customers.csv", keys=["customer_id"]).keys
    ['customer_id']
    """

    file: str
    keys: list[str] = []

    def __init__(self, file: str, keys: Sequence[str] = ()) -> None:
        super().__init__(file=file, keys=list(keys))


class JoinStep(NamedTuple):
    """A file of a table, how it is joined, and why."""

    joined: JoinedFile
    sentence: str


def detect_joins(frames: Mapping[str, pd.DataFrame], target: str) -> list[JoinStep]:
    """Detect how files make one table.

    The file with the target comes first. Files with the same columns are appended to it; the
    columns of another file are added by the columns that both have, if these identify its rows.

    Raises
    ------
    KitError
        If no file has the target, or a file cannot be joined.
    """
    first = _find_first_file(frames, target)
    base = frames[first]
    steps = [JoinStep(JoinedFile(first), f"{first} has the target: {len(base):,} rows.")]
    for file, frame in frames.items():
        if file == first:
            continue
        if set(frame.columns) == set(base.columns):
            sentence = f"{file} has the same columns: its {len(frame):,} rows are appended."
            steps.append(JoinStep(JoinedFile(file), sentence))
            continue
        keys, matched_share = _find_keys(base, frame, file)
        sentence = (
            f"{file} is joined by {', '.join(keys)}, unique there; "
            f"{format_percent(matched_share)} of the rows have a match."
        )
        steps.append(JoinStep(JoinedFile(file, keys), sentence))
    # Rows are appended first, so that the other files add their columns to all of them.
    return sorted(steps, key=lambda step: bool(step.joined.keys))


def _find_first_file(frames: Mapping[str, pd.DataFrame], target: str) -> str:
    """Return the first file that has the target.

    Raises
    ------
    KitError
        If there is none.
    """
    for file, frame in frames.items():
        if target in frame.columns:
            return file
    raise KitError(
        f"no file has the column {target!r}",
        f"the target in one of: {', '.join(frames)}",
        "name another column with --target",
    )


def _find_keys(base: pd.DataFrame, frame: pd.DataFrame, file: str) -> tuple[list[str], float]:
    """Find the columns that identify the rows of a file, and occur in the first file.

    Returns
    -------
    keys : list of str
        The fewest columns; of several, those with most matches.
    matched_share : float
        Share of the rows of the first file that have a match.

    Raises
    ------
    KitError
        If there are none.
    """
    common = [str(column) for column in frame.columns if column in base.columns]
    for count in range(1, min(len(common), _MAX_KEY_COLUMNS) + 1):
        shares = {}
        for keys in combinations(common, count):
            rows = frame[list(keys)]
            if rows.notna().all(axis=None) and not rows.duplicated().any():
                shares[keys] = _compute_matched_share(base, frame, list(keys))
        if not shares:
            continue
        best = max(shares, key=lambda keys: shares[keys])
        if shares[best] >= _MIN_MATCHED_SHARE:
            return list(best), shares[best]
    columns = ", ".join(common) or "none"
    raise KitError(
        f"{file} cannot be joined with the file that has the target",
        f"columns that both have and that identify a row of {file}; common columns: {columns}",
        "give the key the same name in both files, or join them before",
    )


def _compute_matched_share(base: pd.DataFrame, frame: pd.DataFrame, keys: list[str]) -> float:
    """Compute the share of rows whose key is in another file; 0 if the types do not fit."""
    try:
        merged = base[keys].merge(frame[keys], on=keys, how="left", indicator=True)
    except ValueError:
        return 0.0
    return float((merged["_merge"] == "both").mean())


def join_files(files: Sequence[JoinedFile], root: str | Path = ".") -> pd.DataFrame:
    r"""Read files and make one table of them.

    Parameters
    ----------
    files : sequence of JoinedFile
        The files; the first has the target.
    root : path
        The folder from which relative paths are resolved.

    Returns
    -------
    DataFrame
        The rows of the first file, and of those appended to it, in their order. A column whose name
        exists already gets the name of its file as a suffix.

    Raises
    ------
    KitError
        If a key is not unique in its file: rows would multiply.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "visits.csv").write_text("city,rain\nRome,0\nOslo,1\n")
    >>> _ = (folder / "cities.csv").write_text("city,country\nRome,IT\nOslo,NO\n")
    >>> files = [JoinedFile("visits.csv"), JoinedFile("cities.csv", keys=["city"])]
    >>> list(join_files(files, folder)["country"])
    ['IT', 'NO']
    """
    table = pd.DataFrame()
    for position, joined in enumerate(files):
        frame = read_table(str(Path(root) / joined.file), description=joined.file).frame
        if not joined.keys:
            parts = [frame] if position == 0 else [table, frame[table.columns]]
            table = pd.concat(parts, ignore_index=True)
            continue
        if frame.duplicated(joined.keys).any():
            raise KitError(
                f"{', '.join(joined.keys)} is not unique in {joined.file}",
                "one row per key",
                "remove the repeated rows, or name further key columns",
            )
        table = table.merge(
            frame,
            on=joined.keys,
            how="left",
            suffixes=("", f"_{Path(joined.file).stem}"),
        )
    return table
