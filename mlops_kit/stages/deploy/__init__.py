"""Serve the model: decide on its promotion, score what came in between the two moments."""

from __future__ import annotations

from mlops_kit.registry.scoring import predict_with_champion, score_rows
from mlops_kit.stages.deploy.batch import select_period_rows
from mlops_kit.stages.deploy.promotion import promote_if_approved

__all__ = ["predict_with_champion", "promote_if_approved", "score_rows", "select_period_rows"]
