"""The commands' twin for people who live in JupyterLab: ``p = mlops_kit.open()``.

``p.run(sample=5000)`` runs the chain in a process of its own and shows a live table of the stages;
the notebook stays free. Like the command line, this module may compose rooms.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from getpass import getuser
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.lazy import pd
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.core.results import Table
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.pipeline import params
from mlops_kit.project import loader, run_folder, run_manifest
from mlops_kit.project.run_folder import read_run_artifact
from mlops_kit.registry import versions

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


def build_run_arguments(options: dict[str, Any]) -> list[str]:
    """The options of a call as the command line has them; empty ones are left out.

    >>> words({"first": "train", "force": True, "note": "", "params": {"train.seed": 1}})
    ['-p', 'train.seed:=1', '--from', 'train', '--force']

    Raises
    ------
    KitError
        For an option that there is not.
    """
    said = [
        w
        for name, value in (options.get("params") or {}).items()
        for w in ("-p", params.format_parameter_option(name, value))
    ]
    for name, value in options.items():
        if name != "params" and name not in _RUN_OPTIONS:
            raise KitError(
                f"unknown option {name!r} of run",
                suggest_names(name, [*_RUN_OPTIONS, "params", "sample", "wait"]),
                "p.run(sample=5000)",
            )
        if name in _RUN_OPTIONS and value:
            said += [_RUN_OPTIONS[name]] if value is True else [_RUN_OPTIONS[name], str(value)]
    return said


class ChampionModel:
    """The model that serves: its facts, and scores for rows as they come."""

    def __init__(self, project: loader.Project, facts: versions.ModelVersion) -> None:
        self.project, self.facts = project, facts

    @property
    def version(self) -> str:
        """The version's number."""
        return self.facts.version

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score raw rows; a row in, a row out, with prediction id, score and decision."""
        from mlops_kit.registry.scoring import predict_with_champion

        return predict_with_champion(self.project, frame)


class ProjectClient:
    """A project, opened."""

    def __init__(self, start: str | Path | None = None) -> None:
        self.project = loader.load_project(start)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, sample: int = 0, wait: bool = False, **options: Any) -> ProjectClient:
        """Run the chain in the background.

        Parameters
        ----------
        sample : int
            Rows of a quick trial run; 0 for all.
        wait : bool
            Come back only when it has ended.
        **options
            As on the command line: ``as_of=``, ``until=``, ``first=`` and ``last=`` (stages; there
            they are ``--from`` and ``--to``), ``only=``, ``force=True``, ``note=``, and
            ``params={"train.seed": 1}``.

        Raises
        ------
        KitError
            If a run of this session is still going, or there is no such option.
        RunFailed
            If it was waited for and failed; one that waits for an approval has not.
        """
        if self.process is not None and self.process.poll() is None:
            raise KitError(
                "a run of this session is still going",
                "one at a time",
                "p.status() shows how far it is",
            )
        asked = [*(["--sample", str(sample)] if sample else []), *build_run_arguments(options)]
        self.log_path.parent.mkdir(exist_ok=True)
        with self.log_path.open("wb") as stream:
            command = [
                sys.executable,
                "-m",
                "mlops_kit.cli",
                "run",
                "--project",
                str(self.project.root),
                *asked,
            ]
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=stream, start_new_session=True
            )
        if wait and self.process.wait() not in (0, WaitingForApprovalError.exit_code):
            raise RunFailedError(self.read_last_message(), hint="p.status() shows how far it came")
        return self

    @property
    def log_path(self) -> Path:
        """The file that holds what the session's run says."""
        return self.project.resolve_path(".mlops") / "session.log"

    def read_last_message(self) -> str:
        """The last words of the session's run: its error, if it has one."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace").strip()
        return text.rpartition("error: ")[2] if "error: " in text else text.rpartition("\n")[2]

    def get_latest_run(self) -> Path:
        """The folder of the latest run."""
        found = run_folder.list_run_folders(self.project.reports_folder)
        if not found:
            raise KitError(
                "there is no run yet",
                "one in " + self.project.config.reports,
                "mlops run, or p.run()",
            )
        return found[0]

    def status(self) -> Table:
        """The latest run, stage by stage."""
        made = run_manifest.read_manifest(self.get_latest_run())
        rows = [
            (
                name,
                str(entry.status),
                entry.seconds,
                entry.sentence or entry.error_message or entry.reason,
            )
            for name, entry in made.stages.items()
        ]
        return Table(
            f"Run {made.run}",
            f"Run {made.run} of {made.project}: {made.status}.",
            pd.DataFrame(rows, columns=["stage", "status", "seconds", "what it says"]),
        )

    def build_current_view(self) -> Any:
        """What there is to show: the stages of the latest run, or why there is none."""
        if self.process is not None and self.process.poll() == KitError.exit_code:
            return self.read_last_message()
        return (
            self.status()
            if run_folder.list_run_folders(self.project.reports_folder)
            else f"{self.project.config.name}: no run yet"
        )

    def _ipython_display_(self) -> None:
        """A live table while a run goes on; the status otherwise."""
        from IPython.display import display

        handle = display(self.build_current_view(), display_id=True)

        def follow() -> None:
            while self.process is not None and self.process.poll() is None:
                handle.update(self.build_current_view())
                time.sleep(1)
            handle.update(self.build_current_view())

        if self.process is not None:
            threading.Thread(target=follow, daemon=True).start()

    def get_run_folder(self, run: str = "") -> Path:
        """The folder of a run; of the latest if none is named."""
        runs = {r.name: r for r in run_folder.list_run_folders(self.project.reports_folder)}
        if run and run not in runs:
            raise KitError(
                f"there is no run {run!r}",
                suggest_names(run, runs) if runs else "a run whose review passed",
                "mlops status",
            )
        return runs[run] if run else self.get_latest_run()

    def read_artifact(self, name: str) -> Any:
        """An artifact of the latest run, by name."""
        return read_run_artifact(self.get_latest_run(), name)

    def load_champion(self) -> ChampionModel:
        """The model that serves."""
        return ChampionModel(self.project, versions.require_champion(self.project))

    def record_decision(self, word: ApprovalOutcome, reason: str, run: str = "") -> Path:
        """Record what the system's user says of a run's version; the folder of the run.

        Raises
        ------
        KitError
            If there is no such run, no reason, or the person may not decide.
        RunFailed
            If the version may not serve whatever a person says.
        """
        folder = self.get_run_folder(run)
        version, present = (
            read_run_artifact(folder, "version")["version"],
            approvals.get_current_promotion(self.project),
        )
        if word == "rejected" and present is not None and present.version == version:
            raise KitError(
                f"version {version} serves already",
                "a version that waits for a decision",
                'mlops rollback --reason "why"',
            )
        approvals.record_approval(
            self.project, versions.load_version(self.project, version), word, getuser(), reason
        )
        return folder

    def approve(
        self, reason: str, run: str = "", say: ProgressReporter | None = None
    ) -> run_manifest.RunManifest:
        """Approve the version of a run that waits (the latest), and go on with the run; its manifest."""
        return self.resume(self.record_decision(ApprovalOutcome.APPROVED, reason, run).name, say)

    def resume(
        self, run: str = "", say: ProgressReporter | None = None
    ) -> run_manifest.RunManifest:
        """Go on where a run (the latest) stopped: it failed, was interrupted, or waited for a decision; its manifest."""
        from mlops_kit.core.progress import ProgressPrinter
        from mlops_kit.pipeline import runner

        return runner.resume_run(
            self.project, self.get_run_folder(run), say or ProgressPrinter(sys.stdout)
        )

    def reject(self, reason: str, run: str = "") -> Path:
        """Reject the version of a run (the latest): it will not serve; the run's folder. One that serves is refused."""
        return self.record_decision(ApprovalOutcome.REJECTED, reason, run)

    def get_report_path(self) -> Path:
        """The page to start from: the latest run's ``index.html``."""
        return self.get_latest_run() / "index.html"
