"""``mlops.yaml`` as pydantic models: each default, unit and meaning stands here, once.

A project is a folder with ``mlops.yaml``. ``load`` reads it, refuses what is wrong in words, and
``explain`` lists every value with its meaning and where it came from. Nothing heavy is imported.

To add a setting: 1. a field with a ``description`` in one of the models, 2. the code that reads it;
``mlops config`` and the errors know it from then on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from mlops_kit import metrics, trace
from mlops_kit.errors import KitError, nearest

FILE = "mlops.yaml"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def duration(value: Any) -> timedelta:
    """Read ``30d``, ``1h``, ``0d`` … into a timedelta.

    >>> duration("36h")
    datetime.timedelta(days=1, seconds=43200)
    """
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhdw])", str(value).strip())
    if not match:
        raise ValueError("expected a number and a unit, such as 30d, 12h or 45m (s, m, h, d, w)")
    return timedelta(**{UNITS[match[2]]: float(match[1])})


def duration_text(value: timedelta) -> str:
    """Write a timedelta the way ``duration`` reads it, in its largest whole unit."""
    seconds = value.total_seconds()
    unit, size = next(
        (u, s)
        for u, s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
        if s == 1 or seconds % s == 0
    )
    return f"{seconds / size:g}{unit}"


def moment(value: Any) -> datetime | None:
    """Read a date or a date with a time; the zone is the project's if none is given."""
    try:
        return None if value in (None, "") else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ValueError("expected a date such as 2013-07-01, or 2013-07-01T06:00") from error


def size(value: Any) -> int:
    """Read ``4GB``, ``512MB`` … into bytes.

    >>> size("1.5GB")
    1500000000
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]?)B?", str(value).strip())
    if not match:
        raise ValueError("expected a number and a unit, such as 4GB or 512MB")
    return int(float(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]])


Duration = Annotated[
    timedelta, BeforeValidator(duration), PlainSerializer(duration_text, return_type=str)
]
Moment = Annotated[datetime | None, BeforeValidator(moment)]
Names = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]  # one name stands for a list of one
Size = Annotated[int, BeforeValidator(size)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel, extra="forbid", frozen=True):
    """A part of ``mlops.yaml``; an unknown key is an error. What is read of it is noted, for a stage's fingerprint."""

    if not TYPE_CHECKING:

        def __getattribute__(self, name: str) -> Any:
            if name[0] != "_" and name in type(self).__pydantic_fields__:
                trace.settings.add((type(self).__name__, name))
            return super().__getattribute__(name)


class Query(Section):
    """A source that is a query."""

    sql: str = Field(description="The SELECT to read")
    url: str = Field(
        description="SQLAlchemy URL of the database; ${NAME} is taken from the environment"
    )


class Split(Section):
    """How the newest (or a random) part is kept from every choice."""

    test: Share | Duration = Field(
        0.2, description="Kept for the review: the newest 30d (a duration), or a share of the rows"
    )
    folds: int = Field(
        4, ge=2, le=20, description="Folds of the cross-validation, in time where there is time"
    )


class Train(Section):
    """The budget and the choices of the search."""

    trials: int = Field(16, ge=1, description="Trials of the search; they bind")
    seconds: float = Field(
        300, gt=0, description="Seconds the search may take at most: the safety net"
    )
    families: Names = Field(
        default_factory=list, description="Model families to search; empty: all that fit the task"
    )
    metric: str = Field(
        "", description="What the search improves; empty: log_loss (binary) or rmse (regression)"
    )
    refit: bool = Field(True, description="Fit the chosen recipe again on all rows known")


class Cost(Section):
    """What a wrong decision costs; the threshold of a classifier follows from it."""

    false_alarm: float = Field(1, ge=0, description="Cost of a flagged row that did not deserve it")
    miss: float = Field(1, ge=0, description="Cost of a row that should have been flagged")
    unit: str = Field("", description="What the cost is counted in, such as $")


