"""Review: is the model fit to serve? Evidence, checks, and a model card.

`evaluate_performance`, `evaluate_slices`, `compare_calibration_curves`, `evaluate_decisions`,
`compute_permutation_importance` and `run_what_if_analysis` measure; `compare_with_champion` and
`describe_changes` compare with the champion; `gather_evidence` collects; `run_checks` turns the
evidence into verdicts; `render_model_card` shows all of it. Acting on a verdict is left to the
notebook's gate and the registry.
"""

from __future__ import annotations

from mlops_kit.data.row_weights import get_row_weights
from mlops_kit.stages.review.calibration import (
    compare_calibration_curves,
    compute_calibration_curve,
)
from mlops_kit.stages.review.champion_comparison import (
    ScoredModel,
    compare_with_champion,
    extract_champion_gain,
    make_challenger,
    score_champion,
)
from mlops_kit.stages.review.changes import describe_changes
from mlops_kit.stages.review.checks import (
    CHAMPION_CHECKS,
    REVIEW_CHECKS,
    ReviewCheck,
    make_verdict,
    register_check,
    run_checks,
)
from mlops_kit.stages.review.class_performance import (
    compute_confusion_matrix,
    evaluate_class_calibration,
    evaluate_classes,
    evaluate_predicted_classes,
)
from mlops_kit.stages.review.decision_costs import (
    compare_decision_rules,
    compute_decision_cost,
    evaluate_decisions,
    summarize_absolute_errors,
)
from mlops_kit.stages.review.evidence import (
    RefitAgreement,
    ReviewEvidence,
    evaluate_performance,
    gather_evidence,
    get_row_blocks,
    join_scores_to_features,
    measure_refit_agreement,
    name_classes,
    name_family,
)
from mlops_kit.stages.review.importance import compute_permutation_importance
from mlops_kit.stages.review.model_card import (
    collect_card_facts,
    render_model_card,
    render_model_card_markdown,
)
from mlops_kit.stages.review.refit_check import add_reference_refits
from mlops_kit.stages.review.registration import register_reviewed_model
from mlops_kit.stages.review.slices import evaluate_slices
from mlops_kit.stages.review.summary import summarize_key_numbers, summarize_review
from mlops_kit.stages.review.what_if import run_what_if_analysis

__all__ = [
    "CHAMPION_CHECKS",
    "REVIEW_CHECKS",
    "RefitAgreement",
    "ReviewCheck",
    "ReviewEvidence",
    "ScoredModel",
    "add_reference_refits",
    "collect_card_facts",
    "compare_calibration_curves",
    "compare_decision_rules",
    "compare_with_champion",
    "compute_calibration_curve",
    "compute_confusion_matrix",
    "compute_decision_cost",
    "compute_permutation_importance",
    "describe_changes",
    "evaluate_class_calibration",
    "evaluate_classes",
    "evaluate_decisions",
    "evaluate_performance",
    "evaluate_predicted_classes",
    "evaluate_slices",
    "extract_champion_gain",
    "gather_evidence",
    "get_row_blocks",
    "get_row_weights",
    "join_scores_to_features",
    "make_challenger",
    "make_verdict",
    "measure_refit_agreement",
    "name_classes",
    "name_family",
    "register_check",
    "register_reviewed_model",
    "render_model_card",
    "render_model_card_markdown",
    "run_checks",
    "run_what_if_analysis",
    "score_champion",
    "summarize_absolute_errors",
    "summarize_key_numbers",
    "summarize_review",
]
