"""Comparison of two runs: what they were given, what they executed, and what came out.

``runs.compare_runs`` returns a ``RunComparison``; ``rendering`` shows it. Code cells and modules
are compared line by line, JSON artifacts value by value. Metrics that both runs measured on the
same held-out rows are compared row by row (a paired bootstrap), other metrics by their confidence
intervals; a number without an interval is shown, and nothing is concluded from it. What a stage
used is compared only if it was recorded in both runs.

To add a section: a function that takes the two ``RunSide`` and yields ``ComparisonRow``, and its
name in ``runs.COMPARISON_SECTIONS``.
"""
