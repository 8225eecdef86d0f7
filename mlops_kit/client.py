"""The commands for notebooks: ``p = mlops_kit.open()``.

``p.run(sample=5000)`` runs the pipeline in a process of its own and shows a live table of the
stages; the notebook stays usable.

Modules that load MLflow, SQLAlchemy or the pipeline are imported in the methods that use them, so
that opening a project takes no time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.extras import import_from_extra, require_extra
from mlops_kit.core.files import read_json
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.progress import ProgressPrinter, ProgressReporter
from mlops_kit.core.results import Result, Table
from mlops_kit.project.identity import identify_person
from mlops_kit.project.loader import Project, load_project
from mlops_kit.project.run_folder import list_run_folders, read_run_artifact
from mlops_kit.project.run_manifest import RunManifest, read_manifest

if TYPE_CHECKING:
    from mlops_kit.db.operator_decisions import AcceptedReference
    from mlops_kit.db.tables import ApprovalOutcome
    from mlops_kit.registry.versions import ModelVersion

_RUN_OPTIONS = {
    "as_of": "--as-of",
    "until": "--until",
    "first": "--from",
    "last": "--to",
    "only": "--only",
    "force": "--force",
    "note": "--note",
    "jobs": "--jobs",
    "cold": "--cold",
}
_OTHER_RUN_ARGUMENTS = ("params", "sample", "wait")
_LIVE_VIEW_INTERVAL_SECONDS = 1
_ERROR_PREFIX = "error: "  # how the command line begins an error


def build_run_arguments(options: Mapping[str, Any]) -> list[str]:
    """Return the options of ``ProjectClient.run`` as arguments of ``mlops run``.

    Empty options are left out.

    >>> build_run_arguments({"first": "train", "force": True, "note": "", "params": {"train.k": 1}})
    ['-p', 'train.k:=1', '--from', 'train', '--force']

    Raises
    ------
    KitError
        If an option is unknown.
    """
    from mlops_kit.pipeline.params import format_parameter_option

    arguments: list[str] = []
    for name, value in (options.get("params") or {}).items():
        arguments += ["-p", format_parameter_option(name, value)]
    for name, value in options.items():
        if name == "params":
            continue
        if name not in _RUN_OPTIONS:
            raise KitError(
                f"unknown option {name!r} of run",
                suggest_names(name, [*_RUN_OPTIONS, *_OTHER_RUN_ARGUMENTS]),
                "p.run(sample=5000)",
            )
        if value:
            arguments.append(_RUN_OPTIONS[name])
        if value and value is not True:
            arguments.append(str(value))
    return arguments


class ChampionModel:
    """The version in service.

    Parameters
    ----------
    project : Project
        The project.
    model_version : ModelVersion
        What the registry knows of the version.
    """

    def __init__(self, project: Project, model_version: ModelVersion) -> None:
        self.project = project
        self.model_version = model_version

    @property
    def version(self) -> str:
        """The number of the version."""
        return self.model_version.version

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score raw rows.

        Returns
        -------
        DataFrame
            One row per input row, with prediction id, score and predicted class.
        """
        frame = to_pandas(frame)
        from mlops_kit.registry.scoring import predict_with_champion

        return predict_with_champion(self.project, frame)


