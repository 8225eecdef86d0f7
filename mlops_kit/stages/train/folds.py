"""How a recipe is fitted, scored, and tried in time before anything is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.data import columns
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.value_types import format_duration

if TYPE_CHECKING:
    Fold = tuple[np.ndarray, np.ndarray]

_TARGET_STRATA = 10  # quantile strata of a regression's target


def select_training_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """The labelled rows of part ``train``, by moment where there is time."""
    mine = frame[frame[config.target].notna()]
    if columns.PART_COLUMN in mine.columns:
        mine = mine[mine[columns.PART_COLUMN] == "train"]
    return mine.sort_values(config.time, kind="stable") if config.time else mine


def select_labeled_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Every row whose label is known: what the final model is fitted on."""
    return frame[frame[config.target].notna()]


def build_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Positions of training and validation rows, fold by fold.

    In time each fold trains on what was known when its validation begins (rows whose label came
    later are in neither) and validates on the block that follows; the first block only trains.
    Without time the folds are random, stratified by class or by tenths of the target.

    Parameters
    ----------
    frame : DataFrame
        Labelled rows, see ``training``.
    config : Config
        ``split.folds``, ``time``, ``label_delay`` and ``seed`` are read.

    Raises
    ------
    RunFailed
        If no fold has rows (of both classes) on both sides.
    """
    made = _build_time_folds(frame, config) if config.time else _build_random_folds(frame, config)
    target = frame[config.target].to_numpy()
    fewest = 2 if config.task == "binary" else 1
    if not (
        useful := [
            f
            for f in made
            if all(len(side) >= 2 and len(set(target[side])) >= fewest for side in f)
        ]
    ):
        delay = (
            f" with a label delay of {format_duration(config.label_delay)}" if config.time else ""
        )
        raise RunFailedError(
            f"{len(frame):,} training rows in {config.split.folds} folds{delay} leave no fold to try a model on",
            "rows of both classes before and in a fold",
            "more rows, or fewer split.folds in mlops.yaml",
        )
    return useful


def _build_time_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Expanding folds of about equal size; rows of one moment stay together."""
    times = frame[config.time]
    ordered = times.sort_values(kind="stable").reset_index(drop=True)
    count = config.split.folds
    cuts = (
        [ordered.iloc[len(ordered) * i // (count + 1)] for i in range(1, count + 1)]
        if len(ordered)
        else []
    )
    out = []
    for i, start in enumerate(cuts):
        after = (times < cuts[i + 1]) if i + 1 < count else True
        known = times + config.label_delay <= start
        out.append(
            (np.flatnonzero(known & (times < start)), np.flatnonzero((times >= start) & after))
        )
    return out


def _build_random_folds(frame: pd.DataFrame, config: ProjectConfig) -> list[Fold]:
    """Random folds in the same mix of classes, or of the target's tenths."""
    from sklearn.model_selection import KFold, StratifiedKFold

    target, count = frame[config.target], config.split.folds
    if len(frame) < 2 * count:
        return []
    strata = (
        target
        if config.task == "binary"
        else (target.rank(method="first") * _TARGET_STRATA / (len(target) + 1)).astype(int)
    )
    kind = StratifiedKFold if strata.value_counts().min() >= count else KFold
    return list(kind(count, shuffle=True, random_state=config.seed).split(frame, strata))
