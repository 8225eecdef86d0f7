"""How rows are split: one set of rules for the held-out set, the folds, samples and resampling.

``validation`` in ``mlops.yaml`` defines the scheme, and every split of the project is made here:

- **In time**, if the table has a time column. The newest rows are evaluated, rows of the same time
  stay together, and rows whose label was not known when the evaluated period begins are left out:
  training on them would be training on the future. Scikit-learn's ``TimeSeriesSplit`` counts its
  gap in rows, so it cannot state a delay of labels.
- **After a suspected change of the concept** (``train.change_point``), the held-out set is only as
  large as a verdict needs, and the rows just before it are trained on although their labels were
  not known yet: otherwise all rows after the change would be held out or left out, and no model
  could learn from them.
- **At random** otherwise, by scikit-learn's splitters: stratified by class, or by tenths of a
  regression's target.
- **Grouped**, if ``validation.group`` names a column: no group is in two parts of a split. Rows
  without a group count as one group, because nothing shows that they are unrelated. In time, the
  evaluated rows are still the newest ones, and earlier rows of their groups are removed from
  training. The other way round (removing evaluated rows of groups that were trained on) would
  evaluate on groups that happen to be new instead of on a whole period.
- **Repeated**, if ``validation.repeats`` is above one: the random folds are drawn so many times.

What is chosen (recipe, parameters, threshold) is chosen on the folds, which are formed within the
training rows; the held-out set takes no part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.serialization import Serializable
from mlops_kit.data.columns import PART_COLUMN, get_row_days
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.stats.bootstrap import MIN_BLOCKS, SamplingDesign

if TYPE_CHECKING:
    Fold = tuple[np.ndarray, np.ndarray]

_TARGET_STRATA = 10  # quantile strata of a regression's target
_MAX_GROUP_FOLDS = 20  # a held-out share of groups is made of so many folds at most
_MIN_ROWS_AFTER_CHANGE = 100  # to train on, and for the verdict
_HELD_OUT_SHARE_AFTER_CHANGE = 1 / 3


@dataclass(frozen=True)
class ValidationScheme(Serializable):
    """How the rows of a project are split, as it is stored with a run.

    Attributes
    ----------
    order : str
        ``time`` or ``random``.
    test : str
        The held-out set, as ``mlops.yaml`` states it: a duration or a share.
    folds, repeats : int
        Folds of the cross-validation, and how often they are drawn.
    gap : str
        Time between the training rows and the evaluated rows; empty in random order.
    group : str
        Column whose values are in one part only; empty: rows are split one by one.
    is_stratified : bool
        Whether random splits keep the distribution of the target where that is possible.
    schema_version : int
        Version of this record.
    """

    order: str
    test: str
    folds: int
    repeats: int = 1
    gap: str = ""
    group: str = ""
    is_stratified: bool = False
    schema_version: int = 1

    def describe(self) -> str:
        """Describe the scheme in a sentence or two."""
        if self.order == "time":
            gap = f" with a gap of {self.gap} for the labels" if self.gap != "0s" else ""
            sentence = f"Rows are split in time{gap}; {self.folds} folds in time order."
        else:
            strata = ", stratified by the target" if self.is_stratified else ""
            repeats = f", drawn {self.repeats} times" if self.repeats > 1 else ""
            sentence = f"Rows are split at random{strata}; {self.folds} folds{repeats}."
        if self.group:
            sentence += f" No group of {self.group!r} is in two parts of a split."
        return sentence


def get_validation_scheme(config: ProjectConfig) -> ValidationScheme:
    """Return the scheme that a project's settings define."""
    validation = config.validation
    test = validation.test
    return ValidationScheme(
        order="time" if config.time else "random",
        test=format_duration(test) if isinstance(test, timedelta) else f"{test:g}",
        folds=validation.folds,
        repeats=validation.repeats,
        gap=format_duration(config.label_delay) if config.time else "",
        group=validation.group or "",
        is_stratified=config.time is None and validation.stratify is not False,
    )


