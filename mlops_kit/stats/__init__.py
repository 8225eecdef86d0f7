"""Metrics, bootstrap intervals, proportions, decision thresholds, association of columns."""
