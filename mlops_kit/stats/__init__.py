"""Metrics, bootstrap intervals, proportions and decision thresholds."""
