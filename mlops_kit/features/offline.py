"""The feature table: for any rows and any history, one line a row, in the order of the rows.

``build`` is what training and scoring share; ``point_in_time`` recomputes it from what was known at
a moment and says whether anything came too early.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Any

from mlops_kit import sources
from mlops_kit.config import Config, Project
from mlops_kit.errors import KitError, RunFailed
from mlops_kit.features.views import Tables, View, load, naive
from mlops_kit.late import np, pd
from mlops_kit.results import Table, Verdict, number

PART = "part"


def names(config: Config, frame: pd.DataFrame) -> list[str]:
    """The columns of a table that a model may see, in their order."""
    return [
        str(c) for c in frame.columns if c not in config.hidden and c not in {PART, sources.ROW}
    ]


def build(project: Project, rows: pd.DataFrame, history: pd.DataFrame) -> pd.DataFrame:
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
    first = [c for c in [*sources.keys(project), config.time, config.target] if c in rows.columns]
    own = names(config, rows)
    base = floats(rows[[*dict.fromkeys([*first, *own])]].reset_index(drop=True), own)
    if not (views := load(project)):
        return base
    parts = [base]
    with closing(opened(config, rows, history)) as db:
        for name, function in views.items():
            columns = answer(db, name, function, len(rows))
            if taken := [
                c
                for c in columns.columns
                if any(c in p.columns for p in parts) or c in config.hidden
            ]:
                raise RunFailed(
                    f"the view {name!r} returns the column {taken[0]!r}, which there is already",
                    "a name of its own",
                    "rename it in the view",
                )
            parts.append(columns)
    return pd.concat(parts, axis=1)


def opened(config: Config, rows: pd.DataFrame, history: pd.DataFrame) -> Tables:
    """The tables ``rows`` (known at the moment of the prediction) and ``history`` (all that became known)."""
    late = {config.target, *config.known_later}
    asked = rows[[c for c in rows.columns if c not in late]].reset_index(drop=True)
    asked.insert(0, "row", range(len(asked)))
    if config.time:
        asked.insert(1, "moment", naive(asked[config.time]))
    db = Tables()
    db.table("rows", asked)
    db.table("history", history)
    return db


def answer(db: Tables, name: str, function: View, count: int) -> pd.DataFrame:
    """A view's columns, ordered by row; worded errors where it does not give one line a row."""
    import duckdb

    try:
        relation = function(db)
        if "row" not in relation.columns:
            raise RunFailed(
                f"the view {name!r} returns {relation.columns}, without 'row'",
                "row and the feature columns",
                "select row in the view",
            )
        found = relation.order('"row"').df()
    except duckdb.Error as error:
        raise RunFailed(
            f"the view {name!r} failed: {str(error).splitlines()[0]}",
            "SQL over rows and history that DuckDB answers",
            "mend the view",
        ) from error
    except AttributeError as error:
        raise RunFailed(
            f"the view {name!r} failed: {error}",
            "a function that returns db.sql(...)",
            "mend the view",
        ) from error
    if not np.array_equal(found["row"].to_numpy(), np.arange(count)):
        kept = found["row"].nunique()
        problem = "loses" if kept < count else "doubles"
        raise RunFailed(
            f"the view {name!r} {problem} rows: {count:,} in, {len(found):,} out, {kept:,} of them different",
            "one line a row",
            "a LEFT JOIN on a key that is there once",
        )
    columns: pd.DataFrame = found.drop(columns="row")
    return floats(columns, columns.columns)


def floats(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The frame with those of the columns that are numbers as float64; truth values stay what they are."""
    numeric = [
        c
        for c in columns
        if pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c])
    ]
    return frame.astype(dict.fromkeys(numeric, "float64"))


def encode(frame: pd.DataFrame, config: Config) -> tuple[pd.DataFrame, Table]:
    """The target as a number: 0 or 1 (the larger class, or True, is 1), NaN where it is not known.

    Raises
    ------
    RunFailed
        If a binary target has more than two classes, or a regression's is no number.
    """
    values, out = frame[config.target], frame.copy(deep=False)
    if config.task == "regression":
        out[config.target] = measured(values, config.target)
        known = int(out[config.target].notna().sum())
        data = pd.DataFrame(
            {"target": ["measured", "not known yet"], "rows": [known, len(out) - known]}
        )
        return out, Table(
            "What is predicted",
            f"{config.target} is a number, known for {known:,} of {len(out):,} rows.",
            data,
        )
    classes = ordered(values.dropna().unique())
    if len(classes) > 2:
        raise RunFailed(
            f"the target {config.target!r} has {len(classes)} classes: {', '.join(map(str, classes[:5]))}",
            "two classes for a binary task",
            "task: regression, or another target, in mlops.yaml",
        )
    # 0/1 and False/True mean themselves even where a short window holds only one of them.
    codes = (
        {c: float(c) for c in classes}
        if all(c in (0, 1) for c in classes)
        else {c: float(i) for i, c in enumerate(classes)}
    )
    out[config.target] = pd.Series(
        [codes.get(v, float("nan")) if pd.notna(v) else float("nan") for v in values],
        index=frame.index,
        dtype="float64",
    )
    counts = out[config.target].value_counts()
    rows = [
        *((str(c), f"{codes[c]:.0f}", int(counts.get(codes[c], 0))) for c in classes),
        ("not known yet", "", int(out[config.target].isna().sum())),
    ]
    positive = next((c for c in classes if codes[c] == 1), None)
    sentence = f"{config.target} is 1 where it is {positive!s}: a share of {number(float(out[config.target].mean()))} of the labelled rows."
    return out, Table(
        "What is predicted", sentence, pd.DataFrame(rows, columns=["class", "code", "rows"])
    )


def ordered(classes: Any) -> list[Any]:
    """Classes from the smallest to the largest; by their text where types are mixed."""
    try:
        return sorted(classes)
    except TypeError:
        return sorted(classes, key=str)


def measured(values: pd.Series, name: str) -> pd.Series:
    """A regression's target as float64."""
    try:
        return values.astype("float64")
    except (ValueError, TypeError) as error:
        raise RunFailed(
            f"the target {name!r} is no number: {values.dropna().iloc[0]!r}",
            "numbers for a regression",
            "task: binary, or another target, in mlops.yaml",
        ) from error


def known(project: Project, frame: pd.DataFrame, cut: datetime) -> pd.DataFrame:
    """A history as it was known at a moment: later rows gone, later values missing."""
    config, limit = project.config, pd.Timestamp(cut)
    return sources.masked(project, frame[~(frame[config.time] >= limit)].copy(), limit)


def point_in_time(
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
    full = build(project, early, history)
    then = build(project, early, known(project, history, cut))
    counts = {c: differing(full[c], then[c]) for c in names(config, full)}
    leaks = {c: n for c, n in counts.items() if n}
    title, when = "Features use only what was known", f"{cut:%Y-%m-%d %H:%M} UTC"
    if early.empty:
        return Verdict(
            "point_in_time",
            title,
            "cannot tell",
            "blocks",
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
            "failed",
            "blocks",
            sentence,
            found,
            "no difference",
            "join on when a value was known, strictly before the row's moment",
            {"rows": leaks},
        )
    sentence = f"All {len(counts)} features of {len(early):,} rows are the same from what was known at {when}."
    return Verdict(
        "point_in_time", title, "passed", "blocks", sentence, "no difference", "no difference"
    )


def differing(left: pd.Series, right: pd.Series) -> int:
    """On how many rows two columns differ; missing equals missing."""
    same = (left == right) | (left.isna() & right.isna())
    return int((~same.fillna(False).astype(bool)).sum())
