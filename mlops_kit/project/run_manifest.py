"""The typed record of a run (``manifest.json``): what it was made from and how each stage ended.

``read_manifest`` and ``write_manifest`` are the only functions that read and write the file.
Manifests of schema version 1 (without a ``schema_version``) are translated when they are read.

To add a field: a field with a default in the model. To rename one, see ``manifest_upgrade``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mlops_kit.core import files
from mlops_kit.core.errors import KitError
from mlops_kit.core.process_identity import (
    ProcessIdentity,
    ProcessLiveness,
    determine_liveness,
)
from mlops_kit.core.serialization import to_json_value
from mlops_kit.project.artifacts import Artifact
from mlops_kit.project.manifest_upgrade import SCHEMA_VERSION, upgrade_manifest

MANIFEST_FILE = "manifest.json"
BRANCHES_FOLDER = "branches"  # inside a run folder: the runs of its branches
RUN_LOCK_FILE = "run.lock"  # held by the process that executes the run
DISK_RESERVE_FILE = ".reserve"  # freed when the disk is full, so that the manifest can be written
NOT_SELECTED_REASON = "not chosen"
_PROCESS_START_TOLERANCE_SECONDS = 1.0

JsonObject = dict[str, Any]  # plain values, as they are stored


class StageStatus(StrEnum):
    """How a stage of a run ended, or that it has not ended yet."""

    NOT_RUN = "not run"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"
    TIMED_OUT = "timed out"
    STOPPED_EARLY = "stopped early"
    WAITING_FOR_APPROVAL = "waiting (approval)"


class RunStatus(StrEnum):
    """How a run ended, or that it has not ended yet; ``NOT_RUN``: a branch that was not started.

    ``RUNNING_ELSEWHERE`` is never stored: a run has it for those who cannot see its process, since
    it is in another container or on another machine.
    """

    NOT_RUN = "not run"
    RUNNING = "running"
    RUNNING_ELSEWHERE = "running (elsewhere)"
    SUCCEEDED = "succeeded"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    KILLED = "killed"
    TIMED_OUT = "timed out"
    STOPPED_EARLY = "stopped early"
    WAITING_FOR_APPROVAL = "waiting (approval)"


COMPLETED_STATUSES = (StageStatus.SUCCEEDED, StageStatus.SKIPPED)
IDLE_STATUSES = (StageStatus.SKIPPED, StageStatus.NOT_RUN)  # the stage used no time in this run
# In order of precedence: a run gets the first of these statuses that one of its stages has.
UNSUCCESSFUL_STATUSES: tuple[str, ...] = (
    RunStatus.INTERRUPTED,
    RunStatus.FAILED,
    RunStatus.KILLED,
    RunStatus.TIMED_OUT,
    RunStatus.STOPPED_EARLY,
    RunStatus.WAITING_FOR_APPROVAL,
)


class _ManifestModel(BaseModel):
    """Base of the records: unknown fields (of a later version) are ignored."""

    model_config = ConfigDict(
        extra="ignore",
        validate_assignment=True,
    )


class StageError(_ManifestModel):
    """Why a stage did not succeed; code cells, and the lines in one, are counted from one."""

    type: str = ""
    message: str
    cell: int | None = None
    line: int | None = None
    source: str = ""
    traceback: list[str] = []


class ModuleDependency(_ManifestModel):
    """A module that a stage imported: its content hash and the module that imported it."""

    hash: str
    imported_by: str = ""


class UntracedDependency(_ManifestModel):
    """Something that a stage used and that cannot be compared later.

    Attributes
    ----------
    name : str
        A program, the address of a server, a database.
    cell : int or None
        The code cell that used it, counted from one; None if that is not known.
    """

    name: str
    cell: int | None = None


class StageDependencies(_ManifestModel):
    """What a stage used while it ran; as long as all of it is unchanged, its result is unchanged.

    Attributes
    ----------
    cells : list of str
        Hashes of the code cells.
    inputs : dict
        Content hash of each artifact that it read from earlier stages, by name.
    files, listings, modules : dict
        Files that it read (name to hash), folders and patterns that it listed (name to file names)
        and the project's own modules that it imported.
    env : dict
        Hash of each declared environment variable; None for one that is not set.
    unknowable : list of str
        Sources whose content can only be compared by reading them, such as a query.
    absent : list of str
        Modules that it tried to import and that were not installed.
    searches : dict
        Folders (with a slash at the end) and patterns that it listed, with the names of all files
        and folders there.
    missing, existing : list of str
        Paths that it looked for, and were not there, or were.
    untraced : list of UntracedDependency
        What could not be followed.
    """

    cells: list[str] = []
    params: JsonObject = {}
    settings: JsonObject = {}
    inputs: dict[str, str] = {}
    files: dict[str, str] = {}
    listings: dict[str, list[str]] = {}
    modules: dict[str, ModuleDependency] = {}
    packages: dict[str, str] = {}
    env: dict[str, str | None] = {}
    python: str = ""
    unknowable: list[str] = []
    absent: list[str] = []
    searches: dict[str, list[str]] = {}
    missing: list[str] = []
    existing: list[str] = []
    untraced: list[UntracedDependency] = []


class Acceptance(_ManifestModel):
    """That a person accepted a stage as up to date although its dependencies had changed."""

    actor: str
    accepted_at: str
    reasons: list[str] = []


class StageEntry(_ManifestModel):
    """What the manifest records of one stage.

    Attributes
    ----------
    reason : str
        Why the stage was skipped or not run.
    reasons : list of str
        Why the stage was run.
    is_selected : bool
        False for a stage that the run was not asked for and that was carried over from an earlier
        run, whatever the earlier stages of this run have become.
    was_run_by_hand : bool
        Whether it was run by hand before this run, which took it over.
    seconds : float or None
        Wall time of the stage; None if it has not ended.
    peak_bytes : int
        Largest resident memory of its process group.
    code_origins : dict
        Hashes of the package, the feature files and the contract it ran with.
    dependencies : StageDependencies or None
        What it used; None if the stage did not succeed or what it used was not recorded.
    notes : list of str
        What else to know about a stage that succeeded: what it used that cannot be traced, errors
        that did not stop it.
    """

    status: StageStatus = StageStatus.NOT_RUN
    notebook: str = ""
    question: str = ""
    reason: str = ""
    detail: str = ""
    error: StageError | None = None
    started: str | None = None
    seconds: float | None = None
    attempts: int | None = None
    peak_bytes: int = 0
    reasons: list[str] = []
    is_selected: bool = True
    was_run_by_hand: bool = False
    params: JsonObject = {}
    code_origins: dict[str, str] = {}
    sentence: str = ""
    logged: JsonObject = {}
    artifacts: dict[str, Artifact] = {}
    mlflow_run: str | None = None
    dependencies: StageDependencies | None = None
    fingerprint: str | None = None
    accepted: Acceptance | None = None
    notes: list[str] = []

    @property
    def status_text(self) -> str:
        """The status with its detail: ``killed (signal 9, peak 3.1 GiB)``."""
        return describe_status(self.status, self.detail)

    @property
    def is_completed(self) -> bool:
        """Whether the stage succeeded, in this run or in the one that it was carried over from."""
        return self.status in COMPLETED_STATUSES

    @property
    def is_idle(self) -> bool:
        """Whether the stage used no time in this run: it was skipped or not run."""
        return self.status in IDLE_STATUSES

    @property
    def is_logged_with_run(self) -> bool:
        """Whether MLflow has the stage in the record of this run, and not of an earlier one."""
        return self.was_run_by_hand or not self.is_idle

    @property
    def error_message(self) -> str:
        """The message of its error; empty without one."""
        return self.error.message if self.error else ""

    @property
    def summary(self) -> str:
        """One line about the stage: its error, else its sentence, else why it was not run."""
        text = self.error_message or self.sentence_with_origin or self.reason
        return " ▲ ".join([text, *self.notes])

    @property
    def sentence_with_origin(self) -> str:
        """Its sentence; for a stage that another run executed, with that run's name."""
        if self.status != StageStatus.SKIPPED or not self.sentence:
            return self.sentence
        return f"{self.sentence} ({self.reason})"


