"""Prepare: a feature table that satisfies its contract, split so that the test rows stay unseen."""

from __future__ import annotations

from mlops_kit.data.splits import split_rows
from mlops_kit.data.target import encode_target
from mlops_kit.stages.prepare.leakage import check_leakage

__all__ = ["check_leakage", "encode_target", "split_rows"]