class Review(Section):
    """Limits of the checks; a limit of null takes the check out (not applicable)."""

    metric: str = Field(
        "", description="The headline metric; empty: roc_auc (binary) or r2 (regression)"
    )
    least: float | None = Field(None, description="The headline metric is at least this")
    margin: float = Field(
        0.005, ge=0, description="How much worse than the champion still counts as no worse"
    )
    better_than_baseline: float = Field(
        0.0, description="Least gain in the headline metric over the best baseline"
    )
    calibration_error: float | None = Field(
        0.05, ge=0, description="Largest expected calibration error"
    )
    slices: Names = Field(
        default_factory=list, description="Columns to review by group; empty: the coarse categories"
    )
    slice_gap: float | None = Field(
        0.10, ge=0, description="Largest shortfall of a slice below the whole"
    )
    slice_rows: int = Field(200, ge=20, description="Fewest rows on which a slice is judged")
    refit_rank: float | None = Field(
        0.90, ge=-1, le=1, description="Least rank correlation of refitted and judged model"
    )
    refit_shift: float | None = Field(
        0.05,
        ge=0,
        description="Largest mean shift between them, in the target's unit or share of its sd",
    )
    one_column: Share = Field(
        0.98,
        description="A column that alone ranks the target this well (AUC or |rho|) looks like a leak",
    )
    draws: int = Field(500, ge=100, description="Bootstrap draws behind each interval")


class Contract(Section):
    """How much bad data is put aside before it stops the run."""

    file: str = Field(
        "contract.yaml",
        description="The data contract; inferred once if it is missing, edited by people",
    )
    bad_rows: Share = Field(0.05, description="Largest share of rows that may be quarantined")


class Monitor(Section):
    """Floors under which a drift is never an alert, and the false discoveries allowed."""

    effect_warn: float = Field(
        0.05, ge=0, description="Effect (KS D or Cramér's V, less its bias) worth a look"
    )
    effect_alert: float = Field(
        0.10, ge=0, description="Effect that is an alert when it is also significant"
    )
    alpha: float = Field(
        0.01, gt=0, lt=1, description="False discovery rate over the columns (Benjamini-Hochberg)"
    )
    missing: Share = Field(0.05, description="Largest rise in a column's share of missing values")
    rows: int = Field(200, ge=20, description="Fewest rows on which drift is judged")
    fall: float = Field(
        0.03, ge=0, description="Largest fall of the headline metric below what the review promised"
    )
    alerts: str = Field(
        "reports/alerts.jsonl", description="File to which alerts are added, one JSON object a line"
    )


class Retrain(Section):
    """When a new model is worth making."""

    on_fall: bool = Field(
        True, description="Retrain when realised performance fell below the limit"
    )
    on_drift: bool = Field(
        False, description="Retrain on drift alone (drift alone rarely costs anything)"
    )
    after: Duration | None = Field(
        None, description="Retrain when the model is older than this; null: never for age alone"
    )
    labels: int = Field(
        500, ge=0, description="Fewest labelled new rows before a retrain is worth it"
    )
    on_gap: bool = Field(
        True,
        description="Retrain when the labels stay below what the probabilities promise (watch.persist windows in a row)",
    )
    cool_down: Duration = Field(
        timedelta(days=14), description="Least time between two retrainings that nobody asked for"
    )


class Labels(Section):
    """A table in which the values of the target arrive; it may grow."""

    source: str | Query = Field(
        description="File, folder or glob (CSV, Parquet, Excel), or {sql, url}"
    )
    key: Names = Field(
        default_factory=list,
        description="Columns that name the row, as in 'id'; or the one column prediction_id; empty: as in 'id'",
    )
    time: str | None = Field(
        None,
        description="Column with the moment from which the value was known; null: the moment at which it is read",
    )
    value: str = Field("", description="Column with the value; empty: the target's name")


class Serve(Section):
    """The endpoint. It answers this machine only, unless a token is set."""

    host: str = Field(
        "127.0.0.1", description="Address to listen on; any but this machine's own needs a token"
    )
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0: any that is free")
    token: str = Field(
        "", description="Name of the environment variable that holds the token; empty: no token"
    )
    rows: int = Field(5000, ge=1, description="Most rows in one request")
    waiting: int = Field(
        512, ge=1, description="Most requests that wait; more are turned away at once (429)"
    )
    batch: int = Field(256, ge=1, description="Rows scored together at most")
    follow: Duration = Field(
        timedelta(seconds=2), description="How often to look whether another version was promoted"
    )
    refresh: Duration = Field(
        timedelta(minutes=1), description="How often the history behind the features is read again"
    )


