"""The commands' twin for people who live in JupyterLab: ``p = mlops_kit.open()``.

``p.run(sample=5000)`` runs the chain in a process of its own and shows a live table of the stages;
the notebook stays free. Like the command line, this module may compose rooms.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit import config as configs
from mlops_kit import stage as stages
from mlops_kit import store
from mlops_kit.errors import KitError, RunFailed, Waiting, nearest
from mlops_kit.late import Late, pd
from mlops_kit.results import Table

if TYPE_CHECKING:
    from mlops_kit import decisions, tracking, watch
    from mlops_kit.pipeline import manifest, params
    from mlops_kit.pipeline.progress import Say
else:
    decisions, tracking, watch, manifest, params = map(
        Late,
        (
            "mlops_kit.decisions",
            "mlops_kit.tracking",
            "mlops_kit.watch",
            "mlops_kit.pipeline.manifest",
            "mlops_kit.pipeline.params",
        ),
    )

Act = Callable[[str, dict[str, str]], str]
OPTIONS = {
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


def words(options: dict[str, Any]) -> list[str]:
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
        for w in ("-p", params.as_text(name, value))
    ]
    for name, value in options.items():
        if name != "params" and name not in OPTIONS:
            raise KitError(
                f"unknown option {name!r} of run",
                nearest(name, [*OPTIONS, "params", "sample", "wait"]),
                "p.run(sample=5000)",
            )
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
            raise KitError(
                "a run of this session is still going",
                "one at a time",
                "p.status() shows how far it is",
            )
        asked = [*(["--sample", str(sample)] if sample else []), *words(options)]
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("wb") as stream:
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
            raise KitError(
                "there is no run yet",
                "one in " + self.project.config.reports,
                "mlops run, or p.run()",
            )
        return found[0]

    def status(self) -> Table:
        """The latest run, stage by stage."""
        made = manifest.read(self.latest())
        rows = [
            (
                n,
                e["status"],
                e.get("seconds"),
                e.get("sentence") or (e.get("error") or {}).get("message") or e.get("reason", ""),
            )
            for n, e in made["stages"].items()
        ]
        return Table(
            f"Run {made['run']}",
            f"Run {made['run']} of {made['project']}: {made['status']}.",
            pd.DataFrame(rows, columns=["stage", "status", "seconds", "what it says"]),
        )

    def now(self) -> Any:
        """What there is to show: the stages of the latest run, or why there is none."""
        if self.process is not None and self.process.poll() == KitError.exit_code:
            return self.said()
        return (
            self.status()
            if stages.runs(self.project.reports)
            else f"{self.project.config.name}: no run yet"
        )

    def _ipython_display_(self) -> None:
        """A live table while a run goes on; the status otherwise."""
        from IPython.display import display

        handle = display(self.now(), display_id=True)

        def follow() -> None:
            while self.process is not None and self.process.poll() is None:
                handle.update(self.now())
                time.sleep(1)
            handle.update(self.now())

        if self.process is not None:
            threading.Thread(target=follow, daemon=True).start()

    def folder(self, run: str = "") -> Path:
        """The folder of a run; of the latest if none is named."""
        runs = {r.name: r for r in stages.runs(self.project.reports)}
        if run and run not in runs:
            raise KitError(
                f"there is no run {run!r}",
                nearest(run, runs) if runs else "a run whose review passed",
                "mlops status",
            )
        return runs[run] if run else self.latest()

    def read(self, name: str) -> Any:
        """An artifact of the latest run, by name."""
        return held(self.latest(), name)

    def champion(self) -> Champion:
        """The model that serves."""
        return Champion(self.project, tracking.needed(self.project))

    def decide(self, word: decisions.Word, reason: str, run: str = "") -> Path:
        """Record what the system's user says of a run's version; the folder of the run.

        Raises
        ------
        KitError
            If there is no such run, no reason, or the person may not decide.
        RunFailed
            If the version may not serve whatever a person says.
        """
        folder = self.folder(run)
        version, present = held(folder, "version")["version"], decisions.current(self.project)
        if word == "rejected" and present is not None and present.version == version:
            raise KitError(
                f"version {version} serves already",
                "a version that waits for a decision",
                'mlops rollback --reason "why"',
            )
        decisions.say(
            self.project, tracking.facts_of(self.project, version), word, getuser(), reason
        )
        return folder

    def approve(self, reason: str, run: str = "", say: Say | None = None) -> dict[str, Any]:
        """Approve the version of a run that waits (the latest), and go on with the run; its manifest."""
        return self.resume(self.decide("approved", reason, run).name, say)

    def resume(self, run: str = "", say: Say | None = None) -> dict[str, Any]:
        """Go on where a run (the latest) stopped: it failed, was interrupted, or waited for a decision; its manifest."""
        from mlops_kit.pipeline import run as chain
        from mlops_kit.pipeline.progress import Teller

        return chain.go_on(self.project, self.folder(run), say or Teller(sys.stdout))

    def reject(self, reason: str, run: str = "") -> Path:
        """Reject the version of a run (the latest): it will not serve; the run's folder. One that serves is refused."""
        return self.decide("rejected", reason, run)

    def report(self) -> Path:
        """The page to start from: the latest run's ``index.html``."""
        return self.latest() / "index.html"


def held(run: Path, name: str) -> Any:
    """An artifact of a run, by name."""
    return store.read_artifact(run, store.pick(stages.artifacts(run), name, run.name))


def warm(project: configs.Project) -> None:
    """Load what the first decision would wait for."""
    if stages.runs(project.reports):
        with tracking.connected(project):
            pass


