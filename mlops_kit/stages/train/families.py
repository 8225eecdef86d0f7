"""What can be searched: families of models, each with its space and a plain scikit-learn pipeline.

A pipeline holds classes of scikit-learn, LightGBM, NumPy and pandas only, never one of ours: it is
filed in skops format and must open where mlops-kit is not installed. It takes a DataFrame with
strings, numbers, booleans and missing values; moments are left out (a feature says what they mean).

To add a family: 1. ``build(params, task, frame, features, seed)``, 2. it and a ``Range`` for each
parameter in a ``Family`` under ``FAMILIES.register``; the contract tests and the search know it from
then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.lazy import LazyModule, pd

compose, dummy, ensemble, impute, linear_model = (
    LazyModule("sklearn.compose"),
    LazyModule("sklearn.dummy"),
    LazyModule("sklearn.ensemble"),
    LazyModule("sklearn.impute"),
    LazyModule("sklearn.linear_model"),
)

lightgbm, pipelines, preprocessing, utils = (
    LazyModule("lightgbm"),
    LazyModule("sklearn.pipeline"),
    LazyModule("sklearn.preprocessing"),
    LazyModule("sklearn.utils"),
)

ModelParams = dict[str, Any]
SUPPORTED_TASKS = ("binary", "regression")
_MAX_ONE_HOT_CATEGORIES = 40  # one column each; rarer ones share a column
_MAX_ORDINAL_CATEGORIES = 250  # HistGradientBoosting takes 255 categories at most
_FIT_THREADS = 2
_MIN_ROWS_FOR_THREADS = 5_000  # rows below which threads cost more than they bring


class ParameterRange(NamedTuple):
    """Where a parameter is searched, in whole numbers if both ends are: evenly, or as ``how`` says; and its default."""

    low: float
    high: float
    default: float
    options: ModelParams = {}

    def suggest_value(self, trial: Any, name: str) -> float:
        """What a trial of Optuna's takes from it."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return cast(
            float,
            (trial.suggest_int if whole else trial.suggest_float)(
                name, self.low, self.high, **self.options
            ),
        )


_LOG_SCALE, _STEP_OF_20, _STEP_OF_50 = {"log": True}, {"step": 20}, {"step": 50}


class ModelFamily(NamedTuple):
    """A kind of model: its tasks, its space, and how it is built."""

    name: str
    title: str
    build: Callable[[ModelParams, str, pd.DataFrame, list[str], int], Any]
    search_space: dict[str, ParameterRange] = {}
    tasks: tuple[str, ...] = SUPPORTED_TASKS
    is_searched: bool = True

    @property
    def default_params(self) -> ModelParams:
        """The parameters that are tried first."""
        return {name: held.default for name, held in self.search_space.items()}

    def suggest_params(self, trial: Any) -> ModelParams:
        """The parameters that a trial takes; Optuna knows them under the family's name."""
        return {
            name: held.suggest_value(trial, f"{self.name}.{name}")
            for name, held in self.search_space.items()
        }


MODEL_FAMILIES: ExtensionRegistry[ModelFamily] = ExtensionRegistry("model family")


def select_families(task: str, wanted: list[str]) -> list[str]:
    """Names of the families to search: those wanted, or all that fit the task.

    Raises
    ------
    KitError
        If one of them is unknown, or does not fit the task.
    """
    fitting = [
        name
        for name, family in MODEL_FAMILIES.items()
        if task in family.tasks and family.is_searched
    ]
    for name in wanted:
        if task not in MODEL_FAMILIES[name].tasks or not MODEL_FAMILIES[name].is_searched:
            raise KitError(
                f"the family {name!r} is not searched for a {task} task",
                suggest_names(name, fitting),
                "change train.families in mlops.yaml",
            )
    return list(dict.fromkeys(wanted)) or fitting


