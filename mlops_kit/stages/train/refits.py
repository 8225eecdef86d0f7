"""Refits of the chosen recipe on fewer training rows: by how much sound fits of it differ.

``mlops_kit.stats.refit_agreement`` has the reason and the measures.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import PART_COLUMN
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splits import MIN_PART_ROWS
from mlops_kit.data.splitters import assign_parts
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import ALL_ROWS, parse_training_rows
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.train.fitting import compute_scores
from mlops_kit.stages.train.row_selection import select_rows
from mlops_kit.stats.refit_agreement import (
    ReferenceRefit,
    ReferenceRefits,
    measure_reference_refit,
    summarize_reference_refits,
)

_MIN_FITTED_SHARE = 0.5  # of the rows of the model that a refit is compared with


def compare_refits(
    fit: Callable[..., Any],
    recipe: Recipe,
    evaluation_model: Any,
    training_rows: pd.DataFrame,
    config: ProjectConfig,
) -> ReferenceRefits:
    """Refit a recipe on fewer rows and measure how the scores differ; the review needs to know.

    The rows are split as the held-out set was split off: in time, each refit leaves out the newest
    rows of the refit before it; at random, each refit leaves out other rows. It is compared with
    the model that has seen the rows that it left out, on exactly these rows. If the recipe is not
    fitted on all rows alike, the rows that it selects are split, without a gap for the labels.

    A refit on much fewer rows than the evaluation model would differ more than the final model
    does. Where less than half of the rows would be left to fit, half of them are left out instead,
    the newer ones in time, whatever group they are of.

    Parameters
    ----------
    fit : callable
        ``train.fit_model``, which a notebook caches.
    recipe : Recipe
        What is refitted.
    evaluation_model : Pipeline
        The recipe fitted on all training rows.
    training_rows : DataFrame
        As of ``select_training_rows``.
    config : ProjectConfig
        ``train.reference_refits`` is the number of refits; there are none without ``train.refit``,
        and fewer if rows or classes run out.
    """
    rows = to_pandas(training_rows).drop(columns=PART_COLUMN, errors="ignore")
    selection = parse_training_rows(recipe.training_rows)
    rows = select_rows(rows, config, selection)
    split_config = config
    if selection != ALL_ROWS:
        train = config.train.model_copy(update={"change_point": None})
        changes = {"label_delay": timedelta(0), "train": train}
        split_config = config.model_copy(update=changes)
    refits: list[ReferenceRefit] = []
    later_model = evaluation_model
    count = config.train.reference_refits if config.train.refit else 0
    for number in range(1, count + 1):
        seed = config.seed + number
        parts = _split_training_rows(rows, split_config, seed)
        if parts is None:
            break
        earlier_rows, left_out = parts
        earlier_model = fit(
            recipe.family,
            recipe.params,
            earlier_rows,
            recipe.features,
            config,
            seed,
            recipe.training_rows,
        )
        refits.append(
            measure_reference_refit(
                compute_scores(earlier_model, left_out, recipe.features, config),
                compute_scores(later_model, left_out, recipe.features, config),
                left_out[config.target].to_numpy(),
                config.task,
                len(earlier_rows),
                get_row_weights(left_out, config),
            )
        )
        if config.time:
            rows = earlier_rows
            later_model = earlier_model
    return summarize_reference_refits(refits)


def _split_training_rows(
    rows: pd.DataFrame, config: ProjectConfig, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Split rows as the held-out set is split off; None if a part or its classes would be few."""
    parts = _assign_comparable_parts(rows, config, seed)
    if parts is None:
        return None
    earlier_rows = rows[parts == "train"]
    left_out = rows[parts == "test"]
    if min(len(earlier_rows), len(left_out)) < MIN_PART_ROWS:
        return None
    if config.task == "regression":
        return earlier_rows, left_out
    has_all_classes = earlier_rows[config.target].nunique() == rows[config.target].nunique()
    if not has_all_classes or left_out[config.target].nunique() < 2:
        return None
    return earlier_rows, left_out


def _assign_comparable_parts(
    rows: pd.DataFrame, config: ProjectConfig, seed: int
) -> pd.Series | None:
    """Assign rows to parts so that half of them are left to fit; None if there are too few rows."""
    is_labeled = rows[config.target].notna()
    try:
        parts = assign_parts(rows, config, is_labeled, seed)
        if (parts == "train").mean() >= _MIN_FITTED_SHARE:
            return parts
        changes = {"test": 1 - _MIN_FITTED_SHARE, "group": None}
        validation = config.validation.model_copy(update=changes)
        half_config = config.model_copy(update={"validation": validation})
        return assign_parts(rows, half_config, is_labeled, seed)
    except RunFailedError:
        return None
