"""Train: the search for a recipe among model families, and the fits of the best one.

``families`` defines what can be built, ``folds`` how it is validated, ``fitting`` how it is fitted,
and ``search`` (the only module that uses Optuna) finds the best recipe. Importing this package
imports neither scikit-learn nor Optuna.
"""

from __future__ import annotations

from mlops_kit.stages.train.families import list_baselines
from mlops_kit.stages.train.family_comparison import compare_families
from mlops_kit.stages.train.fitting import compute_scores, fit_model, score_held_out_rows
from mlops_kit.stages.train.folds import select_labeled_rows, select_training_rows
from mlops_kit.stages.train.refits import compare_refits
from mlops_kit.stages.train.row_selection import describe_training_rows
from mlops_kit.stages.train.search import SearchBudget, search_recipes

__all__ = [
    "SearchBudget",
    "compare_families",
    "compare_refits",
    "compute_scores",
    "describe_training_rows",
    "fit_model",
    "list_baselines",
    "score_held_out_rows",
    "search_recipes",
    "select_labeled_rows",
    "select_training_rows",
]
