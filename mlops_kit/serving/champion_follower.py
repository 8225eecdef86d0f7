"""The served version: follows the approved champion without a restart.

The promotion in the database decides which version serves. Another version takes over only once it
is loaded, its hash is the approved one, and it has scored the newest rows of the source with
complete features; until then, and if it cannot, the previous version stays in service.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from threadpoolctl import threadpool_limits

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.lazy import pd
from mlops_kit.core.serialization import to_json_value
from mlops_kit.core.tasks import is_finite_score, to_score_array
from mlops_kit.data import columns, features, source
from mlops_kit.data.features.build import count_differences
from mlops_kit.db import approvals
from mlops_kit.db.tables import PromotionRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project import artifacts, run_folder
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring, versions
from mlops_kit.serving import request_schema
from mlops_kit.serving.requests import JsonObject

_logger = logging.getLogger(__name__)
_WARM_UP_ROWS = 32  # newest rows that a version must score before it serves
# Said instead of an error to whoever sends no token.
PROBLEM_WITHOUT_DETAILS = "see the log of the server, or send the token"
_REFERENCE_METRIC_COLUMNS = ["metric", "value", "low", "high"]


@dataclass(frozen=True)
class ServedVersion:
    """A version in service.

    Parameters
    ----------
    promotion : PromotionRecord
        The promotion that put it into service.
    facts : ModelVersion
        What the registry holds about the version.
    model : object
        The fitted model.
    schema : RequestSchema
        Schema of the rows in a request.
    reference_performance : list of dict
        The metrics that the review measured.
    serving_since : str
        When this server put it into service.
    example_row : dict
        A row that it has scored, for the documentation.
    """

    promotion: PromotionRecord
    facts: versions.ModelVersion
    model: Any
    schema: request_schema.RequestSchema
    reference_performance: list[JsonObject]
    serving_since: str
    example_row: JsonObject = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The number of the version."""
        return self.promotion.version


class ChampionFollower:
    """Keeps the served version and the source's history up to date in two threads.

    ``problems`` says what is currently wrong, by topic: ``source``, ``following`` (the champion),
    ``load`` (of a promoted version) and ``alias`` (in MLflow).

    Parameters
    ----------
    project : Project
        The project that serves.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.source = source.SourceHistory(project)
        self.served: ServedVersion | None = None
        self.history: pd.DataFrame | None = None
        self.problems: dict[str, str] = {}
        self.failed_loads = 0
        self.last_load_attempt = 0.0  # by the monotonic clock
        self.source_version: Any = None
        self.source_read = threading.Event()
        self.champion_checked = threading.Event()
        self.stop_requested = threading.Event()

    def get_served(self) -> tuple[ServedVersion, pd.DataFrame] | None:
        """Return the version in service and the source's history; None if none is in service."""
        served = self.served
        history = self.history
        if served is None or history is None:
            return None
        return served, history

    def explain_wait(self, with_details: bool = True) -> str:
        """Return why no version is in service yet.

        Parameters
        ----------
        with_details : bool
            Whether to quote an error, which may name files and servers.
        """
        if not self.champion_checked.is_set():
            return "it is being loaded"
        problem = self.problems.get("load") or self.problems.get("following")
        if problem:
            return problem if with_details else PROBLEM_WITHOUT_DETAILS
        return (
            f"{self.project.config.name} has no champion; "
            "expected a run whose review passed and was approved"
        )

    def start(self) -> None:
        """Start the two threads."""
        serve = self.project.config.serve
        self._start_thread(
            "source",
            self.refresh_source,
            serve.history_refresh_interval.total_seconds(),
            self.source_read,
        )
        self._start_thread(
            "following",
            self.follow_champion,
            serve.champion_check_interval.total_seconds(),
            self.champion_checked,
        )

    def _start_thread(
        self, topic: str, task: Callable[[], None], interval: float, done_once: threading.Event
    ) -> None:
        """Start a thread that runs a task periodically."""
        thread = threading.Thread(
            target=self.run_periodically,
            args=(topic, task, interval, done_once),
            name=topic,
            daemon=True,
        )
        thread.start()

    def close(self) -> None:
        """Stop the threads, and release whatever waits for them."""
        for event in (self.stop_requested, self.source_read, self.champion_checked):
            event.set()

    def run_periodically(
        self, topic: str, task: Callable[[], None], interval: float, done_once: threading.Event
    ) -> None:
        """Run a task until the follower is closed.

        Parameters
        ----------
        topic : str
            Key of the task's problem in ``problems``.
        task : callable
            The task.
        interval : float
            Seconds between two runs.
        done_once : Event
            Set after the first run, successful or not.
        """
        while not self.stop_requested.is_set():
            self.try_task(topic, task)
            done_once.set()
            self.stop_requested.wait(interval)

    def try_task(self, topic: str, task: Callable[[], None]) -> bool:
        """Run a task and return whether it succeeded; an error is kept and logged once."""
        try:
            task()
        except Exception as error:
            # Whatever the registry, the source or a version raises, the served version goes on.
            self._note_problem(topic, describe_exception(error))
            return False
        self.problems.pop(topic, None)
        return True

    def _note_problem(self, topic: str, problem: str) -> None:
        """Keep a problem, and log it if it is new."""
        if self.problems.get(topic) != problem:
            _logger.warning("%s: %s", topic, problem)
        self.problems[topic] = problem

    def refresh_source(self) -> None:
        """Read the source again if its files have changed."""
        version = self.source.describe_files()
        is_known = version is not None and version == self.source_version
        if self.history is not None and is_known:
            return
        self.history = source.read_source(self.project)
        self.source_version = version

    def follow_champion(self) -> None:
        """Load the promoted version if it is not the served one; check MLflow's alias."""
        self.source_read.wait()
        promotion = approvals.get_current_promotion(self.project)
        if promotion is not None and self._is_load_due(promotion):
            self.last_load_attempt = time.monotonic()
            if not self.try_task("load", lambda: self.load_version(promotion)):
                self.failed_loads += 1
        alias_problem = versions.check_champion_alias(self.project)
        if alias_problem:
            self._note_problem("alias", alias_problem)
        else:
            self.problems.pop("alias", None)

    def _is_load_due(self, promotion: PromotionRecord) -> bool:
        """Return whether to load a promoted version now.

        After a failure the next attempt waits for ``serve.history_refresh_interval``.
        """
        if self.served is not None and self.served.promotion.number == promotion.number:
            return False
        if "load" not in self.problems:
            return True
        retry_seconds = self.project.config.serve.history_refresh_interval.total_seconds()
        return time.monotonic() - self.last_load_attempt >= retry_seconds

    def load_version(self, promotion: PromotionRecord) -> None:
        """Put a promoted version into service once it is loaded and verified.

        Raises
        ------
        RunFailedError
            If the source was not read, the version is no longer the approved one, or it does not
            pass ``verify_served_version``.
        """
        if self.history is None:
            problem = self.problems.get("source", "not yet")
            raise RunFailedError(f"the source was not read: {problem}")
        facts, model = versions.load_champion(self.project)
        if facts.version != promotion.version:
            raise RunFailedError(f"version {facts.version} was promoted in the meantime")
        schema = request_schema.compile_request_schema(self.project, self.history)
        served = ServedVersion(
            promotion,
            facts,
            model,
            schema,
            read_reference_performance(self.project, facts.run),
            current_timestamp(),
            _build_example_row(self.project, schema, self.history),
        )
        with threadpool_limits(1):
            verify_served_version(self.project, served, self.history)
        self.served = served


