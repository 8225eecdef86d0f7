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

from mlops_kit.errors import KitError, nearest
from mlops_kit.late import Late, pd
from mlops_kit.registry import Registry

compose, dummy, ensemble, impute, linear_model = (
    Late("sklearn.compose"),
    Late("sklearn.dummy"),
    Late("sklearn.ensemble"),
    Late("sklearn.impute"),
    Late("sklearn.linear_model"),
)
lightgbm, pipelines, preprocessing, utils = (
    Late("lightgbm"),
    Late("sklearn.pipeline"),
    Late("sklearn.preprocessing"),
    Late("sklearn.utils"),
)

Params = dict[str, Any]
TASKS = ("binary", "regression")
CATEGORIES = 40  # one column each; rarer ones share a column
ORDINALS = 250  # HistGradientBoosting takes 255 categories at most
THREADS = 2
SMALL = 5_000  # rows below which threads cost more than they bring


class Range(NamedTuple):
    """Where a parameter is searched, in whole numbers if both ends are: evenly, or as ``how`` says; and its default."""

    low: float
    high: float
    default: float
    how: Params = {}

    def suggest(self, trial: Any, name: str) -> float:
        """What a trial of Optuna's takes from it."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        return cast(
            float,
            (trial.suggest_int if whole else trial.suggest_float)(
                name, self.low, self.high, **self.how
            ),
        )


LOG, BY_20, BY_50 = {"log": True}, {"step": 20}, {"step": 50}


class Family(NamedTuple):
    """A kind of model: its tasks, its space, and how it is built."""

    name: str
    title: str
    build: Callable[[Params, str, pd.DataFrame, list[str], int], Any]
    space: dict[str, Range] = {}
    tasks: tuple[str, ...] = TASKS
    searched: bool = True

    @property
    def defaults(self) -> Params:
        """The parameters that are tried first."""
        return {name: held.default for name, held in self.space.items()}

    def suggest(self, trial: Any) -> Params:
        """The parameters that a trial takes; Optuna knows them under the family's name."""
        return {
            name: held.suggest(trial, f"{self.name}.{name}") for name, held in self.space.items()
        }


FAMILIES: Registry[Family] = Registry("model family")


def families(task: str, wanted: list[str]) -> list[str]:
    """Names of the families to search: those wanted, or all that fit the task.

    Raises
    ------
    KitError
        If one of them is unknown, or does not fit the task.
    """
    fitting = [
        name for name, family in FAMILIES.items() if task in family.tasks and family.searched
    ]
    for name in wanted:
        if task not in FAMILIES[name].tasks or not FAMILIES[name].searched:
            raise KitError(
                f"the family {name!r} is not searched for a {task} task",
                nearest(name, fitting),
                "change train.families in mlops.yaml",
            )
    return list(dict.fromkeys(wanted)) or fitting


def baselines(task: str) -> dict[str, tuple[str, Params]]:
    """What any model has to beat: family and parameters, by name."""
    return {
        name: (name, dict(FAMILIES[name].defaults))
        for name in ("constant", "linear")
        if task in FAMILIES[name].tasks
    }


def columns(frame: pd.DataFrame, features: list[str]) -> tuple[list[str], list[str]]:
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
    numbers = [c for c in useful if numeric(frame[c])]
    return numbers, [c for c in useful if c not in numbers]


def numeric(column: pd.Series) -> bool:
    """Whether a column is numbers or booleans, also where missing values made them objects."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    return pd.api.types.is_object_dtype(column) and pd.api.types.infer_dtype(
        column, skipna=True
    ) in {"boolean", "integer", "floating", "mixed-integer-float"}


def table(numbers: list[str], names: list[str], scaled: bool, one_hot: bool) -> Any:
    """The ColumnTransformer in front of a model: names first, then numbers."""
    # Parquet says None where CSV says NaN: to an encoder these are two categories, so they become one before.
    same = impute.SimpleImputer(missing_values=pd.NA, strategy="constant", fill_value="(missing)")
    if one_hot:
        encoder: Any = preprocessing.OneHotEncoder(
            max_categories=CATEGORIES, handle_unknown="infrequent_if_exist", sparse_output=False
        )
    else:
        encoder = preprocessing.OrdinalEncoder(
            max_categories=ORDINALS, handle_unknown="use_encoded_value", unknown_value=-1
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


def threads(rows: int) -> int:
    """Threads of a fit: the same on every machine, for their number may change a sum's last bits."""
    return 1 if rows < SMALL else THREADS


