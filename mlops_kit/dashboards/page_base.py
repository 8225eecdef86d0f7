"""What the pages share: a head with the state and one sentence, a row of tabs, a panel for each."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.dashboards.rendering import Html, get_base_url, is_served
from mlops_kit.dashboards.text_formats import capitalize_sentence
from mlops_kit.dashboards.view_models import (
    FULL_WIDTH,
    Block,
    CardView,
    Color,
    PanelView,
    StatementView,
    TabsView,
    TopLineView,
    make_paragraph,
)
from mlops_kit.db.engine import open_snapshot
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_run_folders
from mlops_kit.project.run_manifest import MANIFEST_FILE
from mlops_kit.stages.column_metadata import show_column_labels

_HEAD_KEY = "head"
_MAX_BUILDS = 3  # a run that changes all the time does not keep its page from being shown
PAGE_TITLES = {"review": "Model review", "monitoring": "Monitoring"}


class PageSource(NamedTuple):
    """What a page is read from: what that is, what it should be, and how to restore it."""

    name: str
    expected: str
    hint: str


class CardContent(NamedTuple):
    """The content of a card: a note on how to read it, and its blocks."""

    note: str = ""
    blocks: tuple[Block, ...] = ()


def guard_html(title: str, build: Callable[[], Html], hint: str, span: int = FULL_WIDTH) -> Html:
    """Build a part of a page; if that fails, say what failed and what to do instead.

    The rest of the page is not affected.
    """
    try:
        return build()
    except KitError as error:
        message = error.message
        hint = error.hint
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return Html(_make_failed_card(title, message, hint, span))


def _make_failed_card(title: str, message: str, hint: str, span: int) -> CardView:
    """Make the card that says that a part could not be built."""
    failure = Html("<b class=watch>◆ This card cannot be shown.</b> {}.").format(
        capitalize_sentence(message)
    )
    blocks = [make_paragraph(failure)]
    if hint:
        blocks.append(make_paragraph(Html("Hint: <code>{}</code>").format(hint)))
    return CardView(title, "", tuple(blocks), span)


def build_card(
    title: str, build: Callable[[], CardContent], hint: str, span: int = FULL_WIDTH
) -> Html:
    """Build a card; if that fails, the card says so."""

    def render_card() -> Html:
        content = build()
        return Html(CardView(title, content.note, content.blocks, span))

    return guard_html(title, render_card, hint, span)


def make_run_link(project: Project, file: Path | None, path: Path, text: str) -> Html | str:
    """Make a link to a file of a run.

    It leads through the server, or is relative to where the static export will be; in a notebook
    it is the text alone.
    """
    if is_served():
        relative = path.relative_to(project.reports_folder).as_posix()
        return Html('<a href="{}reports/{}">{}</a>').format(get_base_url(), relative, text)
    if file is None:
        return text
    address = os.path.relpath(path, file.parent).replace("\\", "/")
    return Html('<a href="{}">{}</a>').format(address, text)


def _read_run_states(project: Project) -> dict[Path, int]:
    """Read when the manifest of each run was changed last."""
    states = {}
    for folder in list_run_folders(project.reports_folder):
        manifest = folder / MANIFEST_FILE
        with suppress(FileNotFoundError):  # the run is being removed
            states[manifest] = manifest.stat().st_mtime_ns
    return states


class DashboardPage(ABC):
    """A page; each part is HTML that a notebook shows, and one that fails affects no other.

    All parts are built at once, from one state of the database and of the runs: a page that was
    built while a run or the watch went on would contradict itself. If a run changed meanwhile, the
    page is built again.

    Parameters
    ----------
    file : Path, optional
        Where the page will be as a static export; links to the runs' files are relative to it.

    Attributes
    ----------
    name : str
        Its name in ``PAGE_TITLES``.
    tabs : mapping
        Titles of the page's own tabs by key; the first is open.
    plugin_tabs : mapping
        Titles of the tabs that plugins add.
    hint : str
        The command that fixes most failures.
    error : KitError or None
        Why the page cannot be read.
    is_ready : bool
        Whether there is anything to show.
    """

    name: ClassVar[str]
    tabs: ClassVar[Mapping[str, str]]
    hint: ClassVar[str]
    source: ClassVar[PageSource]

    def __init__(self, project: Project, file: Path | None = None) -> None:
        self.project = project
        show_column_labels(project)
        self.file = file
        self.is_ready = False
        self.plugin_tabs = self.list_plugin_tabs()
        self.error: KitError | None = None
        self._parts: dict[str, Html] = {}
        for _ in range(_MAX_BUILDS):
            run_states = _read_run_states(project)
            self._read_and_build()
            if _read_run_states(project) == run_states:
                break

    def _read_and_build(self) -> None:
        """Read everything and build all parts, from one state of the database."""
        self.error = None
        try:
            with open_snapshot(self.project):
                self.is_ready = self.read()
                self._parts = self.build_parts() if self.is_ready else {}
        except KitError as error:
            self.error = error
        except (sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            self.error = KitError(
                f"{self.source.name} cannot be read: {lines[0]}",
                self.source.expected,
                self.source.hint,
            )

    @property
    def title(self) -> str:
        """The page's title."""
        return PAGE_TITLES[self.name]

    @property
    def subject(self) -> str:
        """What the page is about."""
        return f"{self.project.config.name} · {self.project.config.target}"

    @abstractmethod
    def read(self) -> bool:
        """Read what the page begins with; return whether there is anything to show."""

    @abstractmethod
    def build_ready_head(self) -> Html:
        """Build the head of a page that has something to show, without the tabs."""

    @abstractmethod
    def build_empty_statement(self) -> StatementView:
        """Build the statement of a page that has nothing to show yet: what to run."""

    @abstractmethod
    def build_tab(self, key: str) -> Html:
        """Build what a tab shows."""

    @abstractmethod
    def list_plugin_tabs(self) -> Mapping[str, str]:
        """List the tabs that plugins add: titles by key."""

    def build_parts(self) -> dict[str, Html]:
        """Build the head and what each tab opens, by key."""
        parts = {_HEAD_KEY: self.build_ready_head()}
        for key in self.all_tabs:
            parts[key] = self._build_panel(key)
        return parts

    def head(self) -> Html:
        """Return the state, the sentence, the decisions and the row of tabs."""
        top_line = TopLineView(self.title, self.subject, shows_visitor=is_served())
        if self.error is not None:
            return Html().join([top_line, self._build_error_statement(self.error)])
        if not self.is_ready:
            return Html().join([top_line, self.build_empty_statement()])
        return Html().join([self._parts[_HEAD_KEY], TabsView.from_titles(self.all_tabs)])

    def _build_error_statement(self, error: KitError) -> StatementView:
        """Build the statement of a page that cannot be read."""
        return make_empty_statement(
            f"{capitalize_sentence(error.message)}.",
            f"Expected: {error.expected}. Hint:",
            error.hint,
        )

    def panel(self, key: str) -> Html:
        """Return what a tab opens; nothing where there is nothing to show."""
        if not self.is_ready:
            return Html()
        return self._parts[key]

    def _build_panel(self, key: str) -> Html:
        """Build what a tab opens."""
        content = guard_html(self.all_tabs[key], lambda: self.build_tab(key), self.hint)
        is_first = key == next(iter(self.tabs))
        return Html(PanelView(key, content, is_hidden=is_served() and not is_first))

    @property
    def all_tabs(self) -> dict[str, str]:
        """Titles of all tabs by key, those of plugins last."""
        return {**self.tabs, **self.plugin_tabs}

    def plugin_panels(self) -> Html:
        """Return what the tabs of plugins open; nothing if there are none."""
        return Html().join(self.panel(key) for key in self.plugin_tabs)

    def html(self) -> Html:
        """Build the whole page."""
        return Html().join([self.head(), *(self.panel(key) for key in self.all_tabs)])


def make_empty_statement(sentence: str, detail: str, command: str) -> StatementView:
    """Make the statement of a page with nothing to show: what to run."""
    text = Html("{} <code>{}</code>").format(detail, command)
    return StatementView(Color.NEUTRAL, "○ Nothing yet", sentence, text)
