"""Fit a recipe, and score rows with fitted models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import chain
from typing import TYPE_CHECKING, Any

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import TASKS, to_score_column
from mlops_kit.core.threads import limit_threads
from mlops_kit.data.columns import PART_COLUMN, ROW_ID
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import ALL_ROWS, TrainingRows, parse_training_rows
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.train.column_encoding import TEXT_STEPS
from mlops_kit.stages.train.encoding_cache import EncodingCache
from mlops_kit.stages.train.families import MODEL_FAMILIES, ModelParams, choose_thread_count
from mlops_kit.stages.train.row_selection import compute_training_weights, select_rows

if TYPE_CHECKING:
    from mlops_kit.data.splitters import Fold

_text_cache: ContextVar[EncodingCache | None] = ContextVar("text_cache", default=None)


def fit_model(  # noqa: PLR0913 - a call of a notebook reads better without a record
    family: str,
    params: ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    seed: int,
    rows: str | TrainingRows = ALL_ROWS,
) -> Any:
    """Fit a scikit-learn pipeline of a family.

    Parameters
    ----------
    family, params
        From a recipe, or from ``list_baselines``.
    frame : DataFrame
        Labeled rows with the features, the target and, if the project has weights, the weight.
    features : list of str
        The columns that the model sees, in their order.
    rows : str or TrainingRows
        Which of the rows count, and how much: ``training_rows`` of a recipe. A window ends with
        the newest row of ``frame``.

    Returns
    -------
    Pipeline
        The fitted pipeline.

    Raises
    ------
    RunFailedError
        If there are no rows or no features, or a feature contains an infinity.
    KitError
        If the project has row weights and the family cannot use them.
    """
    rows = parse_training_rows(rows)
    frame = select_rows(to_pandas(frame), config, rows)
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
    _use_text_cache(model)
    weights = compute_training_weights(frame, config, rows)
    with limit_threads(choose_thread_count(len(frame))):
        if weights is None:
            model.fit(frame[features], target)
        else:
            fit_weighted_model(family, model, frame[features], target, weights)
    # A forest adds up its trees in the order in which threads finish, so the last bits of a score
    # vary: it predicts with one thread.
    if "model__n_jobs" in model.get_params():
        model.set_params(model__n_jobs=1)
    return model


@contextmanager
def cache_text_encodings() -> Iterator[None]:
    """Encode the text of the same rows once only, whatever the model, until the context ends.

    In a search, encoding text takes longer than most fits, and does not depend on the parameters
    that are searched.
    """
    token = _text_cache.set(EncodingCache())
    try:
        yield
    finally:
        _text_cache.reset(token)


def _use_text_cache(model: Any) -> None:
    """Let the steps that encode text keep their results in the cache, if there is one."""
    cache = _text_cache.get()
    if cache is None:
        return
    parameters = [f"table__{name}__memory" for name in TEXT_STEPS]
    cached = [name for name in parameters if name in model.get_params()]
    model.set_params(**dict.fromkeys(cached, cache))


def fit_weighted_model(
    family: str,
    model: Any,
    inputs: pd.DataFrame,
    target: np.ndarray,
    weights: np.ndarray,
) -> None:
    """Fit a pipeline so that each row counts with its weight, in the scaling of numbers as well.

    Raises
    ------
    KitError
        If the family's model cannot be fitted with weights.
    """
    *preparation, estimator = _list_steps(model)
    if not takes_row_weights(model):
        raise KitError(
            f"the family {family!r} cannot be fitted with row weights: "
            f"{type(estimator).__name__}.fit has no sample_weight",
            "a family whose model takes sample_weight",
            "name other families under train.families, or remove weight from mlops.yaml",
        )
    prepared: Any = inputs
    for step in preparation:
        if step != "passthrough":
            prepared = _fit_transform_weighted(step, prepared, target, weights)
    estimator.fit(prepared, target, sample_weight=weights)


def takes_row_weights(model: Any) -> bool:
    """Return whether the estimator at the end of a pipeline can be fitted with row weights."""
    from sklearn.utils.validation import has_fit_parameter

    return bool(has_fit_parameter(_list_steps(model)[-1], "sample_weight"))


def _list_steps(model: Any) -> list[Any]:
    """List the steps of a pipeline, the estimator last; of another model only the model."""
    steps = getattr(model, "named_steps", {"model": model})
    return list(steps.values())


def _fit_transform_weighted(
    transformer: Any, inputs: Any, target: np.ndarray, weights: np.ndarray
) -> Any:
    """Fit the preparation of columns, with weights where it scales, and transform the rows."""
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        scalers = list(_find_scalers(transformer))
        for scaler in scalers:
            scaler.set_fit_request(sample_weight=True)
        if not scalers:
            return transformer.fit_transform(inputs, target)
        prepared = transformer.fit_transform(inputs, target, sample_weight=weights)
    # The requests are only needed while fitting, and a saved model has no use for them.
    for scaler in _find_scalers(transformer):
        del scaler._metadata_request
    return prepared


def _find_scalers(transformer: Any) -> Iterator[Any]:
    """Find the steps of a transformer that standardize numbers."""
    from sklearn.preprocessing import StandardScaler

    if isinstance(transformer, StandardScaler):
        yield transformer
    parts = [getattr(transformer, "transformers", []), getattr(transformer, "transformers_", [])]
    parts.append(getattr(transformer, "steps", []))
    for _, part, *_ in chain(*parts):
        yield from _find_scalers(part)


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
    frame = to_pandas(frame)
    if frame.empty:
        return np.empty(0)
    with limit_threads(choose_thread_count(len(frame))):
        return predict_scores(model, frame[features], config)


def fit_and_score_fold(  # noqa: PLR0913 - it takes what fit_model takes
    family: str,
    params: ModelParams,
    frame: pd.DataFrame,
    features: list[str],
    config: ProjectConfig,
    fold: Fold,
    rows: TrainingRows = ALL_ROWS,
) -> np.ndarray:
    """Score a fold's validation rows with a model that is fitted on its training rows."""
    training, validation = fold
    model = fit_model(family, params, frame.iloc[training], features, config, config.seed, rows)
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
        Keys, time, group, weight and target of the rows of part ``test``, and a column per model:
        numbers, or lists with the probability of each class of a multiclass task.
    """
    frame = to_pandas(frame)
    rows = frame[frame[PART_COLUMN] == "test"]
    roles = [config.time, config.validation.group, config.weight, config.target]
    wanted = dict.fromkeys([*(config.id or [ROW_ID]), *roles])
    columns = [name for name in wanted if name in rows.columns]
    scores = {}
    for name, model in models.items():
        scores[name] = to_score_column(compute_scores(model, rows, features, config))
    return rows[columns].assign(**scores).reset_index(drop=True)