def pipeline(front: Any, model: Any) -> Any:
    """The two steps under the names that all families share."""
    return pipelines.Pipeline([("table", front), ("model", model)])


def build_constant(
    params: Params, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """The class shares, or the mean, whatever the row."""
    model = (
        dummy.DummyClassifier(strategy="prior")
        if task == "binary"
        else dummy.DummyRegressor(strategy="mean")
    )
    return pipeline("passthrough", model)


FAMILIES.register("constant")(Family("constant", "constant", build_constant, searched=False))


def build_linear(
    params: Params, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """Logistic or ridge regression on scaled numbers and one-hot names."""
    alpha = params["alpha"]
    # Newton's steps: an eighth of lbfgs' time on many rows and few columns.
    model = (
        linear_model.LogisticRegression(C=1 / alpha, solver="newton-cholesky")
        if task == "binary"
        else linear_model.Ridge(alpha=alpha)
    )
    return pipeline(table(*columns(frame, features), scaled=True, one_hot=True), model)


FAMILIES.register("linear")(
    Family("linear", "linear model", build_linear, {"alpha": Range(1e-3, 1e3, 1.0, LOG)})
)


def build_boosting(
    params: Params, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """HistGradientBoosting; no early stopping, whose random hold-out would ignore time."""
    numbers, names = columns(frame, features)
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
    return pipeline(table(numbers, names, scaled=False, one_hot=False), model)


BOOSTING = {
    "max_iter": Range(50, 300, 100, BY_50),
    "learning_rate": Range(0.02, 0.3, 0.08, LOG),
    "max_leaf_nodes": Range(4, 64, 15, LOG),
    "min_samples_leaf": Range(5, 200, 20, LOG),
    "l2_regularization": Range(1e-3, 10, 0.1, LOG),
}
FAMILIES.register("boosting")(
    Family("boosting", "histogram gradient boosting", build_boosting, BOOSTING)
)


def build_lightgbm(
    params: Params, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """LightGBM, told to give the same trees each time."""
    kind = lightgbm.LGBMClassifier if task == "binary" else lightgbm.LGBMRegressor
    model = kind(
        **params,
        deterministic=True,
        force_row_wise=True,
        n_jobs=threads(len(frame)),
        verbose=-1,
        random_state=seed,
    )
    return pipeline(table(*columns(frame, features), scaled=False, one_hot=True), model)


LIGHTGBM = {
    "n_estimators": Range(50, 300, 150, BY_50),
    "learning_rate": Range(0.02, 0.3, 0.05, LOG),
    "num_leaves": Range(4, 64, 15, LOG),
    "min_child_samples": Range(5, 200, 20, LOG),
    "reg_lambda": Range(1e-3, 10, 0.1, LOG),
    "colsample_bytree": Range(0.4, 1.0, 0.8),
}
FAMILIES.register("lightgbm")(Family("lightgbm", "LightGBM", build_lightgbm, LIGHTGBM))


def build_forest(
    params: Params, task: str, frame: pd.DataFrame, features: list[str], seed: int
) -> Any:
    """A random forest; names are numbered, missing numbers go to the side that helps."""
    kind = ensemble.RandomForestClassifier if task == "binary" else ensemble.RandomForestRegressor
    model = kind(**params, n_jobs=threads(len(frame)), random_state=seed)
    return pipeline(table(*columns(frame, features), scaled=False, one_hot=False), model)


FOREST = {
    "n_estimators": Range(40, 100, 60, BY_20),
    "min_samples_leaf": Range(2, 100, 10, LOG),
    "max_features": Range(0.1, 0.4, 0.25),
    "max_samples": Range(0.05, 0.25, 0.2),
}
FAMILIES.register("forest")(Family("forest", "random forest", build_forest, FOREST))
