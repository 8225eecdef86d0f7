"""What columns are called for readers: label, unit and description, by the column's name.

A process shows one project. ``use_column_labels`` sets its labels; whatever shows a column asks
``get_column_label``, so that tables, charts, reports and pages agree.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ColumnLabel:
    """How a column is shown.

    Attributes
    ----------
    name : str
        The column's name.
    label : str
        What it is called; empty: its name.
    unit : str
        The unit of its values.
    description : str
        What it is, in a sentence.
    """

    name: str
    label: str = ""
    unit: str = ""
    description: str = ""

    @property
    def text(self) -> str:
        """The label with the unit.

        >>> ColumnLabel("dep_delay", "Departure delay", "min").text
        'Departure delay (min)'
        >>> ColumnLabel("dep_delay").text
        'dep_delay'
        """
        text = self.label or self.name
        return f"{text} ({self.unit})" if self.unit else text

    @property
    def tooltip(self) -> str:
        """What is shown on hover: the name, where the text is another, and the description."""
        parts = [self.name] if self.text != self.name else []
        if self.description:
            parts.append(self.description)
        return ": ".join(parts)

    def to_html(self) -> str:
        """Return the text as escaped HTML, with the tooltip."""
        text = html.escape(self.text)
        if not self.tooltip:
            return text
        return f'<span title="{html.escape(self.tooltip, quote=True)}">{text}</span>'


# Columns of results whose values are names of columns.
NAME_COLUMNS = frozenset({"column", "feature"})
_labels_in_use: dict[str, ColumnLabel] = {}


def use_column_labels(labels: Mapping[str, ColumnLabel]) -> None:
    """Show columns by these labels from now on."""
    _labels_in_use.clear()
    _labels_in_use.update(labels)


def get_column_label(name: str) -> ColumnLabel:
    """Return how a column is shown."""
    return _labels_in_use.get(name, ColumnLabel(name))
