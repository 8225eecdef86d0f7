"""What serves now: the approved champion, followed without a restart, and the history behind its features.

The row of a promotion is the truth. Another version takes over only once it is loaded, its hash is the
approved one's, and it has answered for the newest rows of the source with features that are whole; until
then, and if it cannot, the one before goes on serving.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from threadpoolctl import threadpool_limits

from mlops_kit import decisions, features, sources, stage, store, tracking
from mlops_kit.config import Project
from mlops_kit.database import Promotion, now
from mlops_kit.deploy import batch, schema
from mlops_kit.errors import KitError, RunFailed
from mlops_kit.features.offline import differing
from mlops_kit.late import pd
from mlops_kit.results import plain

log = logging.getLogger(__name__)
GOLDEN = 32  # newest rows on which a version shows that it can answer


@dataclass(frozen=True)
class Served:
    """A version that serves, ready to answer; ``promised`` is what its review measured."""

    promotion: Promotion
    facts: dict[str, Any]
    model: Any
    schema: schema.Schema
    promised: list[dict[str, Any]]
    since: str

    @property
    def version(self) -> str:
        """The version's number."""
        return self.promotion.version


class Follower:
    """Looks after what serves, in two threads of its own: ``look`` follows the champion, ``reread`` the source.

    ``troubles`` says in words what does not go well, by what it is about.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.source = project, sources.History(project)
        self.served: Served | None = None
        self.history: pd.DataFrame | None = None
        self.troubles: dict[str, str] = {}
        self.failed, self.tried = 0, 0.0
        self.mark: Any = None
        self.read, self.looked, self.over = threading.Event(), threading.Event(), threading.Event()

    def present(self) -> tuple[Served, pd.DataFrame] | None:
        """The version that serves and the history, or None."""
        served, history = self.served, self.history
        return None if served is None or history is None else (served, history)

    def waits(self) -> str:
        """Why nothing serves yet."""
        if not self.looked.is_set():
            return "it is being loaded"
        return (
            self.troubles.get("load")
            or self.troubles.get("following")
            or f"{self.project.config.name} has no champion; expected a run whose review passed and was approved"
        )

    def start(self) -> None:
        """Begin to follow."""
        serve = self.project.config.serve
        for about, work, every, first in (
            ("source", self.reread, serve.refresh, self.read),
            ("following", self.look, serve.follow, self.looked),
        ):
            threading.Thread(
                target=self.loop,
                args=(about, work, every.total_seconds(), first),
                name=about,
                daemon=True,
            ).start()

    def close(self) -> None:
        """Follow no more."""
        for event in (self.over, self.read, self.looked):
            event.set()

    def loop(
        self, about: str, work: Callable[[], None], every: float, first: threading.Event
    ) -> None:
        """Do something now and then; the first time is marked."""
        while not self.over.is_set():
            self.tries(about, work)
            first.set()
            self.over.wait(every)

    def tries(self, about: str, work: Callable[[], None]) -> bool:
        """Whether something went well; what went wrong is remembered, and said once."""
        try:
            work()
        except (
            Exception
        ) as error:  # whatever a registry, a source or a version raises, what serves goes on
            said = told(error)
            if self.troubles.get(about) != said:
                log.warning("%s: %s", about, said)
            self.troubles[about] = said
            return False
        self.troubles.pop(about, None)
        return True

    def reread(self) -> None:
        """Read the source again if it has changed."""
        mark = self.source.files()
        if self.history is None or mark is None or mark != self.mark:
            self.history, self.mark = sources.read(self.project), mark

    def look(self) -> None:
        """Let the promoted version serve, if another one was promoted; see where MLflow's alias points."""
        self.read.wait()
        promotion = decisions.current(self.project)
        serving = self.served.promotion.number if self.served else 0
        if promotion is not None and promotion.number != serving and self.due():
            self.tried = time.monotonic()
            self.failed += not self.tries("load", lambda: self.load(promotion))
        if note := tracking.alias_note(self.project):
            self.troubles["alias"] = note
        else:
            self.troubles.pop("alias", None)

    def due(self) -> bool:
        """Whether to try to load: at once, and after a failure not sooner than ``serve.refresh``."""
        return (
            "load" not in self.troubles
            or time.monotonic() - self.tried >= self.project.config.serve.refresh.total_seconds()
        )

    def load(self, promotion: Promotion) -> None:
        """Let a version serve once it was checked and has answered.

        Raises
        ------
        RunFailed
            If it is not the approved one any more, or does not stand the rows of ``stand``.
        """
        if self.history is None:
            raise RunFailed(f"the source was not read: {self.troubles.get('source', 'not yet')}")
        facts, model = tracking.serving(self.project)
        if facts["version"] != promotion.version:
            raise RunFailed(f"version {facts['version']} was promoted in between")
        asked = schema.compiled(
            self.project,
            self.history,
            batch.wanted(self.project, (c for c in self.history.columns if c != sources.ROW)),
        )
        made = Served(promotion, facts, model, asked, promised(self.project, facts), now())
        with threadpool_limits(1):
            stand(self.project, made, self.history)
        self.served = made


def told(error: Exception) -> str:
    """An error in words."""
    return error.what if isinstance(error, KitError) else f"{type(error).__name__}: {error}"


def promised(project: Project, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """What the review of a version measured: metric, value, interval; nothing where its run is gone."""
    run = project.reports / facts["run"]
    known = stage.artifacts(run)
    return cast(
        list[dict[str, Any]],
        plain(
            store.read_artifact(run, known["metrics"])
            .data[["metric", "value", "low", "high"]]
            .to_dict("records")
        )
        if "metrics" in known
        else [],
    )


def newest(project: Project, history: pd.DataFrame, count: int) -> pd.DataFrame:
    """The newest rows of the source, as an asker would have them."""
    config = project.config
    late = [c for c in (config.target, *config.known_later) if c in history]
    kept = history[history[config.time].notna()] if config.time else history
    return kept.tail(count).drop(columns=late).reset_index(drop=True)


def stand(project: Project, served: Served, history: pd.DataFrame) -> None:
    """Let a version answer for the newest rows of the source, so that it is warm, and with ``look_back`` see that nothing is cut off.

    Raises
    ------
    RunFailed
        If its answers are no numbers, or its features look further back than ``look_back``.
    """
    config, rows = project.config, newest(project, history, GOLDEN)
    out, inputs = batch.answer(project, served.model, served.facts, rows, history)
    if not out["score"].abs().lt(float("inf")).all():
        raise RunFailed(
            f"version {served.version} gives no number for the newest rows",
            "finite answers",
            "mlops run",
        )
    if config.look_back is None or config.time is None or not config.features:
        return
    whole = features.build(
        project, batch.as_trained(project, rows)[0], batch.as_trained(project, history)[0]
    )
    if cut := [c for c in served.facts["features"] if differing(whole[c], inputs[c])]:
        raise RunFailed(
            f"these features of the newest rows change with look_back: {', '.join(cut)}",
            "the same as over all the history",
            "a longer look_back in mlops.yaml",
        )
