"""The split: the newest rows (or a random share) are kept from every choice.

In time the rows whose label was not yet known when the test begins are a gap that nobody uses:
training on them would be training on the future.
"""

from __future__ import annotations

from datetime import timedelta

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data import columns
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration

_PART_NAMES = ("train", "gap", "test", "unlabelled")
MIN_PART_ROWS = 20  # rows; fewer say nothing about a model
_TARGET_STRATA = 10  # quantile strata of a regression's target


def split_rows(frame: pd.DataFrame, config: ProjectConfig, seed: int) -> tuple[pd.DataFrame, Table]:
    """Say for each row whether it is train, gap, test or unlabelled.

    Parameters
    ----------
    frame : DataFrame
        With the target encoded (see ``prepare.target``).
    config : Config
        ``split.test`` is a duration before the newest labelled row, or a share of labelled rows.
    seed : int
        Of the random split, where there is no time.

    Returns
    -------
    frame with ``part`` before the features, table of the parts

    Raises
    ------
    RunFailed
        If the labelled rows have one class only, or train or test would be too small.
    """
    labelled = frame[config.target].notna()
    parts = (
        _split_by_time(frame, config, labelled)
        if config.time
        else _split_at_random(frame, config, labelled, seed)
    )
    _check_parts(frame[config.target], parts, config)
    place = next(
        (
            i
            for i, c in enumerate(frame.columns)
            if c in columns.list_feature_columns(config, frame)
        ),
        len(frame.columns),
    )
    out = frame.copy(deep=False)
    out.insert(place, columns.PART_COLUMN, parts)
    return out, _describe_parts(out, config)


def _split_by_time(frame: pd.DataFrame, config: ProjectConfig, labelled: pd.Series) -> pd.Series:
    """Newest labelled rows test; before them a gap as long as labels take."""
    times = frame[config.time]
    known = times[labelled]
    if known.empty:
        raise RunFailedError(
            f"no row has a label in {config.target!r}",
            "labelled rows by that moment",
            "a later as_of, or a shorter label_delay",
        )
    if isinstance(config.split.test, timedelta):
        within = known > known.max() - config.split.test
    else:  # rows of one moment stay together
        within = (
            known
            >= known.sort_values().iloc[len(known) - max(1, round(config.split.test * len(known)))]
        )
    start = known[within].min()
    conditions = [~labelled, times >= start, times + config.label_delay > start]
    return pd.Series(
        np.select(conditions, ["unlabelled", "test", "gap"], "train"), index=frame.index
    )


def _split_at_random(
    frame: pd.DataFrame, config: ProjectConfig, labelled: pd.Series, seed: int
) -> pd.Series:
    """A random share, in the same mix of classes, or of the target's tenths, as the whole."""
    from sklearn.model_selection import train_test_split

    target = frame.loc[labelled, config.target]
    assert not isinstance(
        config.split.test, timedelta
    )  # the config refuses a duration without time
    count = round(config.split.test * len(target))
    strata = (
        target
        if config.task == "binary"
        else (target.rank(method="first") * _TARGET_STRATA / (len(target) + 1)).astype(int)
    )
    if min(count, len(target) - count) < MIN_PART_ROWS:
        raise _too_few_rows_error(count, len(target) - count)
    several = strata.value_counts().min() > 1
    _, test = train_test_split(
        target.index, test_size=count, random_state=seed, stratify=strata if several else None
    )
    parts = pd.Series("train", index=frame.index).where(labelled, "unlabelled")
    parts.loc[test] = "test"
    return parts


def _too_few_rows_error(test: int, train: int) -> RunFailedError:
    """The error of a part that is too small."""
    return RunFailedError(
        f"the split leaves {train:,} rows to train on and {test:,} to test on",
        f"at least {MIN_PART_ROWS} labelled rows in each",
        "more rows, or another split.test in mlops.yaml",
    )


def _check_parts(target: pd.Series, parts: pd.Series, config: ProjectConfig) -> None:
    """Refuse a split on which nothing can be learnt or judged."""
    sizes = {part: int((parts == part).sum()) for part in _PART_NAMES}
    if min(sizes["train"], sizes["test"]) < MIN_PART_ROWS:
        raise _too_few_rows_error(sizes["test"], sizes["train"])
    if config.task != "binary":
        return
    for part in ("train", "test"):
        classes = target[parts == part].unique()
        if len(classes) < 2:
            raise RunFailedError(
                f"all {sizes[part]:,} {part} rows have one class of {config.target!r}: {classes[0]:g}",
                "rows of both classes in train and test",
                "more rows, or another split.test in mlops.yaml",
            )


def _describe_parts(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """Rows, mean of the target and period of each part."""
    rows = []
    for part in _PART_NAMES:
        mine = frame[frame[columns.PART_COLUMN] == part]
        times = mine[config.time].dt.tz_convert(config.timezone) if config.time else None
        period = (
            [f"{m:%Y-%m-%d %H:%M}" for m in (times.min(), times.max())]
            if times is not None and len(mine)
            else ["", ""]
        )
        mean = float(mine[config.target].mean()) if len(mine) and part != "unlabelled" else None
        rows.append((part, len(mine), mean, *(period if config.time else [])))
    data = pd.DataFrame(
        rows, columns=["part", "rows", "mean target", *(["first", "last"] if config.time else [])]
    )
    train, gap, test, unlabelled = data["rows"]
    how = f"the newest {test:,} labelled rows" if config.time else f"{test:,} rows drawn at random"
    sentence = f"{train:,} rows to train on; {how} ({format_percent(test / max(1, train + gap + test))}) are kept for the review; {unlabelled:,} have no label."
    notes = (
        (
            f"A gap of {format_duration(config.label_delay)} before the test: its labels were not known when the test begins.",
        )
        if gap
        else ()
    )
    return Table(
        "How the rows are split",
        sentence,
        data,
        {"first": config.timezone, "last": config.timezone} if config.time else {},
        notes,
    )