class GitStatus(_ManifestModel):
    """The commit of the project; ``commit`` is None where the project is not under git."""

    commit: str | None = None
    dirty: bool = False


class BranchResult(_ManifestModel):
    """One branch of a run: the values that differ and how it ended."""

    name: str
    values: JsonObject
    status: RunStatus = RunStatus.NOT_RUN
    run: str = ""
    seconds: float | None = None
    numbers: JsonObject = {}
    error: str = ""


class RunManifest(_ManifestModel):
    """The record of a run.

    Attributes
    ----------
    process : ProcessIdentity or None
        The process that executes the run, or did so last.
    pid, process_started
        Its id and start time (seconds since the epoch) in the manifests of earlier versions.
    timezone : str
        The project's time zone, in which pages show the times of the run.
    branching_stages : list of str
        Stages that run in the branches and not in the run itself.
    mlflow : dict
        MLflow run ids: ``run`` of the run, and one per stage.
    mlflow_error : str or None
        Why the run could not be recorded in MLflow.
    is_up_to_date : bool
        Whether ``mlops run`` found nothing to do and returned this earlier run; not stored.
    """

    schema_version: int = SCHEMA_VERSION
    run: str
    status: RunStatus
    project: str = ""
    started: str = ""
    ended: str | None = None
    process: ProcessIdentity | None = None
    pid: int = 0
    process_started: float | None = None
    note: str = ""
    as_of: str | None = None
    until: str | None = None
    timezone: str = "UTC"
    sample: int = 0
    seed: int = 0
    approval: str = ""
    git: GitStatus = GitStatus()
    packages: dict[str, str] = {}
    stages: dict[str, StageEntry] = {}
    mlflow: dict[str, str] = {}
    mlflow_error: str | None = None
    branch: str = ""
    branching_stages: list[str] = []
    branches: list[BranchResult] = []
    is_up_to_date: bool = Field(
        default=False,
        exclude=True,
    )

    @property
    def is_running(self) -> bool:
        """Whether the run has not ended yet, here or elsewhere."""
        return self.status in {RunStatus.RUNNING, RunStatus.RUNNING_ELSEWHERE}

    def get_stage(self, name: str) -> StageEntry:
        """Return the entry of a stage; an empty one (``not run``) if the run has no such stage."""
        return self.stages.get(name) or StageEntry()

    def to_json_dict(self) -> JsonObject:
        """Return the manifest as the plain values that are stored."""
        plain: JsonObject = to_json_value(self.model_dump())
        return plain


