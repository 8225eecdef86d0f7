"""The result of a replay, for a terminal, a notebook and a file."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.formatting import render_table_html
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Figure, Result, Table
from mlops_kit.core.serialization import to_json_value

COST_COLUMNS = (
    "retraining cost",
    "policy",
    "cost",
    "regret",
    "score",
    "retrainings",
    "promotions",
    "alerts",
    "false alarms",
)
SCORE_COLUMNS = ("window", "policy", "score")
DECISION_COLUMNS = ("policy", "decided", "decision", "outcome", "reason")


@dataclass(frozen=True, repr=False)
class PolicyComparison(Result):
    """Retraining policies on the project's own history.

    Attributes
    ----------
    title : str
        The heading.
    sentence : str
        The recommendation.
    costs : Table
        Cost, regret against the oracle, score, retrainings and alerts of each policy, at three
        ratios of costs.
    choices : Table
        Which policy each ratio recommends, with the interval of the saving.
    scores : Table
        The headline metric of each policy in each window.
    decisions : Table
        The decisions to retrain, and those that a guard blocked.
    chart : Figure
        The scores as lines.
    policy_yaml : str
        The recommended policy, to paste into ``mlops.yaml``.
    notes : tuple of str
        What the replay simplifies, and what it was made of.
    schema_version : int
        Version of this record.
    """

    title: str
    sentence: str
    costs: Table
    choices: Table
    scores: Table
    decisions: Table
    chart: Figure
    policy_yaml: str
    notes: tuple[str, ...] = ()
    schema_version: int = 1

    def to_frame(self) -> pd.DataFrame:
        """Return the costs."""
        return self.costs.data

    def to_records(self) -> dict[str, Any]:
        """Convert to plain values: the tables as lists of records."""
        tables = {
            "costs": self.costs,
            "choices": self.choices,
            "scores": self.scores,
            "decisions": self.decisions,
        }
        records: dict[str, Any] = {
            "schema_version": self.schema_version,
            "recommendation": self.sentence,
            "policy_yaml": self.policy_yaml,
            "notes": list(self.notes),
        }
        for name, table in tables.items():
            records[name] = to_json_value(table.data.to_dict("records"))
        return records

    def render_page(self) -> str:
        """Render the result as an HTML page."""
        title = html.escape(self.title)
        head = f"<meta charset=utf-8><title>{title}</title>"
        return f"<!doctype html><html lang=en><head>{head}</head><body>{self._repr_html_()}</body>"

    def _repr_html_(self) -> str:
        notes = [f"<p class=note>{html.escape(note)}</p>" for note in self.notes]
        parts = [
            f"<h2>{html.escape(self.title)}</h2>",
            f"<p><b>{html.escape(self.sentence)}</b></p>",
            f"<pre>{html.escape(self.policy_yaml)}</pre>",
            self.costs._repr_html_(),
            self.choices._repr_html_(),
            self.chart._repr_html_(),
            f"<h3>{html.escape(self.decisions.title)}</h3>",
            render_table_html(self.decisions.data),
            *notes,
        ]
        return "".join(parts)
