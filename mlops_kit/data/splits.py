"""Splitting rows into training set and held-out set.

The held-out set is the newest rows, or a random share of a table without time; no choice uses it.
In time, rows whose label was not known when the held-out set begins belong to neither: training on
them would be training on the future.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import PART_COLUMN, list_feature_columns
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration

_PART_NAMES = ("train", "gap", "test", "unlabelled")  # values of the column ``part`` of a run
MIN_PART_ROWS = 20  # fewer rows say nothing about a model
_TARGET_STRATA = 10  # quantile strata of a regression's target


def split_rows(frame: pd.DataFrame, config: ProjectConfig, seed: int) -> tuple[pd.DataFrame, Table]:
    """Assign each row to a part: train, gap, test or unlabelled.

    Parameters
    ----------
    frame : DataFrame
        Rows with the target encoded, see ``mlops_kit.data.target.encode_target``.
    config : ProjectConfig
        ``split.test`` is a duration before the newest labeled row, or a share of the labeled rows.
    seed : int
        Seed of the random split, if the table has no time.

    Returns
    -------
    rows : DataFrame
        The rows with the column ``part`` before the features.
    table : Table
        Size, mean target and period of each part.

    Raises
    ------
    RunFailedError
        If the labeled rows have one class only, or train or test would be too small.
    """
    is_labeled = frame[config.target].notna()
    if config.time:
        parts = _split_by_time(frame, config, is_labeled)
    else:
        parts = _split_at_random(
            frame,
            config,
            is_labeled,
            seed,
        )
    _check_parts(frame[config.target], parts, config)
    rows = frame.copy(deep=False)
    rows.insert(_find_first_feature(frame, config), PART_COLUMN, parts)
    return rows, _describe_parts(rows, config)


def _find_first_feature(frame: pd.DataFrame, config: ProjectConfig) -> int:
    """Return the position of the first feature; after the last column if there is none."""
    feature_columns = list_feature_columns(config, frame)
    for position, column in enumerate(frame.columns):
        if column in feature_columns:
            return position
    return len(frame.columns)


def _split_by_time(
    frame: pd.DataFrame,
    config: ProjectConfig,
    is_labeled: pd.Series,
) -> pd.Series:
    """Split by time: the newest labeled rows are test, after a gap as long as labels take."""
    times = frame[config.time]
    labeled_times = times[is_labeled]
    if labeled_times.empty:
        raise RunFailedError(
            f"no row has a label in {config.target!r}",
            "labeled rows by that time",
            "set a later as_of, or a shorter label_delay",
        )
    test_start = _find_test_start(labeled_times, config.split.test)
    is_known_too_late = times + config.label_delay > test_start
    conditions = [~is_labeled, times >= test_start, is_known_too_late]
    parts = np.select(conditions, ["unlabelled", "test", "gap"], "train")
    return pd.Series(parts, index=frame.index)


def _find_test_start(labeled_times: pd.Series, test: timedelta | float) -> Any:
    """Return the time of the first test row; rows of the same time stay together."""
    if isinstance(test, timedelta):
        newest = labeled_times.max()
        return labeled_times[labeled_times > newest - test].min()
    test_rows = max(1, round(test * len(labeled_times)))
    return labeled_times.sort_values().iloc[len(labeled_times) - test_rows]


def _split_at_random(
    frame: pd.DataFrame,
    config: ProjectConfig,
    is_labeled: pd.Series,
    seed: int,
) -> pd.Series:
    """Split at random, stratified by class or by the quantiles of a regression's target."""
    from sklearn.model_selection import train_test_split

    target = frame.loc[is_labeled, config.target]
    if isinstance(config.split.test, timedelta):
        raise TypeError(f"a table without time needs a share, got split.test={config.split.test}")
    test_rows = round(config.split.test * len(target))
    train_rows = len(target) - test_rows
    if min(test_rows, train_rows) < MIN_PART_ROWS:
        raise _too_few_rows_error(test_rows, train_rows)
    strata = target
    if config.task == "regression":
        ranks = target.rank(method="first")
        strata = (ranks * _TARGET_STRATA / (len(target) + 1)).astype(int)
    can_stratify = strata.value_counts().min() > 1
    _, test_index = train_test_split(
        target.index,
        test_size=test_rows,
        random_state=seed,
        stratify=strata if can_stratify else None,
    )
    parts = pd.Series("train", index=frame.index).where(is_labeled, "unlabelled")
    parts.loc[test_index] = "test"
    return parts


def _too_few_rows_error(test_rows: int, train_rows: int) -> RunFailedError:
    """Build the error for a part that is too small."""
    return RunFailedError(
        f"the split leaves {train_rows:,} rows to train on and {test_rows:,} to test on",
        f"at least {MIN_PART_ROWS} labeled rows in each",
        "provide more rows, or set another split.test in mlops.yaml",
    )


def _check_parts(target: pd.Series, parts: pd.Series, config: ProjectConfig) -> None:
    """Check that train and test are large enough and contain both classes."""
    train_rows = int((parts == "train").sum())
    test_rows = int((parts == "test").sum())
    if min(train_rows, test_rows) < MIN_PART_ROWS:
        raise _too_few_rows_error(test_rows, train_rows)
    if config.task != "binary":
        return
    for part, row_count in (("train", train_rows), ("test", test_rows)):
        classes = target[parts == part].unique()
        if len(classes) < 2:
            raise RunFailedError(
                f"all {row_count:,} {part} rows have one class of {config.target!r}: "
                f"{classes[0]:g}",
                "rows of both classes in train and test",
                "provide more rows, or set another split.test in mlops.yaml",
            )


def _describe_parts(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """Describe the size, mean target and period of each part."""
    period_columns = ["first", "last"] if config.time else []
    records = []
    for part in _PART_NAMES:
        rows = frame[frame[PART_COLUMN] == part]
        has_mean = len(rows) and part != "unlabelled"
        mean = float(rows[config.target].mean()) if has_mean else None
        records.append((part, len(rows), mean, *_describe_period(rows, config)))
    data = pd.DataFrame(records, columns=["part", "rows", "mean target", *period_columns])
    train_rows, gap_rows, test_rows, unlabeled_rows = data["rows"]
    labeled_rows = train_rows + gap_rows + test_rows
    selection = "drawn at random"
    if config.time:
        selection = "the newest labeled ones"
    share = format_percent(test_rows / max(1, labeled_rows))
    sentence = (
        f"{train_rows:,} training rows; {test_rows:,} rows ({share}), {selection}, "
        f"are held out for the review; {unlabeled_rows:,} rows have no label."
    )
    notes: tuple[str, ...] = ()
    if gap_rows:
        delay = format_duration(config.label_delay)
        notes = (
            f"A gap of {delay} precedes the held-out set: the labels of these rows were not known "
            "when it begins.",
        )
    return Table(
        title="Training set and held-out set",
        sentence=sentence,
        data=data,
        units=dict.fromkeys(period_columns, config.timezone),
        notes=notes,
    )


def _describe_period(rows: pd.DataFrame, config: ProjectConfig) -> list[str]:
    """Describe the first and last time of rows; empty for a table without time."""
    if not config.time:
        return []
    if rows.empty:
        return ["", ""]
    times = rows[config.time].dt.tz_convert(config.timezone)
    return [f"{time:%Y-%m-%d %H:%M}" for time in (times.min(), times.max())]
