"""The table of a search: its trials in their order, with the best recipe in the sentence."""

from __future__ import annotations

import math
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.splitters import get_validation_scheme
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.train import families
from mlops_kit.stats.metrics import METRICS


def summarize_trials(
    trials: list[Any],
    recipe: Recipe,
    config: ProjectConfig,
) -> Table:
    """Summarize each trial: family, score over the folds it saw, the best so far, parameters.

    Parameters
    ----------
    trials : list of optuna.trial.FrozenTrial
        The trials that ended, in their order.
    """
    rows = []
    for number, trial in enumerate(trials, start=1):
        is_complete = trial.state.name == "COMPLETE"
        score = list(trial.intermediate_values.values())[-1]
        if is_complete and trial.value is not None:
            score = trial.value
        params = [f"{name} {format_number(v)}" for name, v in trial.user_attrs["params"].items()]
        rows.append(
            {
                "trial": number,
                "family": trial.params["family"],
                "score": float(score),
                "best so far": float(score) if is_complete else math.nan,
                "status": "complete" if is_complete else "pruned",
                "folds": len(trial.intermediate_values),
                "parameters": ", ".join(params),
            }
        )
    data = pd.DataFrame(rows)
    complete_scores = data["best so far"]
    if METRICS[config.search_metric].greater_is_better:
        best_so_far = complete_scores.cummax()
    else:
        best_so_far = complete_scores.cummin()
    data["best so far"] = best_so_far.ffill()
    notes = [get_validation_scheme(config).describe()]
    if recipe.stopped_by_clock:
        notes.append(
            f"The time limit stopped the search after {len(data)} trials; "
            "running it again continues it."
        )
    return Table("Trials", _describe_best_recipe(data, recipe, config), data, {}, tuple(notes))


def _describe_best_recipe(
    data: pd.DataFrame,
    recipe: Recipe,
    config: ProjectConfig,
) -> str:
    """Describe the best recipe beside the baselines in a sentence."""
    pruned = int((data["status"] == "pruned").sum())
    title = families.MODEL_FAMILIES[recipe.family].title
    baselines = []
    for name, value in recipe.baselines.items():
        baselines.append(f"{name} {format_number(value)}")
    metric_title = METRICS[config.search_metric].title
    return (
        f"Best of {len(data)} trials ({pruned} pruned): {title}, {metric_title} "
        f"{format_number(recipe.score)} over {recipe.folds} folds; "
        f"baselines: {', '.join(baselines)}."
    )
