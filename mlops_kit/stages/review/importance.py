"""What the model goes by, what its scores mean, what it would say otherwise, and what a decision costs.

What it would say of a row if one of its columns held another value is scored at once and filed, so that
a page can answer without a model. Only one column moves at a time, so a made row may be one that never
occurs: it tells of the model, not of the world.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stats import metrics

_SHUFFLES_PER_COLUMN = 3  # shuffles of each column; the spread between them is shown


def compute_permutation_importance(
    model: Any,
    frame: pd.DataFrame,
    features: Sequence[str],
    target: str,
    config: ProjectConfig,
    seed: int = 0,
    rows: int = 5000,
) -> Table:
    """How much worse the headline metric gets when a column is shuffled (Breiman 2001; scikit-learn).

    Columns that say the same cover for one another, so a small fall need not mean a useless column.

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The judged model.
    frame : DataFrame
        Rows it has not learnt from; those without a label are left out, and at most ``rows`` are drawn.

    Returns
    -------
    Table
        feature, fall (in the metric's unit, positive is worse), spread (sd over the shuffles); largest first.
    """
    from sklearn.inspection import permutation_importance as shuffled

    known = metrics.METRICS[config.headline_metric]
    labelled = frame[frame[target].notna()]
    if len(labelled) > rows:
        labelled = labelled.iloc[
            np.sort(np.random.default_rng(seed).choice(len(labelled), rows, replace=False))
        ]

    def score(fitted: Any, x: pd.DataFrame, y: Any) -> float:
        return known.compute_gain(known.function(y, predict_scores(fitted, x, config)), 0.0)

    names, y = list(features), labelled[target].to_numpy(dtype=float)
    if math.isnan(
        metrics.compute_metric(
            config.headline_metric,
            y,
            predict_scores(model, labelled[names], config) if len(labelled) else [],
        )
    ):
        return Table(
            "What does it go by?",
            f"{known.title} cannot be computed on these rows, so nothing says what the model goes by.",
            pd.DataFrame(columns=["feature", "fall", "spread"]),
        )
    found = shuffled(
        model,
        labelled[names],
        y,
        scoring=score,
        n_repeats=_SHUFFLES_PER_COLUMN,
        random_state=seed,
        n_jobs=1,
    )
    data = pd.DataFrame(
        {"feature": names, "fall": found.importances_mean, "spread": found.importances_std}
    )
    data = data.sort_values(["fall", "feature"], ascending=[False, True], ignore_index=True)
    first, idle = data.iloc[0], int((data["fall"] <= data["spread"]).sum())
    sentence = f"{first['feature']} matters most: shuffled, {known.title} worsens by {format_number(float(first['fall']))}; {idle} of {len(data)} columns make no difference on their own."
    notes = (
        f"{len(labelled):,} rows, each column shuffled {_SHUFFLES_PER_COLUMN} times; columns that say the same cover for one another.",
    )
    return Table("What does it go by?", sentence, data, {"fall": known.title}, notes)
