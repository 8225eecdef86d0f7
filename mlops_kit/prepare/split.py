"""The split: the newest rows (or a random share) are kept from every choice.

In time the rows whose label was not yet known when the test begins are a gap that nobody uses:
training on them would be training on the future.
"""

from __future__ import annotations

from datetime import timedelta

from mlops_kit.config import Config, duration_text
from mlops_kit.errors import RunFailed
from mlops_kit.features import offline
from mlops_kit.late import np, pd
from mlops_kit.results import Table, percent

PARTS = ("train", "gap", "test", "unlabelled")
LEAST = 20  # rows; fewer say nothing about a model
BINS = 10  # quantile strata of a regression's target


def split(frame: pd.DataFrame, config: Config, seed: int) -> tuple[pd.DataFrame, Table]:
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
        in_time(frame, config, labelled)
        if config.time
        else at_random(frame, config, labelled, seed)
    )
    check(frame[config.target], parts, config)
    place = next(
        (i for i, c in enumerate(frame.columns) if c in offline.names(config, frame)),
        len(frame.columns),
    )
    out = frame.copy(deep=False)
    out.insert(place, offline.PART, parts)
    return out, described(out, config)


def in_time(frame: pd.DataFrame, config: Config, labelled: pd.Series) -> pd.Series:
    """Newest labelled rows test; before them a gap as long as labels take."""
    times = frame[config.time]
    known = times[labelled]
    if known.empty:
        raise RunFailed(
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


def at_random(frame: pd.DataFrame, config: Config, labelled: pd.Series, seed: int) -> pd.Series:
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
        else (target.rank(method="first") * BINS / (len(target) + 1)).astype(int)
    )
    if min(count, len(target) - count) < LEAST:
        raise too_few(count, len(target) - count)
    several = strata.value_counts().min() > 1
    _, test = train_test_split(
        target.index, test_size=count, random_state=seed, stratify=strata if several else None
    )
    parts = pd.Series("train", index=frame.index).where(labelled, "unlabelled")
    parts.loc[test] = "test"
    return parts


def too_few(test: int, train: int) -> RunFailed:
    """The error of a part that is too small."""
    return RunFailed(
        f"the split leaves {train:,} rows to train on and {test:,} to test on",
        f"at least {LEAST} labelled rows in each",
        "more rows, or another split.test in mlops.yaml",
    )


def check(target: pd.Series, parts: pd.Series, config: Config) -> None:
    """Refuse a split on which nothing can be learnt or judged."""
    sizes = {part: int((parts == part).sum()) for part in PARTS}
    if min(sizes["train"], sizes["test"]) < LEAST:
        raise too_few(sizes["test"], sizes["train"])
    if config.task != "binary":
        return
    for part in ("train", "test"):
        classes = target[parts == part].unique()
        if len(classes) < 2:
            raise RunFailed(
                f"all {sizes[part]:,} {part} rows have one class of {config.target!r}: {classes[0]:g}",
                "rows of both classes in train and test",
                "more rows, or another split.test in mlops.yaml",
            )


def described(frame: pd.DataFrame, config: Config) -> Table:
    """Rows, mean of the target and period of each part."""
    rows = []
    for part in PARTS:
        mine = frame[frame[offline.PART] == part]
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
    sentence = f"{train:,} rows to train on; {how} ({percent(test / max(1, train + gap + test))}) are kept for the review; {unlabelled:,} have no label."
    notes = (
        (
            f"A gap of {duration_text(config.label_delay)} before the test: its labels were not known when the test begins.",
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
