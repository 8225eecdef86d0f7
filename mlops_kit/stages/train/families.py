"""Model families: what can be searched, each with its search space and a scikit-learn pipeline.

A pipeline contains classes of scikit-learn, skrub, LightGBM, NumPy and pandas only, never one of
ours: it is saved in skops format and must load where mlops-kit is not installed. It takes a
DataFrame with strings, numbers, booleans, timestamps and missing values; ``column_encoding`` has
the preparation of the columns.

To add a family, in the package or in a plugin of a project:

1. Write ``build(params, task, frame, features, seed)``, which returns an unfitted pipeline;
   ``build_model_pipeline`` puts the usual preparation of columns in front of an estimator.
2. Decorate it with ``@register_model_family(name, title, search_space)``, with a ``ParameterRange``
   for each parameter. A saved model may contain public types of scikit-learn, skrub and LightGBM;
   review other types that the family needs and list them as ``trusted_types``.

The contract tests and the search then include it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.core.tasks import TASKS
from mlops_kit.registry import models
from mlops_kit.stages.train.column_encoding import build_column_transformer, group_columns

dummy = LazyModule("sklearn.dummy")
ensemble = LazyModule("sklearn.ensemble")
lightgbm = LazyModule("lightgbm")
linear_model = LazyModule("sklearn.linear_model")
pipelines = LazyModule("sklearn.pipeline")

ModelParams = dict[str, Any]
FamilyBuilder = Callable[[ModelParams, str, pd.DataFrame, list[str], int], Any]
SUPPORTED_TASKS = ("binary", "multiclass", "regression")
_DEFAULT_TASKS = ("binary", "regression")  # of a family that does not state its tasks
_BASELINES = ("constant", "linear")
_MAX_MULTINOMIAL_ITERATIONS = 1000
_FIT_THREADS = 2
_MIN_ROWS_FOR_THREADS = 5_000  # with fewer rows, threads cost more than they save


@dataclass(frozen=True)
class ParameterRange:
    """The range in which a parameter is searched, and its default.

    Attributes
    ----------
    low, high : float
        The ends; the parameter is a whole number if both are.
    default : float
        The value that is tried first.
    options : mapping
        Further arguments of Optuna's ``suggest_int`` or ``suggest_float``, such as ``log``.
    """

    low: float
    high: float
    default: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def suggest_value(
        self,
        trial: Any,
        name: str,
    ) -> float:
        """Let an Optuna trial suggest a value."""
        is_integer = isinstance(self.low, int) and isinstance(self.high, int)
        suggest = trial.suggest_int if is_integer else trial.suggest_float
        value: float = suggest(name, self.low, self.high, **self.options)
        return value


@dataclass(frozen=True)
class ModelFamily:
    """A kind of model: its tasks, its search space, and how it is built."""

    name: str
    title: str
    build: FamilyBuilder
    search_space: Mapping[str, ParameterRange] = field(default_factory=dict)
    tasks: tuple[str, ...] = _DEFAULT_TASKS
    is_searched: bool = True

    @property
    def default_params(self) -> ModelParams:
        """The parameters that are tried first."""
        return {name: searched.default for name, searched in self.search_space.items()}

    def suggest_params(self, trial: Any) -> ModelParams:
        """Let an Optuna trial suggest the parameters; their names there begin with the family."""
        params = {}
        for name, searched in self.search_space.items():
            params[name] = searched.suggest_value(trial, f"{self.name}.{name}")
        return params


MODEL_FAMILIES: ExtensionRegistry[ModelFamily] = ExtensionRegistry(ExtensionKind.MODEL_FAMILY)


def register_model_family(
    name: str,
    title: str,
    search_space: Mapping[str, ParameterRange] | None = None,
    *,
    tasks: Iterable[str] = _DEFAULT_TASKS,
    trusted_types: Iterable[str] = (),
    distributions: Iterable[str] = (),
) -> Callable[[FamilyBuilder], FamilyBuilder]:
    """Return a decorator that registers a function as the builder of a model family.

    Parameters
    ----------
    name : str
        The name in ``train.families``.
    title : str
        The name in sentences and tables.
    search_space : mapping of str to ParameterRange, optional
        The range of each parameter.
    tasks : iterable of str
        The tasks that the family supports; by default binary and regression.
    trusted_types : iterable of str
        Types, as ``module.Class``, that a saved model of the family may contain besides the public
        ones of scikit-learn, skrub and LightGBM. Review what loading each of them does.
    distributions : iterable of str
        Installed packages, besides those, that the saved model needs where it is loaded.

    Examples
    --------
    >>> @register_model_family("bayes", "naive Bayes", tasks=["binary"])
    ... def build_bayes(params, task, frame, features, seed):
    ...     from sklearn.naive_bayes import GaussianNB
    ...     return build_model_pipeline(GaussianNB(), frame, features, scaled=True, one_hot=True)
    >>> MODEL_FAMILIES["bayes"].title
    'naive Bayes'
    >>> del MODEL_FAMILIES["bayes"]
    """

    def register(build: FamilyBuilder) -> FamilyBuilder:
        family = ModelFamily(name, title, build, search_space or {}, tuple(tasks))
        MODEL_FAMILIES.register(name, applies_to=family.tasks)(family)
        contents = models.FamilyContents(frozenset(trusted_types), tuple(distributions))
        if contents.trusted_types or contents.distributions:
            models.FAMILY_CONTENTS.register(name)(contents)
        return build

    return register


def select_families(task: str, wanted: list[str]) -> list[str]:
    """Select the families to search: the wanted ones, or all that fit the task.

    Raises
    ------
    KitError
        If a wanted family is unknown, or does not fit the task.
    """
    if not wanted:
        return _list_searched_families(task)
    for name in wanted:
        family = MODEL_FAMILIES[name]
        if not family.is_searched or task not in family.tasks:
            raise KitError(
                f"the family {name!r} is not searched for a {task} task",
                suggest_names(name, _list_searched_families(task)),
                "change train.families in mlops.yaml",
            )
    return list(dict.fromkeys(wanted))


def _list_searched_families(task: str) -> list[str]:
    names = []
    for name, family in MODEL_FAMILIES.items():
        if family.is_searched and task in family.tasks:
            names.append(name)
    return names


def describe_search_space(task: str, wanted: list[str]) -> dict[str, dict[str, Any]]:
    """Describe the families to search and the range of each parameter, as plain values.

    A search is not continued with other ranges.
    """
    described: dict[str, dict[str, Any]] = {}
    for name in select_families(task, wanted):
        ranges = {}
        for parameter, searched in MODEL_FAMILIES[name].search_space.items():
            limits = [searched.low, searched.high, searched.default]
            ranges[parameter] = [*limits, dict(searched.options)]
        described[name] = ranges
    return described


def list_baselines(task: str) -> dict[str, tuple[str, ModelParams]]:
    """List the baselines that any model has to beat: family and parameters, by name."""
    baselines = {}
    for name in _BASELINES:
        family = MODEL_FAMILIES[name]
        if task in family.tasks:
            baselines[name] = (name, dict(family.default_params))
    return baselines


def choose_thread_count(rows: int) -> int:
    """Choose the threads of a fit.

    The number is the same on every machine, because it may change the last bits of a sum.
    """
    if rows < _MIN_ROWS_FOR_THREADS:
        return 1
    return _FIT_THREADS


def build_model_pipeline(
    model: Any,
    frame: pd.DataFrame,
    features: list[str],
    *,
    scaled: bool = False,
    one_hot: bool = False,
) -> Any:
    """Build a pipeline that prepares the columns of a table for an estimator.

    Parameters
    ----------
    model : estimator
        An unfitted classifier or regressor of scikit-learn's interface.
    frame : DataFrame
        The training rows, from which the kind of each column is inferred.
    features : list of str
        The columns that the model uses.
    scaled : bool
        Impute numbers by their median, with an indicator, and scale them; otherwise they stay as
        they are, missing values included.
    one_hot : bool
        A column for each category; otherwise categories become whole numbers.

    Examples
    --------
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> frame = pd.DataFrame({"delay": [1.0, None, 8.0], "carrier": ["UA", "B6", "UA"]})
    >>> pipeline = build_model_pipeline(DecisionTreeClassifier(), frame, ["delay", "carrier"])
    >>> pipeline.fit(frame, [0, 0, 1]).predict(frame).tolist()
    [0, 0, 1]
    """
    frame = to_pandas(frame)
    columns = group_columns(frame, features)
    transformer = build_column_transformer(columns, scaled=scaled, one_hot=one_hot)
    return _build_pipeline(transformer, model)


def _build_pipeline(transformer: Any, model: Any) -> Any:
    """Build the pipeline of two steps, with the step names that all families share."""
    return pipelines.Pipeline([("table", transformer), ("model", model)])


def build_constant(
    _params: ModelParams,
    task: str,
    _frame: pd.DataFrame,
    _features: list[str],
    _seed: int,
) -> Any:
    """Build a model that predicts the class shares, or the mean, for every row."""
    if TASKS[task].has_classes:
        model = dummy.DummyClassifier(strategy="prior")
    else:
        model = dummy.DummyRegressor(strategy="mean")
    return _build_pipeline("passthrough", model)


MODEL_FAMILIES.register("constant", applies_to=SUPPORTED_TASKS)(
    ModelFamily("constant", "constant", build_constant, tasks=SUPPORTED_TASKS, is_searched=False)
)

_LOG_SCALE = {"log": True}
_STEP_OF_20 = {"step": 20}
_STEP_OF_50 = {"step": 50}


@register_model_family(
    "linear",
    "linear model",
    {"alpha": ParameterRange(1e-3, 1e3, 1.0, _LOG_SCALE)},
    tasks=SUPPORTED_TASKS,
)
def build_linear(
    params: ModelParams,
    task: str,
    frame: pd.DataFrame,
    features: list[str],
    _seed: int,
) -> Any:
    """Build (multinomial) logistic or ridge regression on scaled numbers and one-hot categories."""
    alpha = params["alpha"]
    if task == "multiclass":
        # The matrix of Newton's method grows with the square of the number of classes.
        model = linear_model.LogisticRegression(
            C=1 / alpha, solver="lbfgs", max_iter=_MAX_MULTINOMIAL_ITERATIONS
        )
    elif task == "binary":
        # Newton's method takes an eighth of the time of lbfgs on many rows and few columns.
        model = linear_model.LogisticRegression(C=1 / alpha, solver="newton-cholesky")
    else:
        model = linear_model.Ridge(alpha=alpha)
    return build_model_pipeline(model, frame, features, scaled=True, one_hot=True)


_BOOSTING_SPACE = {
    "max_iter": ParameterRange(50, 300, 100, _STEP_OF_50),
    "learning_rate": ParameterRange(0.02, 0.3, 0.08, _LOG_SCALE),
    "max_leaf_nodes": ParameterRange(4, 64, 15, _LOG_SCALE),
    "min_samples_leaf": ParameterRange(5, 200, 20, _LOG_SCALE),
    "l2_regularization": ParameterRange(1e-3, 10, 0.1, _LOG_SCALE),
}


@register_model_family(
    "boosting", "histogram gradient boosting", _BOOSTING_SPACE, tasks=SUPPORTED_TASKS
)
def build_boosting(
    params: ModelParams,
    task: str,
    frame: pd.DataFrame,
    features: list[str],
    seed: int,
) -> Any:
    """Build HistGradientBoosting, without early stopping: its random hold-out would ignore time."""
    if TASKS[task].has_classes:
        model_class = ensemble.HistGradientBoostingClassifier
    else:
        model_class = ensemble.HistGradientBoostingRegressor
    columns = group_columns(frame, features)
    model = model_class(
        **params,
        categorical_features=list(range(len(columns.categories))) or None,
        early_stopping=False,
        random_state=seed,
    )
    transformer = build_column_transformer(columns, scaled=False, one_hot=False)
    return _build_pipeline(transformer, model)


_LIGHTGBM_SPACE = {
    "n_estimators": ParameterRange(50, 300, 150, _STEP_OF_50),
    "learning_rate": ParameterRange(0.02, 0.3, 0.05, _LOG_SCALE),
    "num_leaves": ParameterRange(4, 64, 15, _LOG_SCALE),
    "min_child_samples": ParameterRange(5, 200, 20, _LOG_SCALE),
    "reg_lambda": ParameterRange(1e-3, 10, 0.1, _LOG_SCALE),
    "colsample_bytree": ParameterRange(0.4, 1.0, 0.8),
}


@register_model_family("lightgbm", "LightGBM", _LIGHTGBM_SPACE, tasks=SUPPORTED_TASKS)
def build_lightgbm(
    params: ModelParams,
    task: str,
    frame: pd.DataFrame,
    features: list[str],
    seed: int,
) -> Any:
    """Build LightGBM with deterministic trees."""
    has_classes = TASKS[task].has_classes
    model_class = lightgbm.LGBMClassifier if has_classes else lightgbm.LGBMRegressor
    model = model_class(
        **params,
        deterministic=True,
        force_row_wise=True,
        n_jobs=choose_thread_count(len(frame)),
        verbose=-1,
        random_state=seed,
    )
    return build_model_pipeline(model, frame, features, one_hot=True)


_FOREST_SPACE = {
    "n_estimators": ParameterRange(40, 100, 60, _STEP_OF_20),
    "min_samples_leaf": ParameterRange(2, 100, 10, _LOG_SCALE),
    "max_features": ParameterRange(0.1, 0.4, 0.25),
    "max_samples": ParameterRange(0.05, 0.25, 0.2),
}


@register_model_family("forest", "random forest", _FOREST_SPACE, tasks=SUPPORTED_TASKS)
def build_forest(
    params: ModelParams,
    task: str,
    frame: pd.DataFrame,
    features: list[str],
    seed: int,
) -> Any:
    """Build a random forest on ordinal categories; it splits on missing numbers itself."""
    if TASKS[task].has_classes:
        model_class = ensemble.RandomForestClassifier
    else:
        model_class = ensemble.RandomForestRegressor
    model = model_class(**params, n_jobs=choose_thread_count(len(frame)), random_state=seed)
    return build_model_pipeline(model, frame, features)
