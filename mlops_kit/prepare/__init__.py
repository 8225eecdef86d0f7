"""Prepare: a feature table that holds to its contract, split so that the judge stays unseen."""

from mlops_kit.features import encode as target
from mlops_kit.prepare.leakage import checks
from mlops_kit.prepare.split import split

__all__ = ["checks", "split", "target"]
