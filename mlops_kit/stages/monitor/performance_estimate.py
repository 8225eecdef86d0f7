"""Estimated performance: a metric of a window without its labels, with an interval.

The interval is about one number: the realized value of the metric on the rows of this window, given
their features and scores, once their labels arrive. In 95% of windows it contains that value, as
long as the target depends on the features as it did at the review. It therefore includes

- label noise: the labels of these rows are drawn, so the realized value varies around what is
  expected of it,
- calibration error: the probabilities, or the sizes of errors, are estimated from the reference,
- day effects: the labels of a day (or of a group of ``validation.group``) are high or low together,
- of a window that the reference hardly resembles, how much the calibration of subpopulations of the
  reference differs.

It does not say how the metric would be on other rows, which the interval of the realized
performance does. A realized value outside of it is the sign of concept drift.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple, cast

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval
from mlops_kit.core.tasks import TASKS, is_finite_score, to_score_array
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.model import CostConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.column_values import to_numbers
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.error_model import ErrorModel, fit_error_model
from mlops_kit.stages.monitor.feature_matrix import FeatureEncoder, fit_feature_encoder
from mlops_kit.stages.monitor.label_model import LabelModel, fit_label_model
from mlops_kit.stages.monitor.reweighting import Reweighting, reweight_reference
from mlops_kit.stages.monitor.subpopulations import estimate_population_effects
from mlops_kit.stats.bootstrap import SamplingDesign, compute_prediction_interval
from mlops_kit.stats.metrics import DEFAULT_THRESHOLD, METRICS, MetricFunction
from mlops_kit.stats.thresholds import compute_row_costs

# Label noise adds to them, so that they are not those of the expected labels.
_METRICS_RAISED_BY_NOISE = ("calibration_error", "classwise_calibration_error")
COST = "cost"  # of the decision on a row, estimated beside the headline metric
_MIN_FINITE_SHARE = 0.5  # of the draws, else there is no interval


class EstimationMethod(StrEnum):
    """How a performance was estimated."""

    NONE = "none"
    CALIBRATED = "calibrated"
    REWEIGHTED = "reweighted"
    ERROR_MODEL = "error_model"


class OutcomeModel(NamedTuple):
    """What the labels of new rows are drawn from; see ``fit_outcome_model``.

    Attributes
    ----------
    config : ProjectConfig
        The project's settings.
    feature_names : list of str
        The features that a window is compared in.
    reference : DataFrame
        Reference rows with a label and a score.
    labels : LabelModel or None
        Of a classifier: how labels are distributed given the scores.
    errors : ErrorModel or None
        Of a regression: how errors are distributed given the features.
    encoder : FeatureEncoder
        How features become numbers.
    """

    config: ProjectConfig
    feature_names: list[str]
    reference: pd.DataFrame
    labels: LabelModel | None
    errors: ErrorModel | None
    encoder: FeatureEncoder


class WindowRows(NamedTuple):
    """The rows of a window without labels.

    Attributes
    ----------
    scores : array-like, shape (rows,) or (rows, classes)
        Their scores; rows without one are left out.
    features : DataFrame
        Their features, in the same order.
    design : SamplingDesign
        The day or group, and the weight, of each row.
    threshold : float or None
        The decision threshold.
    """

    scores: Any
    features: pd.DataFrame
    design: SamplingDesign = SamplingDesign()
    threshold: float | None = None


class PerformanceEstimate(NamedTuple):
    """An estimate with its interval, how it was made, and a sentence about that."""

    interval: Interval
    method: EstimationMethod
    note: str


def fit_outcome_model(
    reference: pd.DataFrame,
    feature_names: list[str],
    config: ProjectConfig,
) -> OutcomeModel:
    """Fit what the labels of new rows are drawn from.

    Parameters
    ----------
    reference : DataFrame
        The rows that the model was evaluated on: features, ``score``, the target as a number, and
        time, group and weight as far as the project has them.
    feature_names : list of str
        The features.
    config : ProjectConfig
        The project's settings.

    Raises
    ------
    KitError
        If scores or labels are not numbers.
    """
    scores = _convert_scores(reference[SCORE_COLUMN])
    labels = to_numbers(reference[config.target])
    is_known = is_finite_score(scores) & np.isfinite(labels)
    rows = reference[is_known].reset_index(drop=True)
    scores = scores[is_known]
    labels = labels[is_known]
    encoder = fit_feature_encoder(rows, feature_names)
    design = get_sampling_design(rows, config)
    label_model = None
    error_model = None
    if TASKS[config.task].has_classes:
        label_model = fit_label_model(
            scores,
            labels,
            design,
            config.review.draws,
            config.seed,
        )
    else:
        error_model = fit_error_model(
            scores,
            labels,
            np.column_stack([encoder.encode(rows), scores]),
            design,
            np.r_[encoder.is_categorical, False],
            config.seed,
        )
    return OutcomeModel(
        config,
        feature_names,
        rows,
        label_model,
        error_model,
        encoder,
    )


def estimate_performance(
    model: OutcomeModel,
    window: WindowRows,
    metric: str = "",
) -> PerformanceEstimate:
    """Estimate a metric of a window without its labels.

    Of a classifier, each row counts as each class with its calibrated probability, which gives the
    expected confusion matrix at every threshold (confidence-based performance estimation). The
    calibration is fitted to the reference as it is, or, where both overlap, reweighted to resemble
    the window. Of a regression, errors are drawn with the size that is predicted from the features
    (direct loss estimation).

    Parameters
    ----------
    model : OutcomeModel
        As returned by ``fit_outcome_model``.
    window : WindowRows
        The rows of the window.
    metric : str
        A registered metric of the task; empty: the headline metric.

    Returns
    -------
    PerformanceEstimate
        Its 95% interval contains the realized value of these rows in 95% of windows, see the
        module's docstring. The value is None without scores, or if the reference has one class.

    Raises
    ------
    KitError
        If the scores are not numbers.

    Notes
    -----
    Białek, Kivimäki, Kuberski & Perrakis, "Estimating model performance under covariate shift
    without labels", arXiv 2401.08348 (2024).
    """
    name = metric or model.config.headline_metric
    registered = METRICS[name]
    estimates = estimate_functions(model, window, {name: registered.function})
    return estimates[name]


def make_cost_function(costs: CostConfig) -> MetricFunction:
    """Make the function of the mean cost of the decisions on some rows, with a metric's arguments.

    >>> compute_cost = make_cost_function(CostConfig(false_alarm=1, miss=4))
    >>> float(compute_cost([1, 0, 0, 1], [0.1, 0.9, 0.2, 0.8], 0.5))
    1.25
    """

    def compute_cost(
        y: Any,
        score: Any,
        threshold: float | None = None,
        weights: Any = None,
    ) -> float:
        row_costs = compute_row_costs(
            y,
            score,
            DEFAULT_THRESHOLD if threshold is None else threshold,
            costs.false_alarm,
            costs.miss,
        )
        return float(np.average(row_costs, weights=weights))

    return compute_cost


def list_window_functions(
    config: ProjectConfig,
    threshold: float | None,
) -> dict[str, MetricFunction]:
    """List what is estimated of every window: the headline metric, and ``cost`` if it is stated.

    Only decisions with a threshold have a cost.
    """
    functions = {config.headline_metric: METRICS[config.headline_metric].function}
    if threshold is not None and config.cost.model_fields_set:
        functions[COST] = make_cost_function(config.cost)
    return functions


def estimate_functions(
    model: OutcomeModel,
    window: WindowRows,
    functions: dict[str, MetricFunction],
) -> dict[str, PerformanceEstimate]:
    """Estimate functions of labels, scores, threshold and weights; all use the same draws.

    See ``estimate_performance``. A function is that of a metric, or one of ``make_cost_function``.
    """
    scores = _convert_scores(window.scores)
    has_score = is_finite_score(scores)
    reason = ""
    if not has_score.any():
        reason = "no row has a score" if len(scores) else "there are no rows"
    if model.labels is None and model.errors is None:
        reason = "the reference has one class, or no error"
    if reason:
        none = PerformanceEstimate(Interval(None), EstimationMethod.NONE, f"Not known: {reason}.")
        return dict.fromkeys(functions, none)
    # Sorted by score, the sort of a ranking metric in each draw is cheap.
    rows = np.flatnonzero(has_score)
    if scores.ndim == 1:
        rows = rows[np.argsort(scores[rows], kind="stable")]
    scored = WindowRows(
        scores[rows],
        window.features.iloc[rows],
        window.design.select(rows),
        window.threshold,
    )
    if model.labels is None:
        return _estimate_from_errors(model, scored, functions)
    return _estimate_from_labels(model, model.labels, scored, functions)


def _estimate_from_labels(
    model: OutcomeModel,
    unweighted: LabelModel,
    window: WindowRows,
    functions: dict[str, MetricFunction],
) -> dict[str, PerformanceEstimate]:
    """Estimate functions from the calibrated probability of each class."""
    labels, reweighting = _choose_label_model(model, unweighted, window.features)
    is_reweighted = reweighting.weights is not None
    method = EstimationMethod.REWEIGHTED if is_reweighted else EstimationMethod.CALIBRATED
    note = f"From calibrated probabilities, {reweighting.sentence}."
    rng = np.random.default_rng(model.config.seed)
    expected = _compute_expected(functions, labels, window)
    draws = labels.simulate(window.scores, window.design.blocks, rng)
    estimates = {}
    for name, values in _compute_draws(functions, draws, window).items():
        interval = _make_interval(expected.get(name), values)
        estimates[name] = PerformanceEstimate(interval, method, note)
    return estimates


def _estimate_from_errors(
    model: OutcomeModel,
    window: WindowRows,
    functions: dict[str, MetricFunction],
) -> dict[str, PerformanceEstimate]:
    """Estimate functions from the size of errors that is predicted from the features."""
    errors = cast(ErrorModel, model.errors)
    features = np.column_stack([model.encoder.encode(window.features), window.scores])
    draws = errors.simulate(
        window.scores,
        features,
        window.design.blocks,
        model.config.review.draws,
        np.random.default_rng(model.config.seed),
    )
    note = "From the size of errors that is predicted from the features."
    estimates = {}
    for name, values in _compute_draws(functions, draws, window).items():
        interval = _make_interval(None, values)
        estimates[name] = PerformanceEstimate(interval, EstimationMethod.ERROR_MODEL, note)
    return estimates


def _choose_label_model(
    model: OutcomeModel,
    unweighted: LabelModel,
    features: pd.DataFrame,
) -> tuple[LabelModel, Reweighting]:
    """Fit the calibration to the reference as reweighted for a window, if both overlap."""
    config = model.config
    reweighting = reweight_reference(
        model.reference,
        features,
        model.feature_names,
        config.seed,
    )
    if reweighting.is_outside_support:
        effects = estimate_population_effects(
            unweighted,
            to_score_array(model.reference[SCORE_COLUMN]),
            to_numbers(model.reference[config.target]),
            model.encoder.encode(model.reference),
            model.encoder,
        )
        return unweighted._replace(population_effects=effects), reweighting
    if reweighting.weights is None:
        return unweighted, reweighting
    design = get_sampling_design(model.reference, config)
    weights = reweighting.weights
    if design.weights is not None:
        weights = weights * design.weights
    labels = fit_label_model(
        to_score_array(model.reference[SCORE_COLUMN]),
        to_numbers(model.reference[config.target]),
        SamplingDesign(design.blocks, weights),
        config.review.draws,
        config.seed,
    )
    return labels or unweighted, reweighting


def _get_weights(window: WindowRows) -> np.ndarray:
    """Return the weight of each row; 1 if all count the same."""
    if window.design.weights is None:
        return np.ones(len(window.scores))
    return window.design.weights


def _compute_expected(
    functions: dict[str, MetricFunction],
    labels: LabelModel,
    window: WindowRows,
) -> dict[str, float]:
    """Compute functions of the expected labels: each row counts as each class."""
    probabilities = labels.predict(window.scores)
    if probabilities.ndim == 1:
        probabilities = np.column_stack([1 - probabilities, probabilities])
    class_count = probabilities.shape[1]
    codes = np.tile(np.arange(class_count, dtype=float), len(probabilities))
    scores = np.repeat(window.scores, class_count, axis=0)
    weights = (probabilities * _get_weights(window)[:, None]).ravel()
    expected = {}
    for name, function in functions.items():
        if name not in _METRICS_RAISED_BY_NOISE:
            expected[name] = float(function(codes, scores, window.threshold, weights))
    return expected


def _compute_draws(
    functions: dict[str, MetricFunction],
    draws: Iterator[np.ndarray],
    window: WindowRows,
) -> dict[str, list[float]]:
    """Compute functions of each draw of labels."""
    weights = _get_weights(window)
    drawn: dict[str, list[float]] = {name: [] for name in functions}
    for y in draws:
        for name, function in functions.items():
            drawn[name].append(float(function(y, window.scores, window.threshold, weights)))
    return drawn


def _make_interval(expected: float | None, drawn: list[float]) -> Interval:
    """Make the interval of a metric; its value is the mean of the draws where none is expected."""
    values = np.asarray(drawn)
    finite_values = values[np.isfinite(values)]
    value = expected
    if value is None and len(finite_values):
        value = float(finite_values.mean())
    if value is None or not np.isfinite(value):
        return Interval(None)
    if len(finite_values) < _MIN_FINITE_SHARE * len(values):
        return Interval(value)
    low, high = compute_prediction_interval(finite_values)
    return Interval(value, low, high)


def _convert_scores(scores: Any) -> np.ndarray:
    """Convert scores to numbers.

    Raises
    ------
    KitError
        If one is text.
    """
    if isinstance(scores, pd.Series):
        scores = scores.astype(object)
        scores = scores.where(scores.notna(), None)
    try:
        return to_score_array(scores)
    except (TypeError, ValueError) as error:
        raise KitError(
            f"the scores are not numbers: {error}",
            "a number per row, or the probability of each class",
            "score the rows with a registered version",
        ) from error
