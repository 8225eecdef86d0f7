"""Training rows and validation folds: in time where the project has time, else at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import PART_COLUMN
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration

if TYPE_CHECKING:
    Fold = tuple[np.ndarray, np.ndarray]

_TARGET_STRATA = 10  # quantile strata of a regression's target


def select_training_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Select the labeled rows of part ``train``, in time order where there is time."""
    rows = frame[frame[config.target].notna()]
    if PART_COLUMN in rows.columns:
        rows = rows[rows[PART_COLUMN] == "train"]
    if config.time:
        return rows.sort_values(config.time, kind="stable")
    return rows


def select_labeled_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Select every row whose label is known: those that the final model is fitted on."""
    return frame[frame[config.target].notna()]


def build_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build validation folds: positions of the training and the validation rows of each.

    In time each fold trains on what was known when its validation block begins (rows whose label
    came later are in neither) and validates on the block that follows; the first block only trains.
    Without time the folds are random, stratified by class or by tenths of the target.

    Parameters
    ----------
    frame : DataFrame
        Labeled rows, as of ``select_training_rows``.
    config : ProjectConfig
        ``split.folds``, ``time``, ``label_delay`` and ``seed`` are used.

    Raises
    ------
    RunFailedError
        If no fold has rows (of both classes) on both sides.
    """
    folds = _build_time_folds(frame, config) if config.time else _build_random_folds(frame, config)
    target = frame[config.target].to_numpy()
    min_values = 2 if config.task == "binary" else 1
    usable = []
    for training, validation in folds:
        if _is_usable(target[training], min_values) and _is_usable(target[validation], min_values):
            usable.append((training, validation))
    if usable:
        return usable
    delay = ""
    if config.time:
        delay = f" with a label delay of {format_duration(config.label_delay)}"
    raise RunFailedError(
        f"{len(frame):,} training rows in {config.split.folds} folds{delay} "
        "leave no fold to validate a model on",
        "rows of both classes before and in a fold",
        "more rows, or fewer split.folds in mlops.yaml",
    )


def _is_usable(labels: np.ndarray, min_values: int) -> bool:
    """Whether one side of a fold has enough rows and distinct labels."""
    return len(labels) >= 2 and len(set(labels)) >= min_values


def _build_time_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build expanding folds of about equal size; rows with the same timestamp stay together."""
    if frame.empty:
        return []
    times = frame[config.time]
    ordered = times.sort_values(kind="stable").reset_index(drop=True)
    count = config.split.folds
    starts = [ordered.iloc[len(ordered) * i // (count + 1)] for i in range(1, count + 1)]
    folds = []
    for position, start in enumerate(starts):
        label_is_known = times + config.label_delay <= start
        in_validation = times >= start
        if position + 1 < count:
            in_validation &= times < starts[position + 1]
        training = np.flatnonzero(label_is_known & (times < start))
        folds.append((training, np.flatnonzero(in_validation)))
    return folds


def _build_random_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Build random folds with the same mix of classes, or of the target's tenths."""
    from sklearn.model_selection import KFold, StratifiedKFold

    target = frame[config.target]
    count = config.split.folds
    if len(frame) < 2 * count:
        return []
    if config.task == "binary":
        strata = target
    else:
        strata = (target.rank(method="first") * _TARGET_STRATA / (len(target) + 1)).astype(int)
    can_stratify = strata.value_counts().min() >= count
    splitter_class = StratifiedKFold if can_stratify else KFold
    splitter = splitter_class(count, shuffle=True, random_state=config.seed)
    return list(splitter.split(frame, strata))