def describe_exception(error: Exception) -> str:
    """Return an error as one sentence."""
    if isinstance(error, KitError):
        return error.message
    return f"{type(error).__name__}: {error}"


def read_reference_performance(project: Project, run_name: str) -> list[JsonObject]:
    """Return the metrics that the review of a run measured, with their intervals.

    The list is empty if the run's folder is gone.
    """
    run = project.reports_folder / run_name
    metrics = run_folder.list_artifacts(run).get("metrics")
    if metrics is None:
        return []
    table = artifacts.read_artifact(run, metrics).data
    records = table[_REFERENCE_METRIC_COLUMNS].to_dict("records")
    return [to_json_value(record) for record in records]


def select_newest_rows(project: Project, history: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the newest rows of the source with the columns that a request has."""
    config = project.config
    later_columns = [name for name in (config.target, *config.known_later) if name in history]
    if config.time:
        history = history[history[config.time].notna()]
    return history.tail(count).drop(columns=later_columns).reset_index(drop=True)


def _build_example_row(
    project: Project, schema: request_schema.RequestSchema, history: pd.DataFrame
) -> JsonObject:
    """Build the row that the documentation offers to try: the newest one, without its id.

    With its id, the row would count as scored before the watch has scored it.
    """
    newest = select_newest_rows(project, history, _WARM_UP_ROWS)
    return schema.build_example_row(newest, [*project.config.id, columns.ROW_ID])


def verify_served_version(project: Project, served: ServedVersion, history: pd.DataFrame) -> None:
    """Score the newest rows of the source, which also warms the version up.

    With ``lookback`` the features must be those that the whole history gives.

    Raises
    ------
    RunFailedError
        If a score is not a finite number, or a feature looks further back than ``lookback``.
    """
    config = project.config
    rows = select_newest_rows(project, history, _WARM_UP_ROWS)
    scored, inputs = scoring.score_with_inputs(project, served.model, served.facts, rows, history)
    if not is_finite_score(to_score_array(scored["score"])).all():
        raise RunFailedError(
            f"version {served.version} does not return finite scores for the newest rows",
            "finite numbers",
            "mlops run",
        )
    if config.lookback is None or config.time is None or not config.features:
        return
    typed_rows, _ = scoring.convert_to_contract_types(project, rows)
    typed_history, _ = scoring.convert_to_contract_types(project, history)
    complete = features.build_features(project, typed_rows, typed_history)
    truncated = [
        name for name in served.facts.features if count_differences(complete[name], inputs[name])
    ]
    if truncated:
        raise RunFailedError(
            f"these features of the newest rows change with lookback: {', '.join(truncated)}",
            "the values that the whole history gives",
            "a longer lookback in mlops.yaml",
        )
