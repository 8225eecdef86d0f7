"""What the pages share: a head with the state and one sentence, a row of tabs, a panel for each."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.dashboards import PAGES
from mlops_kit.dashboards.rendering import Html, guarded, part, served
from mlops_kit.project.loader import Project


class Page:
    """A page; each part is HTML that a notebook shows, and one that fails takes no other along.

    A subclass gives its name (in ``PAGES``, and of its template), its tabs, of which the first stands open, the
    command that mends most, and what its page is read from: what that is, what it should be, how to mend it.

    Parameters
    ----------
    file : Path, optional
        Where the page will stand as a file; links to the runs' files then lead from there.
    """

    name: ClassVar[str]
    tabs: ClassVar[dict[str, str]]
    again: ClassVar[str]
    source: ClassVar[tuple[str, str, str]]

    def __init__(self, project: Project, file: Path | None = None) -> None:
        self.project, self.config, self.file = project, project.config, file
        self.zone, self.ready = ZoneInfo(project.config.timezone), False
        self.title, self.about = PAGES[self.name], f"{self.config.name} · {self.config.target}"
        self.wrong: KitError | None = None
        try:
            self.ready = self.read()
        except KitError as error:
            self.wrong = error
        except (sa.exc.SQLAlchemyError, OSError, ValueError) as error:
            self.wrong = KitError(
                f"{self.source[0]} cannot be read: {str(error).splitlines()[0]}", *self.source[1:]
            )

    def read(self) -> bool:
        """Read what the page begins with; whether there is anything to show."""
        raise NotImplementedError

    def head(self) -> Html:
        """The state, the sentence, what one can do, and the row of tabs; with nothing to show, what to run."""
        return part(self.name, "head", self)

    def panel(self, key: str) -> Html:
        """What a tab shows; nothing where there is nothing to show."""
        if not self.ready:
            return Html()
        body = guarded(
            self.tabs[key], cure=self.again, caller=lambda: part(self.name, f"{key}_tab", self)
        )
        return part("parts", "panel", key, body, hidden=served() and key != next(iter(self.tabs)))

    def html(self) -> Html:
        """The whole page."""
        return Html().join([self.head(), *map(self.panel, self.tabs)])