def format_current_time() -> str:
    """Return the current time (UTC, ISO 8601) to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def describe_status(status: str, detail: str = "") -> str:
    """Return a status with its detail, as it is shown: ``killed (signal 9, peak 3.1 GiB)``."""
    return f"{status} ({detail})" if detail else str(status)


def write_manifest(folder: Path, manifest: RunManifest) -> None:
    """Write the manifest of a run; on a full disk the reserved space is freed first."""
    path = folder / MANIFEST_FILE
    try:
        files.write_json(path, manifest)
    except OSError:
        (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
        files.write_json(path, manifest)


def read_stored_manifest(folder: Path) -> RunManifest:
    """Read the manifest of a run as it is stored, whether or not its process still exists.

    Raises
    ------
    KitError
        If the file is damaged.
    """
    path = folder / MANIFEST_FILE
    try:
        stored = files.read_json(path)
        return RunManifest.model_validate(upgrade_manifest(stored))
    except (ValueError, AttributeError, TypeError) as error:
        problem = str(error).partition("\n")[0]
        raise KitError(
            f"{path} is damaged: {problem}",
            "the record of a run",
            f"move {folder} away; the next run does not need it",
        ) from error


def read_manifest(folder: Path) -> RunManifest:
    """Read the manifest of a run; one that is ``running`` without a process is reported as killed.

    One whose process cannot be seen from here, but is alive, is reported as running elsewhere.

    The file is not changed: ``pipeline.manifest.mark_run_killed`` does that.
    """
    manifest = read_stored_manifest(folder)
    if manifest.status != RunStatus.RUNNING:
        return manifest
    liveness = _determine_liveness(folder, manifest)
    if liveness == ProcessLiveness.RUNNING_ELSEWHERE:
        manifest.status = RunStatus.RUNNING_ELSEWHERE
    if liveness.is_alive:
        return manifest
    manifest.status = RunStatus.KILLED
    for entry in manifest.stages.values():
        if entry.status == StageStatus.RUNNING:
            entry.status = StageStatus.KILLED
            entry.detail = "with the run"
            entry.error = StageError(
                type="Killed",
                message="the process of the run was killed",
            )
    return manifest


def _determine_liveness(folder: Path, manifest: RunManifest) -> ProcessLiveness:
    """Determine whether the process that executes a run is alive."""
    if manifest.process is not None:
        return determine_liveness(manifest.process, folder / RUN_LOCK_FILE)
    if is_process_alive(manifest.pid, manifest.process_started):
        return ProcessLiveness.RUNNING
    return ProcessLiveness.DEAD


def is_process_alive(pid: int, process_started: float | None = None) -> bool:
    """Return whether a process of this machine exists and, if given, started at this time."""
    import psutil  # here: its import is a noticeable part of a command that runs nothing

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process_started is None:
            return True
        difference = abs(process.create_time() - process_started)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return bool(difference < _PROCESS_START_TOLERANCE_SECONDS)
