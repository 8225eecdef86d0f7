"""Permutation importance: how much each feature contributes to the headline metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stats import metrics

_SHUFFLES_PER_COLUMN = 3  # the spread between them is shown
_TITLE = "Feature importance"


def compute_permutation_importance(
    model: Any,
    frame: pd.DataFrame,
    features: Sequence[str],
    config: ProjectConfig,
    seed: int = 0,
    max_rows: int = 5000,
) -> Table:
    """Measure how much worse the headline metric gets when a column is shuffled.

    Redundant columns stand in for one another, so a small value need not mean that a column is
    useless (Breiman 2001; `sklearn.inspection.permutation_importance`).

    Parameters
    ----------
    model : fitted scikit-learn estimator
        The evaluation model.
    frame : DataFrame
        Held-out rows. Rows without a label are left out, and at most ``max_rows`` are drawn.

    Returns
    -------
    Table
        feature, importance (in the unit of the metric; positive: the metric gets worse without
        the feature), spread (standard deviation over the shuffles); the largest first.
    """
    frame = to_pandas(frame)
    from sklearn.inspection import permutation_importance

    metric = metrics.METRICS[config.headline_metric]
    names = list(features)
    rows = _draw_labeled_rows(frame, config, seed, max_rows)
    labels = rows[config.target].to_numpy(dtype=float)
    weights = get_row_weights(rows, config)
    value = math.nan
    if len(rows):
        scores = predict_scores(model, rows[names], config)
        value = metrics.compute_metric(config.headline_metric, labels, scores, weights=weights)
    if math.isnan(value):
        return Table(
            _TITLE,
            f"{metric.title} cannot be computed on these rows, so the importance is unknown.",
            pd.DataFrame(columns=["feature", "importance", "spread"]),
        )

    def compute_score(fitted_model: Any, x: pd.DataFrame, y: Any) -> float:
        scores = predict_scores(fitted_model, x, config)
        value = metric.function(y, scores, weights=weights)
        return metric.compute_gain(value, 0.0)

    measured = permutation_importance(
        model,
        rows[names],
        labels,
        scoring=compute_score,
        n_repeats=_SHUFFLES_PER_COLUMN,
        random_state=seed,
        n_jobs=1,
    )
    data = pd.DataFrame(
        {
            "feature": names,
            "importance": measured.importances_mean,
            "spread": measured.importances_std,
        }
    )
    data = data.sort_values(["importance", "feature"], ascending=[False, True], ignore_index=True)
    most_important = data.iloc[0]
    idle_features = int((data["importance"] <= data["spread"]).sum())
    sentence = (
        f"{most_important['feature']} matters most: when it is shuffled, {metric.title} worsens by "
        f"{format_number(float(most_important['importance']))}; {idle_features} of {len(data)} "
        "features make no difference on their own."
    )
    note = (
        f"{len(rows):,} rows, each column shuffled {_SHUFFLES_PER_COLUMN} times; redundant columns "
        "stand in for one another."
    )
    return Table(_TITLE, sentence, data, {"importance": metric.title}, (note,))


def _draw_labeled_rows(
    frame: pd.DataFrame, config: ProjectConfig, seed: int, max_rows: int
) -> pd.DataFrame:
    """Draw at most so many labeled rows, in their order."""
    labeled = frame[frame[config.target].notna()]
    if len(labeled) <= max_rows:
        return labeled
    drawn = np.random.default_rng(seed).choice(len(labeled), max_rows, replace=False)
    return labeled.iloc[np.sort(drawn)]
