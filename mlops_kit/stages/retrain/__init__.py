"""Retrain: is a new model worth making? A decision with its reason; nothing is started here."""

from __future__ import annotations

import mlops_kit.stages.retrain.rules  # noqa: F401 - registers the rules of this package
from mlops_kit.stages.retrain.policy import (
    RetrainingAction,
    RetrainingDecision,
    RetrainingEvidence,
    count_labeled_rows,
    decide_retraining,
    describe_policy,
    list_rule_results,
    make_retraining_verdict,
)

__all__ = [
    "RetrainingAction",
    "RetrainingDecision",
    "RetrainingEvidence",
    "count_labeled_rows",
    "decide_retraining",
    "describe_policy",
    "list_rule_results",
    "make_retraining_verdict",
]