class ProjectClient:
    """An opened project, with the commands as methods.

    Parameters
    ----------
    start : str or Path, optional
        The project's folder; see ``mlops_kit.open``.

    Examples
    --------
    >>> import mlops_kit
    >>> client = mlops_kit.open("examples/diabetes")
    >>> client.project.config.name
    'diabetes'
    """

    def __init__(self, start: str | Path | None = None) -> None:
        self.project = load_project(start)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, sample: int = 0, wait: bool = False, **options: Any) -> ProjectClient:
        """Run the pipeline in the background.

        Parameters
        ----------
        sample : int
            Rows of a quick trial run; 0 for all.
        wait : bool
            Return only when the run has ended.
        **options
            As on the command line: ``as_of=``, ``until=``, ``first=`` and ``last=`` (stages; there
            they are ``--from`` and ``--to``), ``only=``, ``force=True``, ``note=``, and
            ``params={"train.seed": 1}``.

        Raises
        ------
        KitError
            If a run that this client started is still running, or an option is unknown.
        RunFailedError
            If ``wait`` is set and the run fails; waiting for an approval is not a failure.
        """
        if self.process is not None and self.process.poll() is None:
            raise KitError(
                "a run that was started here is still running",
                "one run at a time",
                "p.status() shows its progress",
            )
        arguments = build_run_arguments(options)
        if sample:
            arguments = ["--sample", str(sample), *arguments]
        command = [sys.executable, "-m", "mlops_kit.cli", "run"]
        command += ["--project", str(self.project.root), *arguments]
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("wb") as stream:
            self.process = subprocess.Popen(
                command,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        if wait and self.process.wait() not in (0, WaitingForApprovalError.exit_code):
            raise RunFailedError(
                self.read_last_message(),
                hint="p.status() shows how far it got",
            )
        return self

    @property
    def log_path(self) -> Path:
        """The file with the output of the run that this client started."""
        return self.project.resolve_path(".mlops") / "session.log"

    def read_last_message(self) -> str:
        """Read how the run that this client started ended: its error, or the last line."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace").strip()
        separator = _ERROR_PREFIX if _ERROR_PREFIX in text else "\n"
        return text.rpartition(separator)[2]

    def get_latest_run(self) -> Path:
        """Return the folder of the latest run.

        Raises
        ------
        KitError
            If there is no run yet.
        """
        runs = list_run_folders(self.project.reports_folder)
        if not runs:
            raise KitError(
                "there is no run yet",
                f"a run in {self.project.config.reports}",
                "mlops run, or p.run()",
            )
        return runs[0]

    def get_run_folder(self, run: str = "") -> Path:
        """Return the folder of a run, of the latest one by default.

        Raises
        ------
        KitError
            If there is no such run.
        """
        if not run:
            return self.get_latest_run()
        runs = {folder.name: folder for folder in list_run_folders(self.project.reports_folder)}
        if run not in runs:
            raise KitError(
                f"there is no run {run!r}",
                suggest_names(run, runs) if runs else "a run whose review passed",
                "mlops runs",
            )
        return runs[run]

    def status(self) -> Table:
        """Return the stages of the latest run as a table."""
        manifest = read_manifest(self.get_latest_run())
        rows = []
        for name, entry in manifest.stages.items():
            result = entry.sentence or entry.error_message or entry.reason
            rows.append((name, str(entry.status), entry.seconds, result))
        return Table(
            f"Run {manifest.run}",
            f"Run {manifest.run} of {manifest.project}: {manifest.status}.",
            pd.DataFrame(rows, columns=["stage", "status", "seconds", "result"]),
        )

    def build_current_view(self) -> Table | str:
        """Build what a notebook shows: the latest run, or why there is none."""
        if self.process is not None and self.process.poll() == KitError.exit_code:
            return self.read_last_message()
        if not list_run_folders(self.project.reports_folder):
            return f"{self.project.config.name}: no run yet"
        return self.status()

    def _ipython_display_(self) -> None:
        """Show the latest run; while a run goes on, as a live table."""
        with import_from_extra("train"):
            from IPython.display import display

        handle = display(self.build_current_view(), display_id=True)

        def follow_run() -> None:
            while self.process is not None and self.process.poll() is None:
                handle.update(self.build_current_view())
                time.sleep(_LIVE_VIEW_INTERVAL_SECONDS)
            handle.update(self.build_current_view())

        if self.process is not None:
            threading.Thread(target=follow_run, daemon=True).start()

    def read_artifact(self, name: str) -> Any:
        """Read an artifact of the latest run by its name."""
        return read_run_artifact(self.get_latest_run(), name)

    def load_champion(self) -> ChampionModel:
        """Return the version in service.

        Raises
        ------
        KitError
            If no version is in service.
        """
        from mlops_kit.registry import versions

        return ChampionModel(self.project, versions.require_champion(self.project))

    def record_decision(self, outcome: ApprovalOutcome, reason: str, run: str = "") -> Path:
        """Record a decision of the system's user on the version of a run.

        Parameters
        ----------
        outcome : ApprovalOutcome
            The decision.
        reason : str
            Why.
        run : str
            Name of the run; the latest one by default.

        Returns
        -------
        Path
            Folder of the run.

        Raises
        ------
        KitError
            If there is no such run, it cannot continue after an approval, the reason is empty, or
            the user may not decide.
        RunFailedError
            If the version cannot be promoted, whatever a person decides.
        """
        from mlops_kit.db import approvals
        from mlops_kit.db.tables import ApprovalOutcome
        from mlops_kit.pipeline import run_decision, runner
        from mlops_kit.registry import versions

        folder = self.get_run_folder(run)
        version = read_run_artifact(folder, "version")["version"]
        if outcome == ApprovalOutcome.APPROVED:
            runner.check_resumable(folder)  # a run continues when its version is approved
        champion = approvals.get_current_promotion(self.project)
        is_champion = champion is not None and champion.version == version
        if outcome == ApprovalOutcome.REJECTED and is_champion:
            raise KitError(
                f"version {version} is already in service",
                "a version that waits for a decision",
                'mlops rollback --reason "why"',
            )
        approvals.record_approval(
            self.project,
            versions.load_version(self.project, version),
            outcome,
            identify_person(self.project.config.people),
            reason,
        )
        run_decision.rewrite_run_page(self.project, folder.name)
        return folder

    def approve(
        self, reason: str, run: str = "", report_progress: ProgressReporter | None = None
    ) -> RunManifest:
        """Approve the version of a run that waits (the latest by default), and resume the run.

        Returns
        -------
        RunManifest
            The record of the run.
        """
        from mlops_kit.db.tables import ApprovalOutcome

        require_extra("train")  # before the decision is recorded, since the run then continues
        folder = self.record_decision(ApprovalOutcome.APPROVED, reason, run)
        return self.resume(folder.name, report_progress)

    def resume(self, run: str = "", report_progress: ProgressReporter | None = None) -> RunManifest:
        """Resume a run that failed, was interrupted or waited (the latest by default).

        Returns
        -------
        RunManifest
            The record of the run.
        """
        from mlops_kit.pipeline import runner

        return runner.resume_run(
            self.project,
            self.get_run_folder(run),
            report_progress or ProgressPrinter(sys.stdout),
        )

    def reject(self, reason: str, run: str = "") -> Path:
        """Reject the version of a run (the latest by default), unless it is in service already.

        Returns
        -------
        Path
            Folder of the run.
        """
        from mlops_kit.db.tables import ApprovalOutcome

        return self.record_decision(ApprovalOutcome.REJECTED, reason, run)

    def enable_automatic_promotion(self, reason: str) -> None:
        """Enable automatic promotion again, which two rollbacks in a row have stopped.

        Raises
        ------
        KitError
            If it is not stopped, the reason is empty, or the user may not decide.
        """
        from mlops_kit.db import operator_decisions

        person = identify_person(self.project.config.people)
        operator_decisions.enable_automatic_promotion(self.project, person, reason)

    def accept_reference(self, value: float, reason: str) -> AcceptedReference:
        """Accept a value of the headline metric as the reference performance of the champion.

        Windows whose labels are evaluated from then on are compared with it.

        Raises
        ------
        KitError
            If there is no champion, the reason is empty, or the user may not decide.
        """
        from mlops_kit.db import operator_decisions
        from mlops_kit.registry import versions

        champion = versions.require_champion(self.project)
        person = identify_person(self.project.config.people)
        return operator_decisions.accept_reference(
            self.project, champion.version, value, person, reason
        )

    def replay(
        self,
        start: str | date,
        end: str | date,
        policies: Sequence[str] = (),
    ) -> Result:
        """Compare retraining policies on the project's own history, in a process of its own.

        Parameters
        ----------
        start, end : str or date
            The period, as ``--from`` and ``--to`` of ``mlops replay``.
        policies : sequence of str
            Built-in policies, or YAML files with the keys of ``retrain``; all built-in ones if
            empty.

        Returns
        -------
        PolicyComparison
            A table of costs by policy, with a chart and a recommendation.

        Raises
        ------
        RunFailedError
            If the command fails, with its message.
        """
        command = [sys.executable, "-m", "mlops_kit.cli", "replay", "--json"]
        command += ["--project", str(self.project.root), "--from", str(start), "--to", str(end)]
        if policies:
            command += ["--policy", ",".join(policies)]
        completed = subprocess.run(command, capture_output=True, text=True)
        if completed.returncode:
            message = completed.stderr.strip().rpartition(_ERROR_PREFIX)[2]
            raise RunFailedError(message, hint="mlops replay shows its progress")
        result: Result = read_json(Path(json.loads(completed.stdout)["file"]))
        return result

    def get_report_path(self) -> Path:
        """Return the page to start from: ``index.html`` of the latest run."""
        return self.get_latest_run() / "index.html"


def create_project(frame: pd.DataFrame, path: str | Path, **settings: Any) -> ProjectClient:
    """Create a project for a data frame and open it; see ``mlops_kit.new``."""
    from mlops_kit.pipeline.scaffold import create

    draft = create.draft_from_frame(Path(path), to_pandas(frame), **settings)
    return ProjectClient(create.write_project(draft).root)
