"""Decision costs."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.formatting import format_money, format_number, format_percent
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Interval, Table
from mlops_kit.data.columns import get_row_days
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stats import bootstrap, metrics, thresholds


def compare_decision_rules(y: Any, score: Any, threshold: float, config: ProjectConfig) -> Table:
    """What a decision costs at the model's threshold, beside flagging every row, none, or above a half.

    Returns
    -------
    Table
        A row a rule: threshold, flagged, precision, recall (shares), false_alarms, misses (rows), cost (a row).
    """
    y, score, _ = metrics.to_finite_arrays(y, score)
    cost, unit = config.cost, config.cost.unit
    rules = {
        "the model's threshold": threshold,
        "flag above a half": 0.5,
        "flag every row": 0.0,
        "flag no row": float(np.nextafter(1.0, 2.0)),
    }
    curve = thresholds.compute_cost_curve(
        y, score, cost.false_alarm, cost.miss, list(rules.values())
    )
    curve.insert(0, "rule", list(rules))
    first = curve.iloc[0]
    blind = curve.iloc[2:]["cost"].min()
    said = f"At its threshold of {format_number(float(threshold))} it flags {format_percent(float(first['flagged']))} of the rows; {format_percent(float(first['precision']))} of these deserve it, and {format_percent(float(first['recall']))} of those that deserve it are found."
    sentence = (
        f"{said} A {config.row_name} costs {format_money(float(first['cost']), unit)}, without a model {format_money(float(blind), unit)}."
        if len(y)
        else "There is no labelled row to decide on."
    )
    note = f"A false alarm costs {format_money(cost.false_alarm, unit)}, a miss {format_money(cost.miss, unit)}."
    return Table(
        "What does a decision cost?",
        sentence,
        curve,
        {"cost": f"{unit or 'cost'} a {config.row_name}"},
        (note,),
    )


def summarize_absolute_errors(y: Any, score: Any, unit: str = "") -> Table:
    """How far a regression is off: quantiles of the absolute error, in the target's unit."""
    y, score, _ = metrics.to_finite_arrays(y, score)
    shares = [0.5, 0.8, 0.9, 0.95, 1.0]
    ends = np.quantile(np.abs(y - score), shares) if len(y) else np.full(len(shares), np.nan)
    data = pd.DataFrame({"share of rows": shares, "off by at most": ends})
    sentence = (
        f"Half of the rows are off by at most {format_number(float(ends[0]))}, nine in ten by at most {format_number(float(ends[2]))} (in the target's unit)."
        if len(y)
        else "There is no labelled row."
    )
    return Table("How far is it off?", sentence, data, {"off by at most": unit} if unit else {})


def evaluate_decisions(
    scores: pd.DataFrame, config: ProjectConfig, threshold: float | None
) -> Table:
    """What hangs on the scores: the cost at the threshold, or how far a regression is off."""
    if config.task == "regression" or threshold is None:
        return summarize_absolute_errors(scores[config.target], scores["score"])
    return compare_decision_rules(scores[config.target], scores["score"], threshold, config)


def compute_decision_cost(
    scores: pd.DataFrame, threshold: float, config: ProjectConfig, seed: int = 0
) -> tuple[Interval, Interval]:
    """The mean cost of a row's decision, and how much less that is than by the cheaper blind rule.

    The blind rules flag every row or none; intervals are resampled by day where rows have a moment.
    """
    labelled = scores[scores[config.target].notna()]
    y, cost, blocks, draws = (
        labelled[config.target].to_numpy(dtype=float),
        config.cost,
        get_row_days(labelled, config),
        config.review.draws,
    )
    own = thresholds.compute_row_costs(y, labelled["score"], threshold, cost.false_alarm, cost.miss)
    blind = min(
        (
            thresholds.compute_row_costs(y, labelled["score"], t, cost.false_alarm, cost.miss)
            for t in (-np.inf, np.inf)
        ),
        key=lambda c: float(c.sum()),
    )
    ones = np.ones(len(y))
    return bootstrap.compute_ratio_interval(
        own, ones, blocks, draws, seed
    ), bootstrap.compute_ratio_interval(blind - own, ones, blocks, draws, seed)


def compute_flagged_precision(
    scores: pd.DataFrame,
    threshold: float,
    config: ProjectConfig,
    seed: int = 0,
    draws: int | None = None,
) -> Interval:
    """The share of flagged rows that deserve it (precision), with its interval."""
    labelled = scores[scores[config.target].notna()]
    flagged = (labelled["score"] >= threshold).to_numpy(dtype=float)
    return bootstrap.compute_ratio_interval(
        flagged * labelled[config.target].to_numpy(dtype=float),
        flagged,
        get_row_days(labelled, config),
        config.review.draws if draws is None else draws,
        seed,
    )
