"""What decisions based on the scores cost, and how large the errors of a regression are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.formatting import format_money, format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.data.splitters import get_sampling_design
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review.class_performance import evaluate_predicted_classes
from mlops_kit.stats import bootstrap, thresholds
from mlops_kit.stats.metrics import to_finite_arrays

_ERROR_QUANTILES = [0.5, 0.8, 0.9, 0.95, 1.0]


def evaluate_decisions(
    scores: pd.DataFrame,
    config: ProjectConfig,
    threshold: float | None,
    classes: Sequence[Any] = (),
) -> Table:
    """Evaluate what follows from the scores.

    The decisions of a binary classifier have a cost at its threshold (`compare_decision_rules`). A
    multiclass task has no threshold and no costs: precision and recall by class
    (`evaluate_predicted_classes`). A regression has absolute errors (`summarize_absolute_errors`).

    Parameters
    ----------
    classes : sequence
        The names of the classes in the order of their codes.
    """
    scores = to_pandas(scores)
    labels = scores[config.target]
    weights = get_row_weights(scores, config)
    if config.task == "multiclass":
        return evaluate_predicted_classes(labels, scores["score"], classes, weights)
    if config.task == "regression" or threshold is None:
        return summarize_absolute_errors(labels, scores["score"], weights=weights)
    return compare_decision_rules(labels, scores["score"], threshold, config, weights)


def compare_decision_rules(
    y: Any, score: Any, threshold: float, config: ProjectConfig, weights: Any = None
) -> Table:
    """Compare the cost of the model's threshold with rules that need no model.

    Parameters
    ----------
    weights : array-like, optional
        The weight of each row.

    Returns
    -------
    Table
        One row per rule: threshold, flagged, precision, recall (shares), false_alarms, misses
        (rows), cost (per row).
    """
    y, score, weights = to_finite_arrays(y, score, weights)
    cost = config.cost
    threshold_by_rule = {
        "the model's threshold": threshold,
        "flag above one half": 0.5,
        "flag every row": 0.0,
        "flag no row": float(np.nextafter(1.0, 2.0)),
    }
    curve = thresholds.compute_cost_curve(
        y, score, cost.false_alarm, cost.miss, list(threshold_by_rule.values()), weights
    )
    curve.insert(0, "rule", list(threshold_by_rule))
    false_alarm = format_money(cost.false_alarm, cost.unit)
    miss = format_money(cost.miss, cost.unit)
    return Table(
        title="Decision threshold and cost",
        sentence=_summarize_decision_rules(curve, config) if len(y) else "There is no labeled row.",
        data=curve,
        units={"cost": f"{cost.unit or 'cost'} per {config.row_name}"},
        notes=(f"A false alarm costs {false_alarm}, a miss {miss}.",),
    )


def _summarize_decision_rules(curve: pd.DataFrame, config: ProjectConfig) -> str:
    unit = config.cost.unit
    model_rule = curve.iloc[0]
    threshold = format_number(float(model_rule["threshold"]))
    flagged = format_percent(float(model_rule["flagged"]))
    precision = format_percent(float(model_rule["precision"]))
    recall = format_percent(float(model_rule["recall"]))
    cost = format_money(float(model_rule["cost"]), unit)
    cost_without_model = format_money(float(curve.iloc[2:]["cost"].min()), unit)
    return (
        f"At its threshold of {threshold} the model flags {flagged} of the rows, with a precision "
        f"of {precision} and a recall of {recall}. Errors cost {cost} per {config.row_name}, "
        f"{cost_without_model} without a model."
    )


def summarize_absolute_errors(y: Any, score: Any, unit: str = "", weights: Any = None) -> Table:
    """Compute quantiles of the absolute error of a regression, in the unit of the target.

    With weights, a quantile is the smallest error that this share of the weights does not exceed.
    """
    is_weighted = weights is not None
    y, score, weights = to_finite_arrays(y, score, weights)
    title = "Absolute error"
    units = {"off by at most": unit} if unit else {}
    if not len(y):
        missing_errors = np.full(len(_ERROR_QUANTILES), np.nan)
        data = pd.DataFrame({"share of rows": _ERROR_QUANTILES, "off by at most": missing_errors})
        return Table(title, "There is no labeled row.", data, units)
    errors = np.quantile(np.abs(y - score), _ERROR_QUANTILES)
    if is_weighted:
        errors = np.quantile(
            np.abs(y - score), _ERROR_QUANTILES, weights=weights, method="inverted_cdf"
        )
    data = pd.DataFrame({"share of rows": _ERROR_QUANTILES, "off by at most": errors})
    sentence = (
        f"Half of the rows are off by at most {format_number(float(errors[0]))}, 90% by at most "
        f"{format_number(float(errors[2]))} (in the unit of the target)."
    )
    return Table(title, sentence, data, units)


def compute_decision_cost(
    scores: pd.DataFrame, threshold: float, config: ProjectConfig, seed: int = 0
) -> tuple[Interval, Interval]:
    """Compute the mean cost per row, and the saving against the cheaper rule without a model.

    The rules without a model flag every row or none. Intervals are bootstrapped by day where the
    table has a time column.
    """
    scores = to_pandas(scores)
    labeled = scores[scores[config.target].notna()]
    labels = labeled[config.target].to_numpy(dtype=float)
    cost = config.cost
    # No score is below -inf or above inf: the first threshold flags every row, the second none.
    model_costs, flag_all_costs, flag_none_costs = (
        thresholds.compute_row_costs(
            labels, labeled["score"], used_threshold, cost.false_alarm, cost.miss
        )
        for used_threshold in (threshold, -np.inf, np.inf)
    )
    design = get_sampling_design(labeled, config)
    weights = 1.0 if design.weights is None else design.weights
    costs_without_model = flag_all_costs
    if float((weights * flag_none_costs).sum()) < float((weights * flag_all_costs).sum()):
        costs_without_model = flag_none_costs
    draws = config.review.draws
    row_counts = np.ones(len(labels))
    mean_cost = bootstrap.compute_ratio_interval(model_costs, row_counts, design, draws, seed)
    saving = bootstrap.compute_ratio_interval(
        costs_without_model - model_costs, row_counts, design, draws, seed
    )
    return mean_cost, saving


def compute_flagged_precision(
    scores: pd.DataFrame,
    threshold: float,
    config: ProjectConfig,
    seed: int = 0,
    draws: int | None = None,
) -> Interval:
    """Compute the share of flagged rows that are positive (precision), with its interval."""
    labeled = scores[scores[config.target].notna()]
    is_flagged = (labeled["score"] >= threshold).to_numpy(dtype=float)
    is_positive = labeled[config.target].to_numpy(dtype=float)
    return bootstrap.compute_ratio_interval(
        is_flagged * is_positive,
        is_flagged,
        get_sampling_design(labeled, config),
        config.review.draws if draws is None else draws,
        seed,
    )
