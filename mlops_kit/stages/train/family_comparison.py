"""The comparison of model families with the baselines, from the trials of a search."""

from __future__ import annotations

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stats.metrics import METRICS


def compare_families(trials: Table, recipe: Recipe) -> Table:
    """Compare the best score of each family with the baselines, best first.

    Parameters
    ----------
    trials, recipe
        As returned by ``search_recipes``.
    """
    metric = METRICS[recipe.metric]
    complete = trials.data[trials.data["status"] == "complete"]
    by_family = complete.groupby("family")["score"]
    best_scores = by_family.max() if metric.greater_is_better else by_family.min()
    scores = best_scores.to_dict()
    for name, value in recipe.baselines.items():
        scores[f"baseline {name}"] = value
    data = pd.DataFrame(list(scores.items()), columns=["family", metric.title])
    data = data.sort_values(
        metric.title,
        ascending=not metric.greater_is_better,
        kind="stable",
        ignore_index=True,
    )
    gains = [metric.compute_gain(recipe.score, value) for value in recipe.baselines.values()]
    smallest_gain = min(gains)
    comparison = "better" if smallest_gain > 0 else "worse"
    sentence = (
        f"In {metric.title}, {recipe.family} is {format_number(abs(smallest_gain))} "
        f"{comparison} than the better baseline."
    )
    return Table("Model families and baselines", sentence, data)
