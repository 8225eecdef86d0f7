"""The feature table: for any rows and any history, one line a row, in the order of the rows.

``build`` is what training and scoring share; ``point_in_time`` recomputes it from what was known at
a moment and says whether anything came too early.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.data import source
from mlops_kit.data.columns import list_feature_columns, list_key_columns
from mlops_kit.data.features.views import (
    FeatureDatabase,
    FeatureView,
    convert_to_naive_utc,
    load_views,
)
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project


def build_features(project: Project, rows: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """The feature table of rows, from a history that may be longer than they are.

    Returns
    -------
    DataFrame
        As many rows as came in, in their order: key, time and target (where the rows have it), the
        source's own columns that a model may see, and the columns of the views. Features that are
        numbers are float64, so that a column's type does not hang on whether a value is missing.

    Raises
    ------
    RunFailed
        If a view fails, loses or doubles rows, or returns a column that there is already.
    """
    config = project.config
    first = [
        c for c in [*list_key_columns(project), config.time, config.target] if c in rows.columns
    ]
    own = list_feature_columns(config, rows)
    base = _convert_numbers_to_float(
        rows[[*dict.fromkeys([*first, *own])]].reset_index(drop=True), own
    )
    if not (views := load_views(project)):
        return base
    parts = [base]
    with closing(_open_database(config, rows, history)) as db:
        for name, function in views.items():
            columns = _compute_view(db, name, function, len(rows))
            if taken := [
                c
                for c in columns.columns
                if any(c in p.columns for p in parts) or c in config.non_feature_columns
            ]:
                raise RunFailedError(
                    f"the view {name!r} returns the column {taken[0]!r}, which there is already",
                    "a name of its own",
                    "rename it in the view",
                )
            parts.append(columns)
    return pd.concat(parts, axis=1)


def _open_database(
    config: ProjectConfig, rows: pd.DataFrame, history: pd.DataFrame
) -> FeatureDatabase:
    """The tables ``rows`` (known at the moment of the prediction) and ``history`` (all that became known)."""
    late = {config.target, *config.known_later}
    asked = rows[[c for c in rows.columns if c not in late]].reset_index(drop=True)
    asked.insert(0, "row", range(len(asked)))
    if config.time:
        asked.insert(1, "moment", convert_to_naive_utc(asked[config.time]))
    db = FeatureDatabase()
    db.add_table("rows", asked)
    db.add_table("history", history)
    return db


def _compute_view(
    db: FeatureDatabase, name: str, function: FeatureView, count: int
) -> pd.DataFrame:
    """A view's columns, ordered by row; worded errors where it does not give one line a row."""
    import duckdb

    try:
        relation = function(db)
        if "row" not in relation.columns:
            raise RunFailedError(
                f"the view {name!r} returns {relation.columns}, without 'row'",
                "row and the feature columns",
                "select row in the view",
            )
        found = relation.order('"row"').df()
    except duckdb.Error as error:
        raise RunFailedError(
            f"the view {name!r} failed: {str(error).splitlines()[0]}",
            "SQL over rows and history that DuckDB answers",
            "mend the view",
        ) from error
    except AttributeError as error:
        raise RunFailedError(
            f"the view {name!r} failed: {error}",
            "a function that returns db.sql(...)",
            "mend the view",
        ) from error
    if not np.array_equal(found["row"].to_numpy(), np.arange(count)):
        kept = found["row"].nunique()
        problem = "loses" if kept < count else "doubles"
        raise RunFailedError(
            f"the view {name!r} {problem} rows: {count:,} in, {len(found):,} out, {kept:,} of them different",
            "one line a row",
            "a LEFT JOIN on a key that is there once",
        )
    columns: pd.DataFrame = found.drop(columns="row")
    return _convert_numbers_to_float(columns, columns.columns)


def _convert_numbers_to_float(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The frame with those of the columns that are numbers as float64; truth values stay what they are."""
    numeric = [
        c
        for c in columns
        if pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c])
    ]
    return frame.astype(dict.fromkeys(numeric, "float64"))


def select_known_history(project: Project, frame: pd.DataFrame, cut: datetime) -> pd.DataFrame:
    """A history as it was known at a moment: later rows gone, later values missing."""
    config, limit = project.config, pd.Timestamp(cut)
    return source.mask_unknown_values(project, frame[~(frame[config.time] >= limit)].copy(), limit)


def check_point_in_time(
    project: Project, rows: pd.DataFrame, history: pd.DataFrame, cut: datetime
) -> Verdict:
    """Whether the features of the rows up to a moment use only what was known at that moment.

    The features are computed twice, from the history and from what was known of it at ``cut``; for
    rows at or before ``cut`` they must agree value by value.

    Raises
    ------
    KitError
        If the table has no time.
    """
    config = project.config
    if config.time is None:
        raise KitError(
            "a point in time needs moments: the table has no time column", "'time' in mlops.yaml"
        )
    early = rows[rows[config.time] <= cut]
    full = build_features(project, early, history)
    then = build_features(project, early, select_known_history(project, history, cut))
    counts = {c: count_differences(full[c], then[c]) for c in list_feature_columns(config, full)}
    leaks = {c: n for c, n in counts.items() if n}
    title, when = "Features use only what was known", f"{cut:%Y-%m-%d %H:%M} UTC"
    if early.empty:
        return Verdict(
            "point_in_time",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.BLOCKS,
            f"No row is at or before {when}.",
            "no rows",
            "some rows",
        )
    if leaks:
        said = ", ".join(f"{c} ({n:,} rows)" for c, n in leaks.items())
        sentence, found = (
            f"At {when} these features saw what was not known yet: {said}.",
            f"{len(leaks)} of {len(counts)} features differ: {', '.join(leaks)}",
        )
        return Verdict(
            "point_in_time",
            title,
            CheckOutcome.FAILED,
            CheckSeverity.BLOCKS,
            sentence,
            found,
            "no difference",
            "join on when a value was known, strictly before the row's moment",
            {"rows": leaks},
        )
    sentence = f"All {len(counts)} features of {len(early):,} rows are the same from what was known at {when}."
    return Verdict(
        "point_in_time",
        title,
        CheckOutcome.PASSED,
        CheckSeverity.BLOCKS,
        sentence,
        "no difference",
        "no difference",
    )


def count_differences(left: pd.Series, right: pd.Series) -> int:
    """On how many rows two columns differ; missing equals missing."""
    same = (left == right) | (left.isna() & right.isna())
    return int((~same.fillna(False).astype(bool)).sum())