def list_baselines(task: str) -> dict[str, tuple[str, ModelParams]]:
    """What any model has to beat: family and parameters, by name."""
    return {
        name: (name, dict(MODEL_FAMILIES[name].default_params))
        for name in ("constant", "linear")
        if task in MODEL_FAMILIES[name].tasks
    }


def split_numeric_categorical(
    frame: pd.DataFrame, features: list[str]
) -> tuple[list[str], list[str]]:
    """Features that are numbers (booleans are), and features that are names.

    Moments are neither, nor is a column without a value: there is nothing to learn from it, and
    scikit-learn's boosting cannot bin it.
    """
    moments = [
        c
        for c in features
        if pd.api.types.is_datetime64_any_dtype(frame[c])
        or pd.api.types.is_timedelta64_dtype(frame[c])
    ]
    useful = [c for c in features if c not in moments and frame[c].notna().any()]
    numbers = [c for c in useful if _is_numeric_column(frame[c])]
    return numbers, [c for c in useful if c not in numbers]


def _is_numeric_column(column: pd.Series) -> bool:
    """Whether a column is numbers or booleans, also where missing values made them objects."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    return pd.api.types.is_object_dtype(column) and pd.api.types.infer_dtype(
        column, skipna=True
    ) in {"boolean", "integer", "floating", "mixed-integer-float"}


def _build_column_transformer(
    numbers: list[str], names: list[str], scaled: bool, one_hot: bool
) -> Any:
    """The ColumnTransformer in front of a model: names first, then numbers."""
    # Parquet says None where CSV says NaN: to an encoder these are two categories, so they become one before.
    same = impute.SimpleImputer(missing_values=pd.NA, strategy="constant", fill_value="(missing)")
    if one_hot:
        encoder: Any = preprocessing.OneHotEncoder(
            max_categories=_MAX_ONE_HOT_CATEGORIES,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
    else:
        encoder = preprocessing.OrdinalEncoder(
            max_categories=_MAX_ORDINAL_CATEGORIES,
            handle_unknown="use_encoded_value",
            unknown_value=-1,
        )
    # A boolean with a missing value is an object; as a float it is 0, 1 or NaN, at training and at the endpoint.
    floats = preprocessing.FunctionTransformer(
        utils.check_array,
        kw_args={"dtype": "float64", "ensure_all_finite": "allow-nan"},
        feature_names_out="one-to-one",
    )
    steps = (
        [
            floats,
            impute.SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
            preprocessing.StandardScaler(),
        ]
        if scaled
        else [floats]
    )
    parts = [
        ("names", pipelines.make_pipeline(same, encoder), names),
        ("numbers", pipelines.make_pipeline(*steps), numbers),
    ]
    return compose.ColumnTransformer([p for p in parts if p[2]], sparse_threshold=0)


def choose_thread_count(rows: int) -> int:
    """Threads of a fit: the same on every machine, for their number may change a sum's last bits."""
    return 1 if rows < _MIN_ROWS_FOR_THREADS else _FIT_THREADS


def _build_pipeline(front: Any, model: Any) -> Any:
    """The two steps under the names that all families share."""
    return pipelines.Pipeline([("table", front), ("model", model)])


