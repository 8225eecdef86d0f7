"""The tables, the chart and the sentences of a replay's result."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.charts import plot_line
from mlops_kit.core.formatting import capitalize_first, format_money, format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.stages.retrain.policy import RetrainingAction
from mlops_kit.watch.policy_replay.costs import CostRatio, PolicyChoice
from mlops_kit.watch.policy_replay.losses import WindowLosses
from mlops_kit.watch.policy_replay.outcome import ReplayedPolicy, ReplayOutcome
from mlops_kit.watch.policy_replay.policies import PRESENT_POLICY, ReplayPolicy
from mlops_kit.watch.policy_replay.result import (
    COST_COLUMNS,
    DECISION_COLUMNS,
    SCORE_COLUMNS,
    PolicyComparison,
)
from mlops_kit.watch.status import format_local_time

_CHOICE_COLUMNS = ("retraining cost", "cheapest", "saving", "low", "high", "recommended")
_PROJECT_FACTOR = 1.0  # of the ratio that the recommendation rests on


def build_comparison(
    outcome: ReplayOutcome, policies: Sequence[ReplayPolicy], notes: Sequence[str]
) -> PolicyComparison:
    """Build the result of a replay.

    Parameters
    ----------
    notes : sequence of str
        What was replayed, and what is simplified.
    """
    history = outcome.losses.history
    config = history.project.config
    start = format_local_time(config, history.start)
    end = format_local_time(config, history.end)
    counted = outcome.losses.row_counts
    title = f"Retraining policies of {config.name} from {start} to {end}"
    choice = _get_main_choice(outcome.choices)
    recommended = {policy.name: policy for policy in policies}[choice.recommended]
    scores = _build_scores(outcome)
    period_note = (
        f"{int((counted > 0).sum())} windows with {int(counted.sum()):,} rows count; later windows "
        "have no labels yet."
    )
    return PolicyComparison(
        title=title,
        sentence=_recommend(outcome, choice),
        costs=_build_costs(outcome),
        choices=_build_choices(outcome),
        scores=scores,
        decisions=_build_decisions(outcome),
        chart=plot_line(scores, x="window", y="score", color="policy"),
        policy_yaml=recommended.to_yaml(),
        notes=(period_note, *notes),
    )


def _get_main_choice(choices: Sequence[PolicyChoice]) -> PolicyChoice:
    return next(choice for choice in choices if choice.ratio.factor == _PROJECT_FACTOR)


def _has_value(losses: WindowLosses) -> bool:
    """Whether the project states what a retraining costs and what a decision is worth."""
    policy = losses.history.project.config.retrain
    return policy.cost is not None and policy.value_per_decision is not None


def _scale_cost(losses: WindowLosses, cost: float) -> float:
    """Scale a cost to money, if the project states it, or else to one prediction."""
    value = losses.history.project.config.retrain.value_per_decision
    if _has_value(losses) and value is not None:
        return cost * value
    return cost / float(losses.row_counts.sum())


def _describe_unit(losses: WindowLosses) -> str:
    if _has_value(losses):
        return losses.history.project.config.cost.unit
    return f"loss of {losses.metric.title} per prediction"


def _build_costs(outcome: ReplayOutcome) -> Table:
    """Build the table of costs: the policies and the oracle at each ratio."""
    rows = []
    for ratio, oracle in zip(outcome.ratios, outcome.oracles, strict=True):
        oracle_cost = oracle.loss.compute_cost(ratio)
        ranked = sorted(outcome.policies, key=lambda policy: policy.loss.compute_cost(ratio))
        rows.append(_make_cost_row(outcome.losses, ratio, oracle, oracle_cost))
        for policy in ranked:
            rows.append(_make_cost_row(outcome.losses, ratio, policy, oracle_cost))
    title = outcome.losses.metric.title
    unit = _describe_unit(outcome.losses)
    return Table(
        "Costs by policy",
        f"Cost of retrainings and of prediction errors; the oracle knows all labels. Score is the "
        f"{title} of the windows, on average by rows.",
        pd.DataFrame(rows, columns=list(COST_COLUMNS)),
        units={"cost": unit, "regret": unit},
        notes=(
            "Regret is the cost above that of the oracle. An alert is a window with a reason to "
            "retrain; it is false if no model made then is better by review.margin in the next "
            "four windows.",
        ),
    )


def _make_cost_row(
    losses: WindowLosses, ratio: CostRatio, policy: ReplayedPolicy, oracle_cost: float
) -> tuple[object, ...]:
    cost = policy.loss.compute_cost(ratio)
    mean_loss = float(policy.loss.losses.sum() / losses.row_counts.sum())
    return (
        ratio.title,
        policy.loss.name,
        _scale_cost(losses, cost),
        _scale_cost(losses, cost - oracle_cost),
        1 - mean_loss if losses.metric.greater_is_better else mean_loss,
        policy.loss.retrainings,
        policy.promotions,
        policy.alarms.alerts,
        policy.alarms.false_alarms,
    )


def _build_choices(outcome: ReplayOutcome) -> Table:
    """Build the table of recommendations by ratio."""
    rows = []
    losses = outcome.losses
    total_rows = float(losses.row_counts.sum())
    for choice in outcome.choices:
        saving = choice.saving
        ends = [saving.value, saving.low, saving.high]
        scaled = [None if end is None else _scale_cost(losses, end * total_rows) for end in ends]
        rows.append((choice.ratio.title, choice.cheapest, *scaled, choice.recommended))
    unit = _describe_unit(losses)
    data = pd.DataFrame(rows, columns=list(_CHOICE_COLUMNS))
    data[["saving", "low", "high"]] = data[["saving", "low", "high"]].astype(float)
    return Table(
        "Recommendation by ratio of costs",
        "What the cheapest policy saves beside the present one, with an interval over blocks of "
        "windows.",
        data,
        units={"saving": unit},
    )


def _recommend(outcome: ReplayOutcome, choice: PolicyChoice) -> str:
    """Recommend a policy in words."""
    assumption = f"If {choice.ratio.title}"
    if choice.cheapest == PRESENT_POLICY:
        return f"{assumption}, no compared policy is cheaper than the present one: keep it."
    saving = _describe_saving(outcome, choice)
    if choice.recommended == PRESENT_POLICY:
        return (
            f"{assumption}, there is no difference beyond noise: the cheapest policy, "
            f"{choice.cheapest}, saves {saving}. Keep the present policy."
        )
    others = [other for other in outcome.choices if other.recommended != choice.recommended]
    sentence = (
        f"{assumption}, {choice.cheapest} is cheaper than the present policy: it saves {saving}."
    )
    if not others:
        return f"{sentence} The other two ratios of costs agree."
    exceptions = [f"{other.recommended} if {other.ratio.title}" for other in others]
    return f"{sentence} Other ratios of costs recommend {' and '.join(exceptions)}."


def _describe_saving(outcome: ReplayOutcome, choice: PolicyChoice) -> str:
    """Describe a saving with its interval."""
    losses = outcome.losses
    saving = choice.saving
    total_rows = float(losses.row_counts.sum())
    texts = []
    for value in (saving.value, saving.low, saving.high):
        if value is None:
            texts.append("")
        elif _has_value(losses):
            scaled = _scale_cost(losses, value * total_rows)
            texts.append(format_money(scaled, losses.history.project.config.cost.unit))
        else:
            texts.append(format_number(value))
    unit = "" if _has_value(losses) else f" of {losses.metric.title} per prediction"
    if saving.low is None:
        return f"{texts[0]}{unit} (there are too few windows for an interval)"
    level = format_number(100 * saving.level)
    return f"{texts[0]}{unit}, {level}% interval {texts[1]} to {texts[2]}"


def _build_scores(outcome: ReplayOutcome) -> Table:
    """Build the table of scores: each policy, and the oracle of the project's ratio."""
    losses = outcome.losses
    oracle = outcome.oracles[
        next(i for i, ratio in enumerate(outcome.ratios) if ratio.factor == _PROJECT_FACTOR)
    ]
    rows = []
    for policy in (*outcome.policies, oracle):
        with np.errstate(invalid="ignore", divide="ignore"):
            window_losses = policy.loss.losses / losses.row_counts
        for window in losses.history.windows:
            loss = float(window_losses[window.number])
            if not np.isfinite(loss):
                continue
            score = 1 - loss if losses.metric.greater_is_better else loss
            rows.append((window.end, policy.loss.name, score))
    title = capitalize_first(losses.metric.title)
    best = {policy.loss.name: float(policy.loss.losses.sum()) for policy in outcome.policies}
    leader = min(best, key=lambda name: best[name])
    return Table(
        f"{title} by window",
        f"{title} of each window that has ended by then; on average {leader} is best.",
        pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
    )


def _build_decisions(outcome: ReplayOutcome) -> Table:
    """Build the table of decisions that were not to keep the model."""
    rows = []
    config = outcome.losses.history.project.config
    for timeline in outcome.timelines:
        for decision in timeline.decisions:
            if decision.action == RetrainingAction.KEEP and not decision.outcome:
                continue
            decided = format_local_time(config, decision.as_of)
            rows.append(
                (timeline.name, decided, decision.action, decision.outcome, decision.reason)
            )
    return Table(
        "Retraining decisions",
        f"{len(rows)} decisions of {len(outcome.timelines)} policies other than to keep the model.",
        pd.DataFrame(rows, columns=list(DECISION_COLUMNS)),
    )
