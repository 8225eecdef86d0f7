"""View models: frozen records in which every text and number of a page is decided.

The templates show them and contain no rules. Each class names the macro of
``templates/dashboards/components.html`` that shows it, and can be put into HTML like a text.

To add a component: 1. a class here, 2. a macro of the name ``macro`` in that template, 3. its
style in ``templates/voila/templates/mlops/style.css``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from markupsafe import Markup

from mlops_kit.core.column_labels import get_column_label
from mlops_kit.core.formatting import find_name_columns, format_cell_html, label_sentence_html
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import KeyNumber, Table
from mlops_kit.dashboards.rendering import Html, render_macro
from mlops_kit.dashboards.text_formats import format_count, format_heading

FULL_WIDTH = 12  # columns of the page's grid
_MAX_TABLE_ROWS = 40


class Color(StrEnum):
    """The colors of the style sheet, by their CSS names."""

    GOOD = "good"
    WARNING = "watch"
    CRITICAL = "act"
    MUTED = "soft"
    NEUTRAL = "faint"
    PRIMARY = "blue"
    NONE = ""


class View:
    """Base of view models: ``macro`` renders it."""

    macro: ClassVar[str]

    def __html__(self) -> str:
        return render_macro(self.macro, self)

    def __str__(self) -> str:
        return self.__html__()


Block = Html | View  # what a card contains


@dataclass(frozen=True)
class TableCell:
    """A cell of a table; numbers are aligned to the right."""

    content: Html | str
    is_number: bool = False


@dataclass(frozen=True)
class TableView(View):
    """A table that scrolls within its card; ``label`` names it to a screen reader."""

    macro: ClassVar[str] = "table"
    head: tuple[TableCell, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    label: str
    css_class: str = ""


@dataclass(frozen=True)
class PairsView(View):
    """A table of names and values without a head."""

    macro: ClassVar[str] = "pairs"
    rows: tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class FactRow:
    """A row of short facts: its head and its cells."""

    head: Html | str
    cells: tuple[Html, ...]
    head_class: str = ""


@dataclass(frozen=True)
class FactsView(View):
    """A table of short facts without a head."""

    macro: ClassVar[str] = "facts"
    rows: tuple[FactRow, ...]


@dataclass(frozen=True)
class DetailsView(View):
    """Content that is folded under a summary."""

    macro: ClassVar[str] = "details"
    summary: Html | str
    content: Block


@dataclass(frozen=True)
class KeyNumberView(View):
    """A number that matters, shown large, with its details below."""

    macro: ClassVar[str] = "key_number"
    title: str
    value: str
    details: tuple[str, ...]

    @classmethod
    def from_key_number(cls, number: KeyNumber) -> KeyNumberView:
        """Make the view of a stored key number."""
        return cls(number.title, number.value, tuple(number.details))


@dataclass(frozen=True)
class CardView(View):
    """A card: a heading, a note on how to read it, and its content."""

    macro: ClassVar[str] = "card"
    title: str
    note: str = ""
    blocks: tuple[Block, ...] = ()
    span: int = FULL_WIDTH


@dataclass(frozen=True)
class GridView(View):
    """Cards that stand in a row where the screen is wide enough."""

    macro: ClassVar[str] = "grid"
    cards: tuple[Block, ...]


@dataclass(frozen=True)
class SelectOption:
    """An option of a list to choose from."""

    value: str
    text: str
    is_selected: bool = False


@dataclass(frozen=True)
class SelectView(View):
    """A list to choose from; ``group`` names the parts of the page that a choice shows."""

    macro: ClassVar[str] = "select"
    name: str
    label: str
    options: tuple[SelectOption, ...]
    group: str = ""


@dataclass(frozen=True)
class ChooserView(View):
    """Lists to choose from; ``is_submitted`` loads the page again with the choice."""

    macro: ClassVar[str] = "chooser"
    selects: tuple[SelectView, ...]
    is_submitted: bool = False


@dataclass(frozen=True)
class ChoicePartView(View):
    """A part of the page that is shown for one choice of a group's lists."""

    macro: ClassVar[str] = "choice_part"
    group: str
    value: str
    sentence: Html
    table: TableView


@dataclass(frozen=True)
class FrameView(View):
    """A stored document in a frame of its own that runs no script."""

    macro: ClassVar[str] = "frame"
    title: str
    document: str


@dataclass(frozen=True)
class ActionView:
    """A decision that a person can take on the page: a button and its dialog.

    Attributes
    ----------
    payload : str
        What the page sends besides the reason, as JSON.
    blocked_reason : str
        Why nobody can take it now; empty if it can be taken.
    incidents : tuple of SelectOption
        The incidents to choose from, where it is about one of them.
    """

    name: str
    label: str
    title: str
    text: str
    submit_label: str
    payload: str = "{}"
    blocked_reason: str = ""
    is_primary: bool = False
    incidents: tuple[SelectOption, ...] = ()


@dataclass(frozen=True)
class StatementView(View):
    """The first thing on a page: the state, one sentence, its details, and the decisions."""

    macro: ClassVar[str] = "statement"
    color: str
    status: str
    sentence: Html | str
    detail: Html | str = ""
    actions: tuple[ActionView, ...] = ()


