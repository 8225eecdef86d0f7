"""Retrain: is a new model worth making? A decision with its reason; nothing is started here."""

from mlops_kit.retrain.policy import decide, evidence, gate, labelled, settings

__all__ = ["decide", "evidence", "gate", "labelled", "settings"]
