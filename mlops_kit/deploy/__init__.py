"""Serve the model: decide on its promotion, score what came in between the two moments."""

from mlops_kit.deploy.batch import period, predict, score
from mlops_kit.deploy.promotion import decide

__all__ = ["decide", "period", "predict", "score"]