def get_group_codes(frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray | None:
    """Return the number of each row's group; None if rows are split one by one.

    Rows without a group share one number.
    """
    if config.validation.group is None:
        return None
    codes, _ = pd.factorize(frame[config.validation.group], use_na_sentinel=False)
    return np.asarray(codes)


def get_sampling_design(frame: pd.DataFrame, config: ProjectConfig) -> SamplingDesign:
    """Return the block of each row for the bootstrap, its group or else its day, and its weight.

    Rows that are split together resemble one another, so they are resampled together as well.
    """
    weights = get_row_weights(frame, config)
    if config.validation.group in frame.columns:
        return SamplingDesign(get_group_codes(frame, config), weights)
    return SamplingDesign(get_row_days(frame, config), weights)


def describe_resampling_blocks(config: ProjectConfig) -> str:
    """Describe what the bootstrap draws: whole groups, whole days, or rows."""
    if config.validation.group:
        return f"whole groups of {config.validation.group!r}"
    return "whole days" if config.time else "rows"


def assign_parts(
    frame: pd.DataFrame,
    config: ProjectConfig,
    is_labeled: pd.Series,
    seed: int,
) -> pd.Series:
    """Assign each row to a part of the split that holds the evaluated rows out.

    Returns
    -------
    Series of str
        ``train``, ``test``, ``gap`` (labels not known when the held-out set begins),
        ``held_out_group`` (earlier rows of a group that is held out) or ``unlabelled``.
    """
    if config.time is None:
        return _assign_random_parts(frame, config, is_labeled, seed)
    parts = _assign_parts_in_time(frame, config, is_labeled)
    groups = get_group_codes(frame, config)
    if groups is None:
        return parts
    is_earlier = parts.isin(["train", "gap"])
    is_held_out_group = np.isin(groups, groups[(parts == "test").to_numpy()])
    return parts.mask(is_earlier & is_held_out_group, "held_out_group")


def _assign_parts_in_time(
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
    test_start = find_verdict_start(frame[is_labeled], config)
    label_delay = timedelta(0)
    if test_start is None:
        test_start = _find_test_start(labeled_times, config.validation.test)
        label_delay = config.label_delay
    is_known_too_late = times + label_delay > test_start
    conditions = [~is_labeled, times >= test_start, is_known_too_late]
    parts = np.select(conditions, ["unlabelled", "test", "gap"], "train")
    return pd.Series(parts, index=frame.index)


def find_verdict_start(labeled: pd.DataFrame, config: ProjectConfig) -> pd.Timestamp | None:
    """Find the first time of the smallest held-out set that can decide after a suspected change.

    Parameters
    ----------
    labeled : DataFrame
        The labeled rows.

    Returns
    -------
    Timestamp or None
        None if no change is suspected, too few rows follow it to train on some and evaluate on
        others, or the usual held-out set is not larger.
    """
    if config.train.change_point is None or config.time is None or labeled.empty:
        return None
    change = pd.Timestamp(config.to_utc(config.train.change_point))
    newer = labeled[labeled[config.time] >= change].sort_values(config.time, kind="stable")
    _, rows_by_day = np.unique(np.asarray(get_row_days(newer, config)), return_counts=True)
    held_out_rows = count_held_out_rows(rows_by_day.tolist())
    if not held_out_rows:
        return None
    start = newer[config.time].iloc[len(newer) - held_out_rows]
    usual_start = _find_test_start(labeled[config.time], config.validation.test)
    return None if usual_start >= start else pd.Timestamp(start)


def count_held_out_rows(rows_by_day: Sequence[int]) -> int:
    """Count the rows to hold out of those after a suspected change; 0 if there are too few.

    They are a third of the rows, at least as many as a verdict needs, of as many days as an
    interval needs; as many as a verdict needs have to remain to train on.

    Parameters
    ----------
    rows_by_day : sequence of int
        The labeled rows of each day after the change that has some, in time order.

    Examples
    --------
    >>> count_held_out_rows([55] * 7), count_held_out_rows([55] * 4), count_held_out_rows([9] * 9)
    (275, 0, 0)
    """
    rows = sum(rows_by_day)
    rows_of_newest_days = sum(rows_by_day[-MIN_BLOCKS:])
    share = round(_HELD_OUT_SHARE_AFTER_CHANGE * rows)
    held_out_rows = max(_MIN_ROWS_AFTER_CHANGE, share, rows_of_newest_days)
    return held_out_rows if rows - held_out_rows >= _MIN_ROWS_AFTER_CHANGE else 0


def _find_test_start(labeled_times: pd.Series, test: timedelta | float) -> Any:
    """Return the time of the first test row; rows of the same time stay together."""
    if isinstance(test, timedelta):
        newest = labeled_times.max()
        return labeled_times[labeled_times > newest - test].min()
    test_rows = max(1, round(test * len(labeled_times)))
    return labeled_times.sort_values().iloc[len(labeled_times) - test_rows]


def _assign_random_parts(
    frame: pd.DataFrame,
    config: ProjectConfig,
    is_labeled: pd.Series,
    seed: int,
) -> pd.Series:
    """Split at random; a share of the groups is held out if there are groups."""
    parts = pd.Series("train", index=frame.index).where(is_labeled, "unlabelled")
    labeled = frame[is_labeled]
    groups = get_group_codes(labeled, config)
    if groups is None or labeled.empty:
        test_positions = _draw_test_rows(labeled[config.target], config, seed)
    else:
        test_positions = _draw_test_groups(labeled[config.target], groups, config, seed)
    parts.loc[labeled.index[test_positions]] = "test"
    return parts


def _draw_test_rows(
    target: pd.Series,
    config: ProjectConfig,
    seed: int,
) -> np.ndarray:
    """Draw single rows, stratified where each stratum has rows for both parts."""
    from sklearn.model_selection import train_test_split

    test_rows = round(_get_test_share(config) * len(target))
    if not 0 < test_rows < len(target):
        return np.arange(test_rows)
    _, test_positions = train_test_split(
        np.arange(len(target)),
        test_size=test_rows,
        random_state=seed,
        stratify=_select_strata(target, config, min_rows=2),
    )
    return np.asarray(test_positions)


def _get_test_share(config: ProjectConfig) -> float:
    test = config.validation.test
    if isinstance(test, timedelta):
        raise TypeError(f"a table without time needs a share, got validation.test={test}")
    return test


def _draw_test_groups(
    target: pd.Series,
    groups: np.ndarray,
    config: ProjectConfig,
    seed: int,
) -> np.ndarray:
    """Draw whole groups with about the share of rows: some of the folds of a grouped split."""
    group_count = len(np.unique(groups))
    if group_count < 2:
        raise RunFailedError(
            f"all {len(target):,} labeled rows are of one group of {config.validation.group!r}",
            "at least two groups",
            "name another column under validation.group, or remove the setting",
        )
    max_folds = min(_MAX_GROUP_FOLDS, group_count)
    share = _get_test_share(config)
    fraction = max(Fraction(share).limit_denominator(max_folds), Fraction(1, max_folds))
    if share == 0 or fraction >= 1:
        return np.arange(round(share * len(target)))
    folds = list(
        _split_random_folds(
            target,
            groups,
            config,
            fraction.denominator,
            seed,
        )
    )
    test_folds = [validation for _, validation in folds[: fraction.numerator]]
    return np.concatenate(test_folds)


def _select_strata(
    target: pd.Series,
    config: ProjectConfig,
    min_rows: int,
) -> pd.Series | None:
    """Return each row's stratum; None if the split is not stratified.

    Raises
    ------
    RunFailedError
        If ``validation.stratify`` is true and a stratum has too few rows.
    """
    stratify = config.validation.stratify
    if stratify is False:
        return None
    strata = target
    if config.task == "regression":
        ranks = target.rank(method="first")
        strata = (ranks * _TARGET_STRATA / (len(target) + 1)).astype(int)
    rows_by_stratum = strata.value_counts()
    if rows_by_stratum.min() >= min_rows:
        return strata
    if stratify:
        raise RunFailedError(
            f"the rarest class or tenth of {config.target!r} has {rows_by_stratum.min()} rows",
            f"at least {min_rows} rows in each, to stratify the split",
            "provide more rows, or remove validation.stratify from mlops.yaml",
        )
    return None


def build_fold_positions(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build the folds of labeled rows: positions of the training and the validation rows of each.

    In time each fold trains on what was known when its validation block begins and validates on
    the block that follows; the first block only trains. At random the folds partition the rows,
    once per repeat.
    """
    if config.time:
        return _build_time_folds(frame, config)
    count = config.validation.folds
    if len(frame) < 2 * count:
        return []
    groups = get_group_codes(frame, config)
    folds: list[Fold] = []
    for repeat in range(config.validation.repeats):
        seed = config.seed + repeat
        folds += _split_random_folds(
            frame[config.target],
            groups,
            config,
            count,
            seed,
        )
    return folds


def _build_time_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build expanding folds of about equal size; rows with the same timestamp stay together."""
    if frame.empty:
        return []
    times = frame[config.time]
    groups = get_group_codes(frame, config)
    ordered = times.sort_values(kind="stable").reset_index(drop=True)
    count = config.validation.folds
    starts = [ordered.iloc[len(ordered) * i // (count + 1)] for i in range(1, count + 1)]
    folds = []
    for position, start in enumerate(starts):
        label_is_known = times + config.label_delay <= start
        in_validation = times >= start
        if position + 1 < count:
            in_validation &= times < starts[position + 1]
        training = np.flatnonzero(label_is_known & (times < start))
        validation = np.flatnonzero(in_validation)
        if groups is not None:
            training = training[~np.isin(groups[training], groups[validation])]
        folds.append((training, validation))
    return folds


def _split_random_folds(
    target: pd.Series,
    groups: np.ndarray | None,
    config: ProjectConfig,
    count: int,
    seed: int,
) -> Iterator[Fold]:
    """Split rows, or groups, into random folds: stratified where each stratum has enough rows.

    Raises
    ------
    RunFailedError
        If there are fewer groups than folds.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold

    strata = _select_strata(target, config, min_rows=count)
    splitter_class: Any = KFold if strata is None else StratifiedKFold
    if groups is not None:
        group_count = len(np.unique(groups))
        if group_count < count:
            raise RunFailedError(
                f"{group_count} groups of {config.validation.group!r} cannot form {count} folds",
                "at least as many groups as folds",
                "provide rows of more groups, or set fewer validation.folds in mlops.yaml",
            )
        splitter_class = GroupKFold if strata is None else StratifiedGroupKFold
    splitter = splitter_class(
        count,
        shuffle=True,
        random_state=seed,
    )
    yield from splitter.split(target, strata, groups)


def draw_random_rows(
    frame: pd.DataFrame,
    rows: int,
    config: ProjectConfig,
) -> np.ndarray:
    """Draw about so many rows of a table without time; return their positions, in order.

    Rows keep the class shares where that is possible; if there are groups, whole groups are drawn.
    """
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    groups = get_group_codes(frame, config)
    if groups is not None and len(np.unique(groups)) > 1:
        splitter = GroupShuffleSplit(
            1,
            train_size=rows / len(frame),
            random_state=config.seed,
        )
        drawn, _ = next(splitter.split(groups, groups=groups))
        return np.sort(drawn)
    target = frame[config.target]
    strata = None
    if config.task != "regression" and target.value_counts(dropna=False).min() > 1:
        strata = target.astype(str)
    drawn, _ = train_test_split(
        np.arange(len(frame)),
        train_size=rows,
        random_state=config.seed,
        stratify=strata,
    )
    return np.sort(drawn)


def assign_halves(frame: pd.DataFrame, config: ProjectConfig) -> np.ndarray:
    """Assign rows to two halves, 0 and 1: every second row, or every second group."""
    groups = get_group_codes(frame, config)
    if groups is None:
        return np.arange(len(frame)) % 2
    return groups % 2


def count_shared_groups(frame: pd.DataFrame, config: ProjectConfig) -> tuple[int, int]:
    """Count the held-out groups that are trained on as well, and all held-out groups."""
    groups = get_group_codes(frame, config)
    if groups is None:
        return 0, 0
    parts = frame[PART_COLUMN].to_numpy()
    test_groups = np.unique(groups[parts == "test"])
    shared = np.intersect1d(groups[parts == "train"], test_groups)
    return len(shared), len(test_groups)
