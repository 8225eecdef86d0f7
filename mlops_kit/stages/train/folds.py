"""Training rows and validation folds, as the project's validation scheme forms them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import PART_COLUMN
from mlops_kit.data.splitters import build_fold_positions
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import ALL_ROWS, TrainingRows
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.stages.train.row_selection import is_selected

if TYPE_CHECKING:
    from mlops_kit.data.splitters import Fold


def select_training_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Select the labeled rows of part ``train``, in time order where there is time."""
    frame = to_pandas(frame)
    rows = frame[frame[config.target].notna()]
    if PART_COLUMN in rows.columns:
        rows = rows[rows[PART_COLUMN] == "train"]
    if config.time:
        return rows.sort_values(config.time, kind="stable")
    return rows


def select_labeled_rows(frame: pd.DataFrame, config: ProjectConfig) -> pd.DataFrame:
    """Select every row whose label is known: those that the final model is fitted on."""
    frame = to_pandas(frame)
    return frame[frame[config.target].notna()]


def build_folds(
    frame: pd.DataFrame, config: ProjectConfig, rows: TrainingRows = ALL_ROWS
) -> list[Fold]:
    """Build validation folds: positions of the training and the validation rows of each.

    They are formed as ``mlops_kit.data.splitters.build_fold_positions`` describes.

    Parameters
    ----------
    frame : DataFrame
        Labeled rows, as of ``select_training_rows``.
    config : ProjectConfig
        ``validation``, ``time``, ``label_delay`` and ``seed`` are used.
    rows : TrainingRows
        Which of a fold's training rows count.

    Raises
    ------
    RunFailedError
        If no fold has rows (of both classes) on both sides; the training rows of a multiclass
        task need every class.
    """
    folds = build_fold_positions(frame, config)
    target = frame[config.target].to_numpy()
    min_values = 2 if config.task == "binary" else 1
    min_training_values = min_values
    if config.task == "multiclass":
        min_training_values = len(set(target))  # a model predicts the classes that it has seen
    usable = []
    for all_training, validation in folds:
        training = all_training[is_selected(frame.iloc[all_training], config, rows)]
        is_trainable = _is_usable(target[training], min_training_values)
        if is_trainable and _is_usable(target[validation], min_values):
            usable.append((training, validation))
    if usable:
        return usable
    delay = ""
    if config.time:
        delay = f" with a label delay of {format_duration(config.label_delay)}"
    raise RunFailedError(
        f"{len(frame):,} training rows in {config.validation.folds} folds{delay} "
        "leave no fold to validate a model on",
        "rows of every class before a fold, and of two classes in it",
        "more rows, or fewer validation.folds in mlops.yaml",
    )


def _is_usable(labels: np.ndarray, min_values: int) -> bool:
    """Whether one side of a fold has enough rows and distinct labels."""
    return len(labels) >= 2 and len(set(labels)) >= min_values