def note(project: configs.Project) -> str:
    """Where MLflow's champion points if not to the version that serves, as a sentence; empty if all is well, or nobody can tell."""
    said = tracking.alias_note(project) if decisions.current(project) is not None else ""
    return f"MLflow's champion {said}. What serves is what was approved." if said else ""


def acts(project: configs.Project) -> dict[str, Act]:
    """What the dashboards' server does when somebody decides: each act is told who, and what the page showed, and answers in a sentence."""
    words: dict[str, decisions.Word] = {
        "approve": "approved",
        "reject": "rejected",
        "ask": "changes",
    }
    rulings = {name: partial(ruled, project, word) for name, word in words.items()}
    return {
        **rulings,
        "rollback": partial(gone_back, project),
        "acknowledge": partial(known, project),
        "retrain": partial(asked_for, project),
    }


def told(said: dict[str, str], *names: str) -> list[str]:
    """What a page must have said.

    Raises
    ------
    KitError
        Naming what is missing.
    """
    for name in names:
        if not said.get(name):
            raise KitError(
                f"the page did not say {name!r}",
                "what it showed when the decision was taken",
                "load the page again",
            )
    return [said[name] for name in names]


def ruled(project: configs.Project, word: decisions.Word, by: str, said: dict[str, str]) -> str:
    """Record what somebody says of the version that a page showed, if it is still that; an approval lets its run go on.

    Raises
    ------
    RunFailed
        If the version's model or evidence is another by now, it serves already, or somebody else has decided since.
    """
    version, run, model, evidence, seen, reason = told(
        said, "version", "run", "model_hash", "evidence_hash", "seen", "reason"
    )
    facts = tracking.facts_of(project, version)
    for what, shown in (("model", model), ("evidence", evidence)):
        if facts[f"{what}_hash"] != shown:
            raise RunFailed(
                f"the {what} of version {version} is not the one that this page shows: {facts[f'{what}_hash'][:12]}",
                shown[:12],
                "load the page again, look at what changed, then decide",
            )
    present = decisions.current(project)
    if present is not None and present.version == version:
        raise RunFailed(
            f"version {version} serves already, approved by {present.by}",
            "a version that waits for a decision",
            "load the page again",
        )
    folder = waiting(project, run, version) if word == "approved" else None
    decisions.say(project, facts, word, by, reason, seen=int(seen))
    if folder is None:
        return {
            "rejected": f"Version {version} is rejected",
            "changes": f"You asked for changes to version {version}",
        }[word] + "; what serves goes on serving."
    apart(project, folder / "logs" / "resume.log", "resume", folder.name)
    return f"Version {version} is approved. Its run goes on now and lets it serve."


def waiting(project: configs.Project, run: str, version: str) -> Path:
    """The folder of a run that waits for a decision on this version.

    Raises
    ------
    RunFailed
        If it waits no more, or is another version's.
    """
    folder = next((r for r in stages.runs(project.reports) if r.name == run), None)
    status = manifest.read(folder)["status"] if folder else "gone"
    if folder is None or status != stages.WAITING:
        raise RunFailed(
            f"run {run} does not wait for an approval: it is {status}",
            f"a run that is {stages.WAITING}",
            "mlops run makes one",
        )
    made = held(folder, "version")["version"]
    if made != version:
        raise RunFailed(
            f"run {run} made version {made}, not {version}",
            "the run that made it",
            "load the page again",
        )
    return folder


def apart(project: configs.Project, log: Path, *verb: str) -> None:
    """Start a command in a process of its own, which outlives the server; what it says is kept in a file."""
    command = [sys.executable, "-m", "mlops_kit.cli", *verb, "--project", str(project.root)]

    def follow() -> None:
        with log.open("ab") as stream:
            subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
                check=False,
            )

    log.parent.mkdir(exist_ok=True)
    threading.Thread(target=follow, daemon=True).start()


def known(project: configs.Project, by: str, said: dict[str, str]) -> str:
    """Record that somebody knows of an incident that a page showed, and what they make of it.

    Raises
    ------
    KitError
        If the page named no incident.
    RunFailed
        If it is over, or somebody has acknowledged it before.
    """
    from mlops_kit.monitor import incidents

    number, reason = told(said, "id", "reason")
    if not number.isdecimal() or len(number) > 15:
        raise KitError(
            f"{number!r} is no incident's number",
            "the one that the page showed",
            "load the page again",
        )
    found = incidents.acknowledge(project, int(number), by, reason)
    return f"{found.title}: others now see that you know. It stays open until it is over."


def asked_for(project: configs.Project, by: str, said: dict[str, str]) -> str:
    """Ask for a new version as of where the watch stands, and let the watch make it; one that goes on already takes it up.

    Raises
    ------
    RunFailed
        If a retraining is on its way already.
    """
    made = watch.ask(project, by, *told(said, "reason"))
    apart(project, project.path(".mlops") / "watch.log", "watch", "--once", "--as-of", made.moment)
    return "A new version is being made; the page says what becomes of it."


def gone_back(project: configs.Project, by: str, said: dict[str, str]) -> str:
    """Let the version serve that served before the one that a page showed.

    Raises
    ------
    RunFailed
        If another one serves by now.
    """
    version, reason = told(said, "version", "reason")
    present = decisions.current(project)
    if present is None or present.version != version:
        raise RunFailed(
            f"version {present.version if present else 'none'} serves by now, not {version}",
            "the version that the page showed",
            "load the page again, then decide",
        )
    done = tracking.rollback(project, by, reason)
    return f"Version {done['version']} serves again; version {version} does not."
