"""The feature table: one line per row, for any rows and any history.

Training and scoring share ``build_features``. ``check_point_in_time`` computes the features again
from what was known at a given time, and reports those that used later data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from datetime import datetime

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Verdict
from mlops_kit.data.columns import list_feature_columns, list_key_columns, list_source_features
from mlops_kit.data.features.views import (
    FeatureDatabase,
    FeatureView,
    convert_to_naive_utc,
    load_views,
)
from mlops_kit.data.source import mask_unknown_values
from mlops_kit.project.config.reserved_names import name_beside_chain
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project

_VIEW_COLUMNS = ("row", "moment")  # that the table "rows" has besides those of the source


def build_features(project: Project, rows: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
    """Build the feature table of rows, from a history that may be longer than they are.

    Returns
    -------
    DataFrame
        One line per row, in order: keys, time, group, weight and target (where the rows have
        them), the source's own feature columns, and the columns of the views. Numeric features
        are float64, so a column's type does not depend on whether a value is missing.

    Raises
    ------
    RunFailedError
        If a view fails, loses or duplicates rows, or returns a column that exists already.
    """
    rows = to_pandas(rows)
    history = to_pandas(history)
    config = project.config
    candidates = [
        *list_key_columns(project),
        config.time,
        config.validation.group,
        config.weight,
        config.target,
    ]
    leading_columns = [column for column in candidates if column in rows.columns]
    own_features = list_source_features(config, rows)
    table_columns = list(dict.fromkeys([*leading_columns, *own_features]))
    base = rows[table_columns].reset_index(drop=True)
    typed = _convert_numbers_to_float(base, own_features)
    parts = [typed.rename(columns=_name_features(own_features, rows.columns))]
    views = load_views(project)
    if not views:
        return parts[0]
    taken_columns = {*parts[0].columns, *config.non_feature_columns}
    with closing(_open_database(config, rows, history)) as database:
        for name, function in views.items():
            features = _compute_view(
                database,
                name,
                function,
                len(rows),
            )
            duplicates = [column for column in features.columns if column in taken_columns]
            if duplicates:
                raise RunFailedError(
                    f"the view {name!r} returns the column {duplicates[0]!r}, which exists already",
                    "a unique name",
                    "rename it in the view",
                )
            taken_columns.update(features.columns)
            parts.append(features)
    return pd.concat(parts, axis=1)


def _name_features(features: Iterable[str], existing: Iterable[str]) -> dict[str, str]:
    """Return the features that would collide with columns of the chain, with their new names."""
    names = {feature: name_beside_chain(feature, existing) for feature in features}
    return {feature: name for feature, name in names.items() if name != feature}


def select_model_inputs(table: pd.DataFrame, features: Sequence[str]) -> pd.DataFrame:
    """Return the columns that a model needs, in its order.

    A model of an earlier version may have a feature under the name that it has in the source.
    """
    table = to_pandas(table)
    missing = [feature for feature in features if feature not in table.columns]
    old_names = {name_beside_chain(feature): feature for feature in missing}
    return table.rename(columns=old_names)[list(features)]


def _open_database(
    config: ProjectConfig,
    rows: pd.DataFrame,
    history: pd.DataFrame,
) -> FeatureDatabase:
    """Open a database with the tables that views read: ``rows`` and ``history``."""
    known_later = {config.target, *config.known_later}
    known_columns = [column for column in rows.columns if column not in known_later]
    known_rows = rows[known_columns].reset_index(drop=True)
    own_names = {name: f"{name}_1" for name in _VIEW_COLUMNS if name in known_rows}
    known_rows = known_rows.rename(columns=own_names)
    known_rows.insert(0, "row", range(len(known_rows)))
    if config.time:
        known_rows.insert(
            1,
            "moment",
            convert_to_naive_utc(known_rows[config.time]),
        )
    database = FeatureDatabase()
    database.add_table("rows", known_rows)
    database.add_table("history", history)
    return database


def _compute_view(
    database: FeatureDatabase,
    name: str,
    function: FeatureView,
    row_count: int,
) -> pd.DataFrame:
    """Compute a view's columns, in the order of the rows."""
    import duckdb

    try:
        relation = function(database)
        if "row" not in relation.columns:
            raise RunFailedError(
                f"the view {name!r} returns {relation.columns}, without 'row'",
                "row and the feature columns",
                "select row in the view",
            )
        result = relation.order('"row"').df()
    except duckdb.Error as error:
        raise RunFailedError(
            f"the view {name!r} failed: {str(error).splitlines()[0]}",
            "valid SQL over the tables rows and history",
            "fix the view",
        ) from error
    except AttributeError as error:
        raise RunFailedError(
            f"the view {name!r} failed: {error}",
            "a function that returns db.sql(...)",
            "fix the view",
        ) from error
    _check_view_rows(name, result["row"], row_count)
    features: pd.DataFrame = result.drop(columns="row")
    return _convert_numbers_to_float(features, features.columns)


