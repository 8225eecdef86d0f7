"""Fitting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import np, pd
from mlops_kit.data import columns
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.train import families

if TYPE_CHECKING:
    Fold = tuple[np.ndarray, np.ndarray]


def fit_model(
    family: str,
    params: families.ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    seed: int,
) -> Any:
    """A fitted scikit-learn pipeline of a family.

    Parameters
    ----------
    family, params
        From a recipe, or from ``spaces.baselines``.
    frame : DataFrame
        Labelled rows with the features and the target.
    features : list of str
        The columns the model sees, in their order.

    Raises
    ------
    RunFailed
        If there are no rows or no features, or a feature holds an infinity.
    """
    if frame.empty or not features:
        raise RunFailedError(
            f"nothing to fit {family!r} on: {len(frame):,} rows, {len(features)} features",
            "labelled rows and at least one feature",
            "check excluded_columns and known_later in mlops.yaml",
        )
    infinite = [
        c
        for c in features
        if pd.api.types.is_numeric_dtype(frame[c])
        and np.isinf(frame[c].to_numpy(dtype="float64", na_value=np.nan)).any()
    ]
    if infinite:
        raise RunFailedError(
            f"the feature {infinite[0]!r} holds an infinity",
            "finite or missing values",
            "mend the view, or name the column under excluded_columns in mlops.yaml",
        )
    target = (
        frame[config.target].astype("int64" if config.task == "binary" else "float64").to_numpy()
    )
    model = families.MODEL_FAMILIES[family].build(params, config.task, frame, features, seed)
    with threadpool_limits(families.choose_thread_count(len(frame))):
        model.fit(frame[features], target)
    # A forest sums its trees in the order its threads finish, so its last bits vary: one thread answers.
    if "model__n_jobs" in model.get_params():
        model.set_params(model__n_jobs=1)
    return model


def compute_scores(
    model: Any, frame: pd.DataFrame, features: list[str], config: ProjectConfig
) -> np.ndarray:
    """The probability of class 1, or the value; one a row."""
    if frame.empty:
        return np.empty(0)
    with threadpool_limits(families.choose_thread_count(len(frame))):
        return predict_scores(model, frame[features], config)


def fit_and_score_fold(
    family: str,
    params: families.ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    seed: int,
    fold: Fold,
) -> np.ndarray:
    """Scores of a fold's validation rows by a model that saw its training rows only."""
    before, after = fold
    return compute_scores(
        fit_model(family, params, frame.iloc[before], features, config, seed),
        frame.iloc[after],
        features,
        config,
    )


def score_held_out_rows(
    models: dict[str, Any], frame: pd.DataFrame, features: list[str], config: ProjectConfig
) -> pd.DataFrame:
    """The test rows with the score of each model: what the review judges.

    Parameters
    ----------
    models : dict of str to pipeline
        Named as the columns are to be: ``score``, ``refitted``, ``baseline_constant`` …
    """
    test = frame[frame[columns.PART_COLUMN] == "test"]
    keys = [
        c
        for c in [*(config.id or [columns.ROW_ID]), config.time, config.target]
        if c in test.columns
    ]
    return (
        test[keys]
        .assign(
            **{
                name: compute_scores(model, test, features, config)
                for name, model in models.items()
            }
        )
        .reset_index(drop=True)
    )