@dataclass(frozen=True)
class TopLineView(View):
    """The line above everything: which page this is, of what, and who looks at it."""

    macro: ClassVar[str] = "top_line"
    title: str
    subject: Html | str
    right: Html | str = ""
    shows_visitor: bool = False


@dataclass(frozen=True)
class Tab:
    """A tab: the id of the panel that it opens, and its title."""

    key: str
    title: str
    is_selected: bool

    @property
    def tab_index(self) -> int:
        """0 for the tab that the keyboard reaches; arrow keys lead to the others."""
        return 0 if self.is_selected else -1


@dataclass(frozen=True)
class TabsView(View):
    """The row of tabs, of which the first is selected."""

    macro: ClassVar[str] = "tabs"
    tabs: tuple[Tab, ...]

    @classmethod
    def from_titles(cls, titles: Mapping[str, str]) -> TabsView:
        """Make the row of tabs from their titles by key."""
        tabs: list[Tab] = []
        for key, title in titles.items():
            tabs.append(Tab(key, title, is_selected=not tabs))
        return cls(tuple(tabs))


@dataclass(frozen=True)
class PanelView(View):
    """What a tab opens."""

    macro: ClassVar[str] = "panel"
    key: str
    content: Block
    is_hidden: bool


@dataclass(frozen=True)
class StripView(View):
    """Short facts below the statement; ``has_server_note`` leaves space for the server's note."""

    macro: ClassVar[str] = "strip"
    facts: tuple[Html, ...]
    has_server_note: bool


@dataclass(frozen=True)
class JsonDataView(View):
    """Data for the page's script; no text in it can end the element."""

    macro: ClassVar[str] = "json_data"
    element_id: str
    data: dict[str, Any]


def format_cell(value: object) -> Html:
    """Format a value of a table; HTML and views are kept as they are."""
    if isinstance(value, View | Markup):
        return Html(value)
    return Html(format_cell_html(value))


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    number_columns: Iterable[int] = (),
    label: str = "",
    css_class: str = "",
) -> TableView:
    """Make a table; the columns of numbers are named by their positions."""
    numbers = set(number_columns)
    cells = []
    for row in rows:
        row_cells = [
            TableCell(format_cell(value), position in numbers) for position, value in enumerate(row)
        ]
        cells.append(tuple(row_cells))
    head = [TableCell(heading, position in numbers) for position, heading in enumerate(headings)]
    return TableView(tuple(head), tuple(cells), label or ", ".join(headings), css_class)


def make_optional_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    number_columns: Iterable[int] = (),
    label: str = "",
) -> tuple[TableView, ...]:
    """Make a table, or nothing if it would have no rows."""
    table = make_table(headings, rows, number_columns, label)
    return (table,) if table.rows else ()


def make_column_name(name: object) -> Html:
    """Make the name of a column as readers see it: its label, with the name on hover."""
    return Html(get_column_label(str(name)).to_html())


def make_frame_table(data: pd.DataFrame) -> tuple[Block, ...]:
    """Make the table of a data frame; what is beyond the first rows is counted."""
    numbers = []
    for position, dtype in enumerate(data.dtypes):
        if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
            numbers.append(position)
    headings = [format_heading(str(column)) for column in data.columns]
    name_positions = find_name_columns(data)
    rows = []
    for values in data.head(_MAX_TABLE_ROWS).itertuples(index=False, name=None):
        cells = list(values)
        for position in name_positions:
            cells[position] = make_column_name(values[position])
        rows.append(cells)
    table = make_table(headings, rows, numbers)
    hidden_rows = len(data) - _MAX_TABLE_ROWS
    if hidden_rows <= 0:
        return (table,)
    return table, make_note(f"… and {format_count(hidden_rows, 'more row')}")


def make_stored_table(table: Table) -> tuple[Block, ...]:
    """Make the view of a stored table: its visible columns, units and notes.

    A table without rows is its notes; the sentence beside it says why.
    """
    if table.data.empty:
        return make_notes(table)
    data = table.data[list(table.visible_columns)] if table.visible_columns else table.data
    headings = {column: f"{column} ({unit})" for column, unit in table.units.items()}
    return *make_frame_table(data.rename(columns=headings)), *make_notes(table)


def make_sentence(table: Table) -> Html:
    """Make the sentence of a stored table, with the columns that it names as readers see them."""
    return Html(label_sentence_html(table.sentence, table.data))


def make_notes(table: Table) -> tuple[Html, ...]:
    """Make the notes of a stored table."""
    return tuple(make_note(note) for note in table.notes)


def make_note(text: str) -> Html:
    """Make a small note."""
    return Html("<p class=note>{}</p>").format(text)


def make_paragraph(text: Html | str) -> Html:
    """Make a paragraph."""
    return Html("<p>{}</p>").format(text)


def make_status(color: str, text: str) -> Html:
    """Make a status in shape, word and color."""
    return Html('<span class="st {}">{}</span>').format(color, text)


def make_day_cell(text: str) -> Html:
    """Make the cell of a time or a period, which is not broken over two lines."""
    return Html("<span class=day>{}</span>").format(text)


def make_titled_cell(title: str, text: str) -> Html:
    """Make a cell with a title in bold and a text below."""
    return Html("<b>{}</b><div class=unit>{}</div>").format(title, text)