class Dashboard(Section):
    """The dashboards. They answer this machine only, unless a token or an identity is set."""

    host: str = Field(
        "127.0.0.1",
        description="Address to listen on; any but this machine's own needs a token or an identity",
    )
    port: int = Field(8866, ge=0, le=65535, description="Port to listen on; 0: any that is free")
    token: str = Field(
        "",
        description="Name of the environment variable that holds a shared secret: a gate, which names nobody; empty: no token",
    )
    identity: str = Field(
        "",
        description="Class (package.module.Class) of a jupyter_server IdentityProvider that says who is here; empty: this machine's user",
    )
    ready: int = Field(
        2,
        ge=1,
        description="Kernels kept ready for each page; as many visitors at once need not wait (about 100 MB each)",
    )


class Watch(Section):
    """The daily round of ``mlops watch``."""

    every: Duration = Field(
        timedelta(days=1), description="How often new rows are scored and labels imported"
    )
    window: Duration = Field(
        timedelta(days=7), description="Stretch of time that is monitored as one"
    )
    persist: int = Field(
        2,
        ge=1,
        description="Windows of the last three that must show a drift before somebody is told",
    )


class People(Section):
    """Who may decide. Names are those of the system's users."""

    approvers: Names = Field(
        default_factory=list, description="Who may approve or reject a version; empty: anybody"
    )
    operators: Names = Field(
        default_factory=list, description="Who may go back to an earlier version; empty: anybody"
    )
    four_eyes: bool = Field(False, description="Whoever made a version may not approve it")


class Keep(Section):
    """What ``mlops clean`` leaves; whatever serves, waits or runs stays in any case."""

    runs: int = Field(20, ge=1, description="Fewest newest runs that are always kept")
    age: Duration = Field(timedelta(days=90), description="A run older than this goes")
    cache: Duration = Field(
        timedelta(days=30), description="What was not written in .mlops/cache for this long goes"
    )
    data: Size = Field(
        10**9, description="Largest file that is kept with a run, so that it can be made again"
    )


class After(Section):
    """A stage that runs again when its last run is this long ago, or when something changed."""

    after: Duration = Field(description="Age at which it runs again")


class Run(Section):
    """How the chain is carried out."""

    jobs: int = Field(
        0, ge=0, description="Stages (and branches) that run at once; 0: as many as there are cores"
    )
    kernels: Literal["warm", "cold"] = Field(
        "warm",
        description="Kernels forked from a process that has the imports already, or plain ones",
    )
    start: Duration = Field(
        timedelta(seconds=60), description="Longest that a kernel may take to start"
    )


class Stage(Section):
    """One stage: its notebook, what it waits for, what it must hand on."""

    notebook: str = Field("", description="The notebook, relative to the project")
    needs: Names = Field(default_factory=list, description="Stages that must have succeeded before")
    writes: Names = Field(default_factory=list, description="Artifacts it must hand on")
    files: Names = Field(
        default_factory=list,
        description="Files of the project that it reads; if one changes it runs again",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Values for its parameters cell, or {value, least, most, choices}",
    )
    env: Names = Field(
        default_factory=list,
        description="Environment variables that it reads; if one changes it runs again",
    )
    rerun: Literal["changed", "always", "never"] | After = Field(
        "changed", description="When it runs again: changed, always, never, or {after: 7d}"
    )
    timeout: Duration | None = Field(
        None, description="Longest that the stage may take; null: no limit"
    )
    cell_timeout: Duration | None = Field(
        None, description="Longest that one cell may take; null: no limit"
    )
    memory: Size | None = Field(
        None,
        description="Most resident memory of the stage with all that it starts, such as 4GB; null: no limit",
    )
    retries: int = Field(0, ge=0, le=20, description="How often it is tried again when it fails")
    backoff: Duration = Field(
        timedelta(seconds=5),
        description="Wait before the first retry; each further wait is twice as long",
    )
    foreach: dict[str, list[Any]] = Field(
        default_factory=dict,
        description="Parameters and their values: from this stage on the chain runs once for each combination",
    )


