"""Fit a recipe, and score rows with fitted models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.data.columns import PART_COLUMN, ROW_ID
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.train.families import MODEL_FAMILIES, ModelParams, choose_thread_count
from mlops_kit.stats.tasks import TASKS, to_score_column

if TYPE_CHECKING:
    from mlops_kit.data.splitters import Fold


def fit_model(
    family: str,
    params: ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    seed: int,
) -> Any:
    """Fit a scikit-learn pipeline of a family.

    Parameters
    ----------
    family, params
        From a recipe, or from ``list_baselines``.
    frame : DataFrame
        Labeled rows with the features and the target.
    features : list of str
        The columns that the model sees, in their order.

    Returns
    -------
    Pipeline
        The fitted pipeline.

    Raises
    ------
    RunFailedError
        If there are no rows or no features, or a feature contains an infinity.
    """
    if frame.empty or not features:
        raise RunFailedError(
            f"nothing to fit {family!r} on: {len(frame):,} rows, {len(features)} features",
            "labeled rows and at least one feature",
            "check excluded_columns and known_later in mlops.yaml",
        )
    for name in features:
        if _holds_infinity(frame[name]):
            raise RunFailedError(
                f"the feature {name!r} contains an infinity",
                "finite or missing values",
                "fix the feature view, or list the column under excluded_columns in mlops.yaml",
            )
    labels = frame[config.target]
    if TASKS[config.task].has_classes:
        target: np.ndarray = labels.astype("int64").to_numpy()
    else:
        target = labels.astype("float64").to_numpy()
    model = MODEL_FAMILIES[family].build(params, config.task, frame, features, seed)
    with threadpool_limits(choose_thread_count(len(frame))):
        model.fit(frame[features], target)
    # A forest adds up its trees in the order in which threads finish, so the last bits of a score
    # vary: it predicts with one thread.
    if "model__n_jobs" in model.get_params():
        model.set_params(model__n_jobs=1)
    return model


def _holds_infinity(column: pd.Series) -> bool:
    if not pd.api.types.is_numeric_dtype(column):
        return False
    return bool(np.isinf(column.to_numpy(dtype="float64", na_value=np.nan)).any())


def compute_scores(
    model: Any,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
) -> np.ndarray:
    """Compute the score of each row, see ``predict_scores``."""
    if frame.empty:
        return np.empty(0)
    with threadpool_limits(choose_thread_count(len(frame))):
        return predict_scores(model, frame[features], config)


def fit_and_score_fold(
    family: str,
    params: ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    fold: Fold,
) -> np.ndarray:
    """Score a fold's validation rows with a model that is fitted on its training rows."""
    training, validation = fold
    model = fit_model(family, params, frame.iloc[training], features, config, config.seed)
    return compute_scores(model, frame.iloc[validation], features, config)


def score_held_out_rows(
    models: dict[str, Any],
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
) -> pd.DataFrame:
    """Score the held-out rows with each model; the review evaluates these scores.

    Parameters
    ----------
    models : dict of str to Pipeline
        By the name of the column that is added: ``score``, ``refitted``, ``baseline_constant`` …

    Returns
    -------
    DataFrame
        Keys, time and target of the rows of part ``test``, and a column per model: numbers, or
        lists with the probability of each class of a multiclass task.
    """
    rows = frame[frame[PART_COLUMN] == "test"]
    wanted = [*(config.id or [ROW_ID]), config.time, config.target]
    columns = [name for name in wanted if name in rows.columns]
    scores = {}
    for name, model in models.items():
        scores[name] = to_score_column(compute_scores(model, rows, features, config))
    return rows[columns].assign(**scores).reset_index(drop=True)
