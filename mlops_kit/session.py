"""The commands' twin for people who live in JupyterLab: ``p = mlops_kit.open()``.

``p.run(sample=5000)`` runs the chain in a process of its own and shows a live table of the stages;
the notebook stays free. Like the command line, this module may compose rooms.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit import config as configs
from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.errors import KitError, RunFailed, Waiting, nearest
from mlops_kit.results import Table

if TYPE_CHECKING:
    import pandas as pd

    from mlops_kit.decisions import Word
    from mlops_kit.pipeline.progress import Say


OPTIONS = {"as_of": "--as-of", "until": "--until", "first": "--from", "last": "--to", "only": "--only", "force": "--force", "note": "--note"}


def words(options: dict[str, Any]) -> list[str]:
    """The options of a call as the command line has them; empty ones are left out.

    >>> words({"first": "train", "force": True, "note": "", "params": {"train.seed": 1}})
    ['-p', 'train.seed=1', '--from', 'train', '--force']

    Raises
    ------
    KitError
        For an option that there is not.
    """
    said = [w for name, value in (options.get("params") or {}).items() for w in ("-p", f"{name}={json.dumps(value)}")]
    for name, value in options.items():
        if name != "params" and name not in OPTIONS:
            raise KitError(f"unknown option {name!r} of run", nearest(name, [*OPTIONS, "params", "sample", "wait"]), "p.run(sample=5000)")
        if name in OPTIONS and value:
            said += [OPTIONS[name]] if value is True else [OPTIONS[name], str(value)]
    return said


class Champion:
    """The model that serves: its facts, and scores for rows as they come."""

    def __init__(self, project: configs.Project, facts: dict[str, Any]) -> None:
        self.project, self.facts = project, facts

    @property
    def version(self) -> str:
        """The version's number."""
        return str(self.facts["version"])

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Score raw rows; a row in, a row out, with prediction id, score and decision."""
        from mlops_kit.deploy import predict

        return predict(self.project, frame)


class Session:
    """A project, opened."""

    def __init__(self, start: str | Path | None = None) -> None:
        self.project = configs.load(start)
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, sample: int = 0, wait: bool = False, **options: Any) -> Session:
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
            raise KitError("a run of this session is still going", "one at a time", "p.status() shows how far it is")
        asked = [*(["--sample", str(sample)] if sample else []), *words(options)]
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("wb") as stream:
            command = [sys.executable, "-m", "mlops_kit.cli", "run", "--project", str(self.project.root), *asked]
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        if wait and self.process.wait() not in (0, Waiting.exit_code):
            raise RunFailed(self.said(), cure="p.status() shows how far it came")
        return self

    @property
    def log(self) -> Path:
        """The file that holds what the session's run says."""
        return self.project.path(".mlops") / "session.log"

    def said(self) -> str:
        """The last words of the session's run: its error, if it has one."""
        text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        return text.rpartition("error: ")[2] if "error: " in text else text.rpartition("\n")[2]

    def latest(self) -> Path:
        """The folder of the latest run."""
        found = stages.runs(self.project.reports)
        if not found:
            raise KitError("there is no run yet", "one in " + self.project.config.reports, "mlops run, or p.run()")
        return found[0]

    def status(self) -> Table:
        """The latest run, stage by stage."""
        import pandas as pd

        from mlops_kit.pipeline import manifest

        made = manifest.read(self.latest())
        rows = [(n, e["status"], e.get("seconds"), e.get("sentence") or (e.get("error") or {}).get("message") or e.get("reason", "")) for n, e in made["stages"].items()]
        return Table(f"Run {made['run']}", f"Run {made['run']} of {made['project']}: {made['status']}.", pd.DataFrame(rows, columns=["stage", "status", "seconds", "what it says"]))

    def now(self) -> Any:
        """What there is to show: the stages of the latest run, or why there is none."""
        refused = self.process is not None and self.process.poll() == KitError.exit_code
        if refused:
            return self.said()
        return self.status() if stages.runs(self.project.reports) else f"{self.project.config.name}: no run yet"

    def _ipython_display_(self) -> None:
        """A live table while a run goes on; the status otherwise."""
        import threading
        import time

        from IPython.display import display

        handle = display(self.now(), display_id=True)

        def follow() -> None:
            while self.process is not None and self.process.poll() is None:
                handle.update(self.now())
                time.sleep(1)
            handle.update(self.now())

        if self.process is not None:
            threading.Thread(target=follow, daemon=True).start()

    def read(self, name: str) -> Any:
        """An artifact of the latest run, by name."""
        run = self.latest()
        return store.read_artifact(run, store.pick(stages.artifacts(run), name, run.name))

    def champion(self) -> Champion:
        """The model that serves."""
        from mlops_kit import tracking

        facts = tracking.champion(self.project)
        if facts is None:
            raise KitError(f"{self.project.config.name} has no champion yet", "a run whose review passed and was approved", "mlops run")
        return Champion(self.project, facts)

    def decide(self, word: Word, reason: str, run: str = "") -> Path:
        """Record what the system's user says of a run's version; the folder of the run.

        Raises
        ------
        KitError
            If there is no such run, no reason, or the person may not decide.
        RunFailed
            If the version may not serve whatever a person says.
        """
        from getpass import getuser

        from mlops_kit import decisions, tracking

        runs = {r.name: r for r in stages.runs(self.project.reports)}
        if run and run not in runs:
            raise KitError(f"there is no run {run!r}", nearest(run, runs) if runs else "a run whose review passed", "mlops status")
        folder = runs[run] if run else self.latest()
        version = store.read_artifact(folder, store.pick(stages.artifacts(folder), "version", folder.name))["version"]
        present = decisions.current(self.project)
        if word == "rejected" and present is not None and present.version == version:
            raise KitError(f"version {version} serves already", "a version that waits for a decision", 'mlops rollback --reason "why"')
        decisions.say(self.project, tracking.facts_of(self.project, version), word, getuser(), reason)
        return folder

    def approve(self, reason: str, run: str = "", say: Say | None = None) -> dict[str, Any]:
        """Approve the version of a run that waits (the latest), and go on with the run; its manifest."""
        from mlops_kit.pipeline import run as chain
        from mlops_kit.pipeline.progress import Teller

        return chain.go_on(self.project, self.decide("approved", reason, run), say or Teller(sys.stdout))

    def reject(self, reason: str, run: str = "") -> Path:
        """Reject the version of a run (the latest): it will not serve; the run's folder. One that serves is refused."""
        return self.decide("rejected", reason, run)

    def report(self) -> Path:
        """The page to start from: the latest run's ``index.html``."""
        return self.latest() / "index.html"