def _build_constant(
    params: ModelParams, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """The class shares, or the mean, whatever the row."""
    model = (
        dummy.DummyClassifier(strategy="prior")
        if task == "binary"
        else dummy.DummyRegressor(strategy="mean")
    )
    return _build_pipeline("passthrough", model)


MODEL_FAMILIES.register("constant")(
    ModelFamily("constant", "constant", _build_constant, is_searched=False)
)


def _build_linear(
    params: ModelParams, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """Logistic or ridge regression on scaled numbers and one-hot names."""
    alpha = params["alpha"]
    # Newton's steps: an eighth of lbfgs' time on many rows and few columns.
    model = (
        linear_model.LogisticRegression(C=1 / alpha, solver="newton-cholesky")
        if task == "binary"
        else linear_model.Ridge(alpha=alpha)
    )
    return _build_pipeline(
        _build_column_transformer(
            *split_numeric_categorical(frame, features), scaled=True, one_hot=True
        ),
        model,
    )


MODEL_FAMILIES.register("linear")(
    ModelFamily(
        "linear",
        "linear model",
        _build_linear,
        {"alpha": ParameterRange(1e-3, 1e3, 1.0, _LOG_SCALE)},
    )
)


def _build_boosting(
    params: ModelParams, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """HistGradientBoosting; no early stopping, whose random hold-out would ignore time."""
    numbers, names = split_numeric_categorical(frame, features)
    kind = (
        ensemble.HistGradientBoostingClassifier
        if task == "binary"
        else ensemble.HistGradientBoostingRegressor
    )
    model = kind(
        **params,
        categorical_features=list(range(len(names))) or None,
        early_stopping=False,
        random_state=seed,
    )
    return _build_pipeline(
        _build_column_transformer(numbers, names, scaled=False, one_hot=False), model
    )


_BOOSTING_SPACE = {
    "max_iter": ParameterRange(50, 300, 100, _STEP_OF_50),
    "learning_rate": ParameterRange(0.02, 0.3, 0.08, _LOG_SCALE),
    "max_leaf_nodes": ParameterRange(4, 64, 15, _LOG_SCALE),
    "min_samples_leaf": ParameterRange(5, 200, 20, _LOG_SCALE),
    "l2_regularization": ParameterRange(1e-3, 10, 0.1, _LOG_SCALE),
}
MODEL_FAMILIES.register("boosting")(
    ModelFamily("boosting", "histogram gradient boosting", _build_boosting, _BOOSTING_SPACE)
)


def _build_lightgbm(
    params: ModelParams, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """LightGBM, told to give the same trees each time."""
    kind = lightgbm.LGBMClassifier if task == "binary" else lightgbm.LGBMRegressor
    model = kind(
        **params,
        deterministic=True,
        force_row_wise=True,
        n_jobs=choose_thread_count(len(frame)),
        verbose=-1,
        random_state=seed,
    )
    return _build_pipeline(
        _build_column_transformer(
            *split_numeric_categorical(frame, features), scaled=False, one_hot=True
        ),
        model,
    )


_LIGHTGBM_SPACE = {
    "n_estimators": ParameterRange(50, 300, 150, _STEP_OF_50),
    "learning_rate": ParameterRange(0.02, 0.3, 0.05, _LOG_SCALE),
    "num_leaves": ParameterRange(4, 64, 15, _LOG_SCALE),
    "min_child_samples": ParameterRange(5, 200, 20, _LOG_SCALE),
    "reg_lambda": ParameterRange(1e-3, 10, 0.1, _LOG_SCALE),
    "colsample_bytree": ParameterRange(0.4, 1.0, 0.8),
}
MODEL_FAMILIES.register("lightgbm")(
    ModelFamily("lightgbm", "LightGBM", _build_lightgbm, _LIGHTGBM_SPACE)
)


def _build_forest(
    params: ModelParams, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """A random forest; names are numbered, missing numbers go to the side that helps."""
    kind = ensemble.RandomForestClassifier if task == "binary" else ensemble.RandomForestRegressor
    model = kind(**params, n_jobs=choose_thread_count(len(frame)), random_state=seed)
    return _build_pipeline(
        _build_column_transformer(
            *split_numeric_categorical(frame, features), scaled=False, one_hot=False
        ),
        model,
    )


_FOREST_SPACE = {
    "n_estimators": ParameterRange(40, 100, 60, _STEP_OF_20),
    "min_samples_leaf": ParameterRange(2, 100, 10, _LOG_SCALE),
    "max_features": ParameterRange(0.1, 0.4, 0.25),
    "max_samples": ParameterRange(0.05, 0.25, 0.2),
}
MODEL_FAMILIES.register("forest")(
    ModelFamily("forest", "random forest", _build_forest, _FOREST_SPACE)
)
