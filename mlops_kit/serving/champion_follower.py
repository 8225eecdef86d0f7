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

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import to_json_value
from mlops_kit.data import columns, features, source
from mlops_kit.data.features.build import count_differences
from mlops_kit.db import approvals
from mlops_kit.db.tables import PromotionRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project import artifacts, run_folder
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring, versions
from mlops_kit.serving import request_schema

_logger = logging.getLogger(__name__)
_WARM_UP_ROWS = 32  # newest rows on which a version shows that it can answer


@dataclass(frozen=True)
class ServedVersion:
    """A version that serves, ready to answer; ``promised`` is what its review measured."""

    promotion: PromotionRecord
    facts: versions.ModelVersion
    model: Any
    schema: request_schema.RequestSchema
    reference_performance: list[dict[str, Any]]
    serving_since: str

    @property
    def version(self) -> str:
        """The version's number."""
        return self.promotion.version


class ChampionFollower:
    """Looks after what serves, in two threads of its own: ``look`` follows the champion, ``reread`` the source.

    ``troubles`` says in words what does not go well, by what it is about.
    """

    def __init__(self, project: Project) -> None:
        self.project, self.source = project, source.SourceHistory(project)
        self.served: ServedVersion | None = None
        self.history: pd.DataFrame | None = None
        self.problems: dict[str, str] = {}
        self.failed_loads, self.last_load_attempt = 0, 0.0
        self.source_version: Any = None
        self.source_read, self.champion_checked, self.stop_requested = (
            threading.Event(),
            threading.Event(),
            threading.Event(),
        )

    def get_served(self) -> tuple[ServedVersion, pd.DataFrame] | None:
        """The version that serves and the history, or None."""
        served, history = self.served, self.history
        return None if served is None or history is None else (served, history)

    def explain_wait(self) -> str:
        """Why nothing serves yet."""
        if not self.champion_checked.is_set():
            return "it is being loaded"
        return (
            self.problems.get("load")
            or self.problems.get("following")
            or f"{self.project.config.name} has no champion; expected a run whose review passed and was approved"
        )

    def start(self) -> None:
        """Begin to follow."""
        serve = self.project.config.serve
        for about, work, every, first in (
            ("source", self.refresh_source, serve.history_refresh_interval, self.source_read),
            (
                "following",
                self.follow_champion,
                serve.champion_check_interval,
                self.champion_checked,
            ),
        ):
            threading.Thread(
                target=self.run_periodically,
                args=(about, work, every.total_seconds(), first),
                name=about,
                daemon=True,
            ).start()

    def close(self) -> None:
        """Follow no more."""
        for event in (self.stop_requested, self.source_read, self.champion_checked):
            event.set()

    def run_periodically(
        self, about: str, work: Callable[[], None], every: float, first: threading.Event
    ) -> None:
        """Do something now and then; the first time is marked."""
        while not self.stop_requested.is_set():
            self.try_task(about, work)
            first.set()
            self.stop_requested.wait(every)

    def try_task(self, about: str, work: Callable[[], None]) -> bool:
        """Whether something went well; what went wrong is remembered, and said once."""
        try:
            work()
        except (
            Exception
        ) as error:  # whatever a registry, a source or a version raises, what serves goes on
            said = describe_exception(error)
            if self.problems.get(about) != said:
                _logger.warning("%s: %s", about, said)
            self.problems[about] = said
            return False
        self.problems.pop(about, None)
        return True

    def refresh_source(self) -> None:
        """Read the source again if it has changed."""
        mark = self.source.describe_files()
        if self.history is None or mark is None or mark != self.source_version:
            self.history, self.source_version = source.read_source(self.project), mark

    def follow_champion(self) -> None:
        """Let the promoted version serve, if another one was promoted; see where MLflow's alias points."""
        self.source_read.wait()
        promotion = approvals.get_current_promotion(self.project)
        serving = self.served.promotion.number if self.served else 0
        if promotion is not None and promotion.number != serving and self.is_load_due():
            self.last_load_attempt = time.monotonic()
            self.failed_loads += not self.try_task("load", lambda: self.load_version(promotion))
        if note := versions.check_champion_alias(self.project):
            self.problems["alias"] = note
        else:
            self.problems.pop("alias", None)

    def is_load_due(self) -> bool:
        """Whether to try to load: at once, and after a failure not sooner than ``serve.refresh``."""
        return (
            "load" not in self.problems
            or time.monotonic() - self.last_load_attempt
            >= self.project.config.serve.history_refresh_interval.total_seconds()
        )

    def load_version(self, promotion: PromotionRecord) -> None:
        """Let a version serve once it was checked and has answered.

        Raises
        ------
        RunFailed
            If it is not the approved one any more, or does not stand the rows of ``stand``.
        """
        if self.history is None:
            raise RunFailedError(
                f"the source was not read: {self.problems.get('source', 'not yet')}"
            )
        facts, model = versions.load_champion(self.project)
        if facts.version != promotion.version:
            raise RunFailedError(f"version {facts.version} was promoted in between")
        asked = request_schema.compile_request_schema(
            self.project,
            self.history,
            scoring.list_required_columns(
                self.project, (c for c in self.history.columns if c != columns.ROW_ID)
            ),
        )
        made = ServedVersion(
            promotion,
            facts,
            model,
            asked,
            read_reference_performance(self.project, facts),
            current_timestamp(),
        )
        with threadpool_limits(1):
            verify_served_version(self.project, made, self.history)
        self.served = made