STAGES: dict[str, dict[str, Any]] = {
    "explore": {"notebook": "01_explore.ipynb", "needs": [], "writes": ["overview", "profile"]},
    "prepare": {
        "notebook": "02_prepare.ipynb",
        "needs": [],
        "writes": ["features", "contract_report", "split"],
    },
    "train": {
        "notebook": "03_train.ipynb",
        "needs": ["prepare"],
        "writes": ["recipe", "judged_scores", "model"],
    },
    "review": {
        "notebook": "04_review.ipynb",
        "needs": ["train"],
        "writes": ["metrics", "verdicts", "card", "version"],
        "files": ["card.yaml"],
    },
    "deploy": {
        "notebook": "05_deploy.ipynb",
        "needs": ["review"],
        "writes": ["promotion", "scores"],
    },
    "monitor": {
        "notebook": "06_monitor.ipynb",
        "needs": ["deploy"],
        "writes": ["drift", "realised", "alerts"],
    },
    "retrain": {"notebook": "07_retrain.ipynb", "needs": ["monitor"], "writes": ["decision"]},
}


FAMILY_NAMES = ("linear", "boosting", "lightgbm", "forest")


class Config(Section):
    """All of ``mlops.yaml``."""

    name: str = Field(
        description="Name of the project and of its model", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"
    )
    source: str | Query = Field(
        description="File, folder or glob (CSV, Parquet, Excel), dataset:NAME, or {sql, url}"
    )
    target: str = Field(description="Column to predict")
    task: Literal["binary", "regression"] = Field(description="What kind of prediction")
    id: Names = Field(
        default_factory=list, description="Columns that name a row; empty: its position"
    )
    row: str = Field(
        "row", description="What a row is called in sentences, such as flight or patient"
    )
    time: str | None = Field(
        None, description="Column with the moment of prediction; null: the table has no time"
    )
    timezone: str = Field("UTC", description="Zone in which moments are read and shown")
    label_delay: Duration = Field(
        timedelta(0), description="How long after its moment a row's label is known"
    )
    leave_out: Names = Field(default_factory=list, description="Columns that no model sees")
    known_later: dict[str, str] = Field(
        default_factory=dict,
        description="Columns known only after the moment of prediction: a delay (1d), or the column that says when",
    )
    features: Names = Field(default_factory=list, description="The project's own feature files")
    look_back: Duration | None = Field(
        None,
        description="How far back the features look, with the delay of labels; null: over all the history. A shorter one makes scoring quick",
    )
    labels: Labels | None = Field(
        None,
        description="A table in which labels arrive: {source, key, time, value}; null: they stand in the source",
    )
    as_of: Moment = Field(
        None,
        description="What was not known then, stages 1 to 4 do not see; null: after the newest row",
    )
    until: Moment = Field(
        None,
        description="Deploy scores, and monitor and retrain see, what is known by then; null: as_of",
    )
    seed: int = Field(0, ge=0, description="Seed of all that is random")
    sample: int = Field(
        0, ge=0, description="Rows of a quick trial run; 0: all. Nothing made from it is promoted"
    )
    branch: str = Field(
        "",
        description="Name of a branch, set where the chain runs once for each of several values; nothing made from one is promoted",
    )
    notebooks: str = Field(
        "",
        description="Folder of the notebooks; empty: notebooks/, or those that ship with the package",
    )
    reports: str = Field("reports", description="Folder of the runs")
    tracking: str = Field("sqlite:///.mlops/mlflow.db", description="MLflow's store or server")
    database: str = Field(
        "sqlite:///.mlops/mlops.db",
        description="Database of the decisions, a SQLAlchemy URL; ${NAME} is taken from the environment",
    )
    approval: Literal["manual", "automatic"] = Field(
        "manual", description="Who approves a reviewed model"
    )
    secrets: Names = Field(
        default_factory=list,
        description="Environment variables whose values are never shown; tokens and the passwords of URLs are known without being listed",
    )
    split: Split = Split()
    train: Train = Train()
    cost: Cost = Cost()
    contract: Contract = Contract()
    review: Review = Review()
    monitor: Monitor = Monitor()
    retrain: Retrain = Retrain()
    serve: Serve = Serve()
    dashboard: Dashboard = Dashboard()
    watch: Watch = Watch()
    people: People = People()
    keep: Keep = Keep()
    run: Run = Run()
    seven: bool = Field(
        True,
        description="Whether the seven stages belong to the chain; false, as where the project's notebooks have none of them: only the stages named here",
    )
    stages: dict[str, Stage] = Field(
        default_factory=dict, description="Changes to a stage, or a stage of one's own"
    )

    @model_validator(mode="before")
    @classmethod
    def fill_stages(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Lay the project's stages over the seven."""
        given = data.get("stages") or {}
        if not isinstance(given, dict):
            return data
        if data.get("seven") is False:
            return {"source": "", "target": "", "task": "regression", **data}
        merged = {
            k: {**v, **own} if isinstance(own := given.get(k) or {}, dict) else own
            for k, v in STAGES.items()
        }
        return {**data, "stages": {**STAGES, **given, **merged}}

    @model_validator(mode="after")
    def agree(self) -> Config:
        """Refuse what each field allows but the whole does not."""
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(
                f"timezone {self.timezone!r} is not known; expected a name such as Europe/Berlin"
            ) from error
        if self.time is None and (self.as_of or self.until):
            raise ValueError(
                "as_of and until need a time column: name it in 'time', or take them out"
            )
        if self.as_of and self.until and self.utc(self.until) < self.utc(self.as_of):
            raise ValueError(
                f"until {self.until:%Y-%m-%d} lies before as_of {self.as_of:%Y-%m-%d}; expected the same moment or a later one"
            )
        if isinstance(self.split.test, timedelta) and self.time is None:
            raise ValueError(
                "split.test is a duration but the table has no time column; expected a share such as 0.2"
            )
        fit = metrics.for_task(self.task)
        for key, value, known in [
            ("train.metric", self.train.metric, fit),
            ("review.metric", self.review.metric, fit),
            *(("train.families", f, [*FAMILY_NAMES]) for f in self.train.families),
        ]:
            if value and value not in known:
                raise ValueError(
                    f"{key}: {value!r} is not known for the task {self.task}; expected {nearest(value, known)}"
                )
        for name, stage in self.stages.items():
            if not stage.notebook:
                raise ValueError(
                    f"unknown stage {name!r}; expected {nearest(name, STAGES)}, or a notebook of your own under stages.{name}.notebook"
                )
            for need in stage.needs:
                if need not in self.stages:
                    raise ValueError(
                        f"stages.{name}.needs names the unknown stage {need!r}; expected {nearest(need, self.stages)}"
                    )
        order(self.stages)
        return self

    def utc(self, when: datetime) -> datetime:
        """A moment in UTC, read in the project's zone if it has none of its own."""
        return (when if when.tzinfo else when.replace(tzinfo=ZoneInfo(self.timezone))).astimezone(
            UTC
        )

    @property
    def search_metric(self) -> str:
        """The metric that the search improves."""
        return self.train.metric or ("log_loss" if self.task == "binary" else "rmse")

    @property
    def headline(self) -> str:
        """The metric that review, monitoring and pages speak of."""
        return self.review.metric or ("roc_auc" if self.task == "binary" else "r2")

    @property
    def hidden(self) -> set[str]:
        """Columns that are never a feature: target, id, time, left out, known later."""
        return {
            self.target,
            *self.id,
            *([self.time] if self.time else []),
            *self.leave_out,
            *self.known_later,
        }


def order(stages: dict[str, Stage]) -> list[str]:
    """Stages in an order that respects their needs.

    Raises
    ------
    ValueError
        If the needs go round in a circle; the circle is named.
    """
    done: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(
                f"stages need each other in a circle: {' → '.join([*path[path.index(name) :], name])}; take one of these needs out"
            )
        if name not in done:
            for need in stages[name].needs:
                visit(need, (*path, name))
            done.append(name)

    for name in stages:
        visit(name, ())
    return done


class Project(NamedTuple):
    """A folder with ``mlops.yaml``, read and checked.

    ``given`` maps dotted names that did not come from the file to where they came from.
    """

    root: Path
    config: Config
    given: dict[str, str] = {}

    def path(self, relative: str | Path) -> Path:
        """A path of the project, absolute."""
        return self.root / relative

    def moment(self, text: str, said: str) -> datetime | None:
        """A moment that a person wrote, in UTC; None for nothing.

        Raises
        ------
        KitError
            If it is none.
        """
        try:
            found = moment(text)
        except ValueError as error:
            raise KitError(
                f"{said} {text!r} is no moment", str(error).removeprefix("expected "), "mend it"
            ) from error
        return None if found is None else self.config.utc(found)

    @property
    def reports(self) -> Path:
        """The folder of the runs."""
        return self.path(self.config.reports)

    @property
    def notebooks(self) -> Path:
        """The folder of the notebooks: the project's own, or those that ship with the package."""
        own = self.path(self.config.notebooks or "notebooks")
        return own if self.config.notebooks or own.is_dir() else resources("notebooks")

    def notebook(self, stage: str) -> Path:
        """The notebook of a stage."""
        return self.notebooks / self.config.stages[stage].notebook

    def with_values(self, origin: str, **values: Any) -> Project:
        """The project with some values laid over; ``None`` leaves a value as it is."""
        laid = {k: v for k, v in values.items() if v is not None}
        if not laid:
            return self
        config = validated({**self.config.model_dump(exclude_unset=True), **laid}, origin)
        return Project(self.root, config, {**self.given, **dict.fromkeys(laid, origin)})


def resources(name: str) -> Path:
    """A folder that ships with the package (``notebooks``, ``templates``), or the checkout's."""
    here = Path(__file__).parent
    inside, checkout = here / name, here.parent / name
    for place in (inside, checkout):
        if place.is_dir():
            return place
    raise KitError(
        f"the folder {name!r} of mlops-kit is missing",
        f"{inside} or {checkout}",
        "install mlops-kit again",
    )


def find(start: str | Path | None = None) -> Path:
    """The project's folder: ``start``, MLOPS_PROJECT, or the nearest one above here with ``mlops.yaml``."""
    named = start or os.environ.get("MLOPS_PROJECT")
    begin = Path(named or ".").expanduser().resolve()
    begin = begin.parent if begin.is_file() else begin
    for folder in [begin] if named else [begin, *begin.parents]:
        if (folder / FILE).is_file():
            return folder
    raise KitError(
        f"no {FILE} for {str(begin)!r}",
        f"a file {FILE} {'in it' if named else 'there or in any folder above'}",
        "change into a project, or name it with --project",
    )


class Loader(yaml.SafeLoader):
    """YAML whose dates stay text: YAML's own reading of a date that does not exist is a bare ValueError."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_yaml(file: Path, cure: str) -> Any:
    """What a YAML file holds.

    Raises
    ------
    KitError
        If it is not YAML.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KitError(
            f"{file.name} is not YAML: {' '.join(str(error).split())}",
            "keys and values, 'name: value'",
            cure,
        ) from error


def load(start: str | Path | None = None) -> Project:
    """Read and check a project's ``mlops.yaml``.

    Raises
    ------
    KitError
        With every mistake: the field, its value, what was expected, the nearest right name.
    """
    root = find(start)
    data = read_yaml(root / FILE, f"edit {FILE}")
    if not data:
        raise KitError(
            f"{FILE} is empty",
            "at least name, source, target and task",
            "see the README, 'your own table'",
        )
    if not isinstance(data, dict):
        raise KitError(
            f"{FILE} holds a {type(data).__name__}, not keys",
            "keys and values, 'name: value'",
            f"edit {FILE}",
        )
    own = root / str(data.get("notebooks") or "notebooks")
    if (
        data.get("stages")
        and own.is_dir()
        and not any((own / s["notebook"]).exists() for s in STAGES.values())
    ):
        data = {"seven": False, **data}
    return Project(root, validated(data, FILE))


def walked(
    model: Section, prefix: str = "", given: bool = True
) -> Iterator[tuple[Section, str, str, bool]]:
    """Each setting below a section, unnoted: the section it stands in, its field, its dotted name, and whether it was given."""
    for name in type(model).model_fields:
        value, said = model.__dict__[name], given and name in model.model_fields_set
        if isinstance(value, Section) and not isinstance(value, Query):
            yield from walked(value, f"{prefix}{name}.", said)
        else:
            yield model, name, f"{prefix}{name}", said


def places(config: Config) -> dict[tuple[str, str], str]:
    """The dotted name of each setting, by its class and field; sections of ``stages`` count by other ways."""
    return {
        (type(model).__name__, name): dotted
        for model, name, dotted, _ in walked(config)
        if name != "stages"
    }


def values_by_name(config: Config) -> dict[str, Any]:
    """Every setting outside ``stages`` by its dotted name, as ``mlops.yaml`` has it."""
    return {
        dotted: model.model_dump(mode="json", include={name})[name]
        for model, name, dotted, _ in walked(config)
        if name != "stages"
    }


def validated(data: dict[str, Any], origin: str) -> Config:
    """The config of these values, or one error that words every mistake."""
    before = set(trace.settings)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        said = [word(e) for e in error.errors()]
        count = f"{len(said)} mistakes" if len(said) > 1 else "a mistake"
        raise KitError(
            f"{origin} has {count}:\n  " + "\n  ".join(said),
            cure=f"{'edit' if origin == FILE else 'mend'} {origin}; 'mlops config' explains each value",
        ) from error
    finally:
        trace.settings.intersection_update(before)  # what the checks above read is no use of it


def known_keys(where: Iterable[Any]) -> dict[str, Any]:
    """The fields a section knows, by key, found by following the models; of an optional section or one of several kinds, those of its first."""
    model: Any = Config
    for step in where:
        found = getattr(model, "model_fields", {}).get(str(step))
        kinds = get_args(found.annotation) if found and found.annotation != dict[str, Stage] else ()
        model = (
            Stage
            if model == dict[str, Stage]
            else next((k for k in kinds if hasattr(k, "model_fields")), found.annotation)
            if found
            else model
        )
    return dict(getattr(model, "model_fields", {}))


def word(error: Any) -> str:
    """One of pydantic's errors in words: field, value, expected."""
    place = [
        p
        for p in error["loc"]
        if not (isinstance(p, str) and (p[:1].isupper() or "[" in p or p in {"str", "float"}))
    ]
    name = ".".join(map(str, place))
    value = error.get("input")
    if error["type"] == "extra_forbidden":
        return f"{name}: unknown key; expected {nearest(str(place[-1]), known_keys(place[:-1]))}"
    if error["type"] == "missing":
        return f"{name}: missing; expected: {getattr(known_keys(place[:-1]).get(str(place[-1])), 'description', '')}"
    message = (
        error["msg"]
        .removeprefix("Value error, ")
        .replace("Input should be", "expected")
        .partition(", unable to parse")[0]
    )
    return f"{name}: {value!r}; {message}" if name else message


def explain(project: Project) -> list[tuple[str, Any, str, str]]:
    """Every setting: dotted name, value, where it came from, meaning."""
    rows: list[tuple[str, Any, str, str]] = []
    for model, name, dotted, given in walked(project.config):
        if dotted != "stages":
            rows.append(
                (
                    dotted,
                    shown(getattr(model, name)),
                    project.given.get(dotted, FILE if given else "default"),
                    type(model).model_fields[name].description or "",
                )
            )
            continue
        for key, stage in project.config.stages.items():
            changed = stage.model_dump() != Stage(**STAGES.get(key, {})).model_dump()
            rows.append(
                (
                    f"stages.{key}",
                    f"{stage.notebook} needs {', '.join(stage.needs) or 'nothing'}",
                    FILE if changed else "default",
                    "its notebook and what it waits for",
                )
            )
    return rows


def shown(value: Any) -> Any:
    """A setting's value as one would write it in ``mlops.yaml``."""
    if isinstance(value, timedelta):
        return duration_text(value)
    if isinstance(value, datetime):
        return value.isoformat().removesuffix("T00:00:00")
    return value.sql if isinstance(value, Query) else value