def _check_view_rows(name: str, returned_rows: pd.Series, row_count: int) -> None:
    """Check that a view returns each row exactly once."""
    if np.array_equal(returned_rows.to_numpy(), np.arange(row_count)):
        return
    distinct_count = returned_rows.nunique()
    problem = "loses" if distinct_count < row_count else "duplicates"
    raise RunFailedError(
        f"the view {name!r} {problem} rows: {row_count:,} in, {len(returned_rows):,} out, "
        f"{distinct_count:,} of them distinct",
        "one line per row",
        "use a LEFT JOIN on a key that occurs once",
    )


def _convert_numbers_to_float(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Convert numeric columns to float64; booleans stay booleans."""
    types = pd.api.types
    numeric_columns = []
    for column in columns:
        values = frame[column]
        if types.is_numeric_dtype(values) and not types.is_bool_dtype(values):
            numeric_columns.append(column)
    return frame.astype(dict.fromkeys(numeric_columns, "float64"))


def select_known_history(
    project: Project, history: pd.DataFrame, known_by: datetime
) -> pd.DataFrame:
    """Return a history as it was known at a given time: without later rows and later values."""
    history = to_pandas(history)
    cutoff = pd.Timestamp(known_by)
    # The negation keeps rows without a timestamp.
    earlier_rows = history[~(history[project.config.time] >= cutoff)]
    return mask_unknown_values(project, earlier_rows.copy(), cutoff)


def check_point_in_time(
    project: Project,
    rows: pd.DataFrame,
    history: pd.DataFrame,
    known_by: datetime,
) -> Verdict:
    """Check that features use only what was known at prediction time.

    The features of the rows up to ``known_by`` are computed twice: from the whole history, and from
    what was known of it at ``known_by``. They must agree value by value.

    Raises
    ------
    KitError
        If the table has no time column.
    """
    rows = to_pandas(rows)
    history = to_pandas(history)
    config = project.config
    if config.time is None:
        raise KitError(
            "the point-in-time check needs timestamps: the table has no time column",
            "'time' in mlops.yaml",
        )
    early_rows = rows[rows[config.time] <= known_by]
    if early_rows.empty:
        return _make_point_in_time_verdict(
            CheckOutcome.CANNOT_TELL,
            f"No row is at or before {known_by:%Y-%m-%d %H:%M} UTC.",
            observed="no rows",
            limit="some rows",
        )
    complete = build_features(project, early_rows, history)
    known_history = select_known_history(project, history, known_by)
    as_known = build_features(project, early_rows, known_history)
    return _compare_features(
        config,
        complete,
        as_known,
        known_by,
    )


def _compare_features(
    config: ProjectConfig,
    complete: pd.DataFrame,
    as_known: pd.DataFrame,
    known_by: datetime,
) -> Verdict:
    """Compare features from the whole history with those from the history as known."""
    time = f"{known_by:%Y-%m-%d %H:%M} UTC"
    features = list_feature_columns(config, complete)
    counts = {column: count_differences(complete[column], as_known[column]) for column in features}
    leaks = {column: count for column, count in counts.items() if count}
    if not leaks:
        return _make_point_in_time_verdict(
            CheckOutcome.PASSED,
            f"All {len(counts)} features of {len(complete):,} rows are the same, computed from "
            f"what was known at {time}.",
            observed="no difference",
        )
    listed = ", ".join(f"{column} ({count:,} rows)" for column, count in leaks.items())
    return _make_point_in_time_verdict(
        CheckOutcome.FAILED,
        f"At {time} these features used data that was not known yet: {listed}.",
        observed=f"{len(leaks)} of {len(counts)} features differ: {', '.join(leaks)}",
        differing_rows=leaks,
    )


def _make_point_in_time_verdict(
    outcome: CheckOutcome,
    sentence: str,
    observed: str,
    limit: str = "no difference",
    differing_rows: dict[str, int] | None = None,
) -> Verdict:
    """Make the verdict of the point-in-time check."""
    hint = ""
    if differing_rows:
        hint = "join on when a value was known, strictly before the row's timestamp"
    return Verdict(
        check="point_in_time",
        title="Features use only data known at prediction time",
        outcome=outcome,
        severity=CheckSeverity.BLOCKS,
        sentence=sentence,
        observed=observed,
        limit=limit,
        hint=hint,
        diagnostics={"rows": differing_rows} if differing_rows else {},
    )


def count_differences(left: pd.Series, right: pd.Series) -> int:
    """Count the rows on which two columns differ; a missing value equals a missing value."""
    is_same = (left == right) | (left.isna() & right.isna())
    return int((~is_same.fillna(False).astype(bool)).sum())