def describe_exception(error: Exception) -> str:
    """An error in words."""
    return error.message if isinstance(error, KitError) else f"{type(error).__name__}: {error}"


def read_reference_performance(
    project: Project, facts: versions.ModelVersion
) -> list[dict[str, Any]]:
    """What the review of a version measured: metric, value, interval; nothing where its run is gone."""
    run = project.reports_folder / facts.run
    known = run_folder.list_artifacts(run)
    return cast(
        list[dict[str, Any]],
        to_json_value(
            artifacts.read_artifact(run, known["metrics"])
            .data[["metric", "value", "low", "high"]]
            .to_dict("records")
        )
        if "metrics" in known
        else [],
    )


def select_newest_rows(project: Project, history: pd.DataFrame, count: int) -> pd.DataFrame:
    """The newest rows of the source, as an asker would have them."""
    config = project.config
    late = [c for c in (config.target, *config.known_later) if c in history]
    kept = history[history[config.time].notna()] if config.time else history
    return kept.tail(count).drop(columns=late).reset_index(drop=True)


def verify_served_version(project: Project, served: ServedVersion, history: pd.DataFrame) -> None:
    """Let a version answer for the newest rows of the source, so that it is warm, and with ``lookback`` see that nothing is cut off.

    Raises
    ------
    RunFailed
        If its answers are no numbers, or its features look further back than ``lookback``.
    """
    config, rows = project.config, select_newest_rows(project, history, _WARM_UP_ROWS)
    out, inputs = scoring.score_with_inputs(project, served.model, served.facts, rows, history)
    if not out["score"].abs().lt(float("inf")).all():
        raise RunFailedError(
            f"version {served.version} gives no number for the newest rows",
            "finite answers",
            "mlops run",
        )
    if config.lookback is None or config.time is None or not config.features:
        return
    whole = features.build_features(
        project,
        scoring.convert_to_contract_types(project, rows)[0],
        scoring.convert_to_contract_types(project, history)[0],
    )
    if cut := [c for c in served.facts.features if count_differences(whole[c], inputs[c])]:
        raise RunFailedError(
            f"these features of the newest rows change with lookback: {', '.join(cut)}",
            "the same as over all the history",
            "a longer lookback in mlops.yaml",
        )
