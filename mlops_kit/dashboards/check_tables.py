"""Tables of checks: what failed or cannot tell first, the rest folded."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.results import (
    OUTCOME_COLORS,
    OUTCOME_MARKS,
    CheckOutcome,
    CheckSeverity,
    Verdict,
    Verdicts,
)
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import choose_verb
from mlops_kit.dashboards.view_models import (
    Block,
    Color,
    DetailsView,
    TableView,
    make_status,
    make_table,
)

_MIN_OPEN_CHECKS = 4  # so many are open where all pass
_OUTCOME_WORDS = {CheckOutcome.PASSED: "passes", CheckOutcome.FAILED: "fails"}


def make_outcome_cell(verdict: Verdict) -> Html:
    """Make the cell of a check's outcome; a failure that does not block is amber."""
    outcome = verdict.outcome
    is_warning = outcome is CheckOutcome.FAILED and verdict.severity is CheckSeverity.WARNS
    color = Color.WARNING if is_warning else OUTCOME_COLORS[outcome]
    word = _OUTCOME_WORDS.get(outcome, str(outcome))
    return make_status(color, f"{OUTCOME_MARKS[outcome]} {word}")


def make_check_table(verdicts: Verdicts) -> tuple[Block, ...]:
    """Make the table of checks: serious ones and a few that pass are open, the rest folded."""
    serious = []
    passed = []
    not_applicable = []
    for verdict in Verdicts.from_verdicts(verdicts):
        if verdict.outcome is CheckOutcome.PASSED:
            passed.append(verdict)
        elif verdict.outcome is CheckOutcome.NOT_APPLICABLE:
            not_applicable.append(verdict)
        else:
            serious.append(verdict)
    ordered = [*serious, *passed, *not_applicable]
    open_count = max(_MIN_OPEN_CHECKS, len(serious) + 1)
    if len(ordered) - open_count <= 1:  # folding a single one saves no space
        return (_make_verdict_table(ordered),)
    folded = ordered[open_count:]
    details = DetailsView(_summarize_folded(folded), _make_verdict_table(folded))
    return _make_verdict_table(ordered[:open_count]), details


def _summarize_folded(folded: Sequence[Verdict]) -> Html:
    """Summarize the folded checks, which pass or are not applicable."""
    passed = sum(verdict.outcome is CheckOutcome.PASSED for verdict in folded)
    others = len(folded) - passed
    parts = []
    if passed:
        parts.append(f"{passed} more {choose_verb(passed, 'passes', 'pass')}")
    if others:
        parts.append(f"{others} not applicable")
    most_serious = CheckOutcome.PASSED if passed else CheckOutcome.NOT_APPLICABLE
    return Html("<span class={}>{}</span> {}").format(
        OUTCOME_COLORS[most_serious], OUTCOME_MARKS[most_serious], ", ".join(parts)
    )


def _make_verdict_table(verdicts: Sequence[Verdict]) -> TableView:
    """Make a table with one row per check."""
    rows = []
    for verdict in verdicts:
        outcome = make_outcome_cell(verdict)
        check = _make_check_cell(verdict)
        observed = verdict.observed or verdict.sentence
        rows.append((outcome, check, observed, verdict.limit, verdict.hint))
    headings = ("Result", "Check", "Observed", "Limit", "Hint")
    return make_table(headings, rows, [3], "Checks", "checks")


def _make_check_cell(verdict: Verdict) -> Html:
    """Make the cell of a check: its title, and the sentence of one that failed or cannot tell."""
    if not verdict.explanation:
        return Html("{}").format(verdict.title)
    return Html("{}<div class=unit>{}</div>").format(verdict.title, verdict.explanation)
