"""What columns are called for readers: label, unit and description, by the column's name.

A process shows one project. ``use_column_labels`` sets its labels; whatever shows a column asks
``get_column_label``, so that tables, charts, reports and pages agree.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
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


# Columns of results whose values are names of columns, or slices such as "origin = JFK".
NAME_COLUMNS = frozenset({"column", "feature", "slice"})
_SLICE_SEPARATOR = " = "
_labels_in_use: dict[str, ColumnLabel] = {}


def use_column_labels(labels: Mapping[str, ColumnLabel]) -> None:
    """Show columns by these labels from now on."""
    _labels_in_use.clear()
    _labels_in_use.update(labels)


def get_column_label(name: str) -> ColumnLabel:
    """Return how a column is shown, or a slice such as ``origin = JFK``."""
    if name in _labels_in_use:
        return _labels_in_use[name]
    column, separator, group = name.partition(_SLICE_SEPARATOR)
    label = _labels_in_use.get(column)
    if not separator or label is None:
        return ColumnLabel(name)
    text = f"{label.text}{separator}{group}"
    return ColumnLabel(name, text, description=label.description)


def list_labeled_names() -> list[str]:
    """List the columns that have a label."""
    return [name for name, label in _labels_in_use.items() if label.text != name]


def label_names(text: str, names: Iterable[str]) -> str:
    """Return a text in which columns and slices are called by their labels.

    Stored sentences keep the names, which do not change when a label does.

    Parameters
    ----------
    names : iterable of str
        The columns and slices that the text may name, as whole words.

    Examples
    --------
    >>> use_column_labels({"dep_delay": ColumnLabel("dep_delay", "Departure delay")})
    >>> label_names("dep_delay has drifted", ["dep_delay"])
    'Departure delay has drifted'
    >>> use_column_labels({})
    """
    parts = _split_at_names(text, names)
    return "".join(part.text if isinstance(part, ColumnLabel) else part for part in parts)


def label_names_html(text: str, names: Iterable[str]) -> str:
    """Return a text as ``label_names`` does, as escaped HTML with the names on hover."""
    shown = []
    for part in _split_at_names(text, names):
        if isinstance(part, ColumnLabel):
            shown.append(part.to_html())
        else:
            shown.append(html.escape(part))
    return "".join(shown)


def _split_at_names(text: str, names: Iterable[str]) -> list[str | ColumnLabel]:
    """Split a text into the labels of columns and slices, and the texts between them."""
    labels = {name: get_column_label(name) for name in names}
    labeled = [name for name in labels if labels[name].text != name]
    if not labeled:
        return [text]
    # A slice comes before the column that its name begins with.
    longest_first = sorted(labeled, key=len, reverse=True)
    pattern = "|".join(re.escape(name) for name in longest_first)
    parts = re.split(rf"(?<!\w)({pattern})(?!\w)", text)
    return [labels[part] if position % 2 else part for position, part in enumerate(parts)]
