"""``mlops watch``: the daily round. Score what is new, import labels, monitor, tell, decide, retrain.

A pass is *as of* a moment and sees nothing later, so that a past quarter can be lived in minutes. Each
step is one transaction with its own mark in the database, and what a killed pass has not marked the
next one does: no row is scored twice, no window is judged twice. A retraining is the chain of
notebooks; it goes on where it was killed, as every run does. Like the command line, this may compose rooms.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from filelock import FileLock, Timeout

from mlops_kit import config as configs
from mlops_kit import decisions, sources, tracking
from mlops_kit.database import (
    DUE,
    Incident,
    Prediction,
    Retraining,
    Watch,
    Window,
    now,
    rows,
    session,
    stamp,
)
from mlops_kit.deploy import batch, labels, predictions
from mlops_kit.errors import KitError, RunFailed
from mlops_kit.late import pd
from mlops_kit.monitor import incidents, windows
from mlops_kit.pipeline.progress import Say
from mlops_kit.results import number, percent, plain, revive
from mlops_kit.retrain import policy
from mlops_kit.stage import WAITING

AT_ONCE = 20_000  # rows scored in one transaction
LATE = timedelta(days=7)  # how late a row may turn up in the source and still be scored
FEW = 0.5  # a window with less than this share of the usual rows is told
LABELLED = 0.8  # a window of which fewer rows have their label, though it is due, is told


class Watcher:
    """The watch over one project, and what it keeps between two passes."""

    def __init__(self, project: configs.Project, say: Say) -> None:
        if project.config.time is None:
            raise KitError(
                "a table without time cannot be watched",
                "'time' in mlops.yaml: the column with the moment of prediction",
                "mlops run scores the rows without a label",
            )
        self.project, self.config, self.say = project, project.config, say
        self.history = sources.History(project)
        self.number, self.facts, self.model = 0, dict[str, Any](), None
        self.references: dict[str, windows.Reference] = {}

    def serving(self) -> tuple[dict[str, Any], Any]:
        """The champion's facts and model, loaded anew only after a promotion."""
        present = decisions.current(self.project)
        if present is None or present.number != self.number:
            self.facts, self.model = tracking.serving(self.project)
            self.number = present.number if present else 0
        return self.facts, self.model

    def reference(self, version: str) -> windows.Reference:
        """What a version was judged on."""
        if version not in self.references:
            self.references[version] = windows.reference(
                self.project, tracking.facts_of(self.project, version)
            )
        return self.references[version]

    def once(self, at: datetime, since: datetime | None = None) -> None:
        """One pass as of a moment."""
        state = self.begin(at, since)
        self.follow_up(at)
        scored = self.score(state, at)
        counts = labels.collect(
            self.project, self.history.upto(at, labels.earliest(self.project)), at
        )
        joined = counts.get("joined", 0) + counts.get("corrected", 0)
        odd = {w: n for w, n in counts.items() if w in {"unknown", "refused"} and n}
        self.say(
            f"{local(self.config, at)}: {number(scored)} rows scored, {number(joined)} labels"
            + "".join(f", {number(n)} {w}" for w, n in odd.items()),
            passing=True,
        )
        for start, end in self.unseen(state, at):
            self.look(start, end, at)
        due = [
            w
            for w in self.windows()
            if w.settled is None and datetime.fromisoformat(w.end) + self.config.label_delay <= at
        ]
        for window in due:
            self.settle(
                window,
                at,
                ""
                if window is due[-1]
                else "A later window is settled in the same pass, and decides.",
            )
        self.follow_up(at)

    def begin(self, at: datetime, since: datetime | None) -> Watch:
        """The mark of how far the watch has come; the first pass makes it."""
        self.serving()
        with session(self.project) as opened:
            state = opened.get(Watch, self.config.name)
            if state is None:
                begin = since or datetime.fromisoformat(self.facts["as_of"])
                state = Watch(self.config.name, stamp(begin), stamp(begin), now())
                opened.add(state)
            return state

    def score(self, state: Watch, at: datetime) -> int:
        """Score what is new, then move the mark; a row that turns up late is scored too."""
        facts, model = self.serving()
        upto, since = datetime.fromisoformat(state.upto), datetime.fromisoformat(state.since)
        first = max(since, upto - LATE)
        history = self.history.upto(at, first - (self.config.look_back or timedelta(days=36500)))
        fresh = self.fresh(history, first)
        for begin in range(0, len(fresh), AT_ONCE):
            some = fresh.iloc[begin : begin + AT_ONCE].reset_index(drop=True)
            out, inputs = batch.answer(self.project, model, facts, some, history)
            with session(self.project) as opened:
                predictions.write(
                    opened, predictions.listed(self.project, facts, out, inputs, "watch", stamp(at))
                )
        if stamp(at) > state.upto:
            with session(self.project) as opened:
                opened.execute(
                    sa.update(Watch)
                    .where(Watch.model == self.config.name)
                    .values(upto=stamp(at), at=now())
                )
        return len(fresh)

    def fresh(self, history: pd.DataFrame, first: datetime) -> pd.DataFrame:
        """The rows from a moment on that nobody has scored."""
        recent = history[history[self.config.time] >= first].reset_index(drop=True)
        done = set(
            rows(
                self.project,
                sa.select(Prediction.key).where(
                    Prediction.model == self.config.name,
                    Prediction.origin == "watch",
                    Prediction.moment >= stamp(first),
                ),
            )
        )
        named = [
            predictions.named_row(k)
            for k in recent[sources.keys(self.project)].itertuples(index=False, name=None)
        ]
        return recent[[k not in done for k in named]].reset_index(drop=True)

    def unseen(self, state: Watch, at: datetime) -> list[tuple[datetime, datetime]]:
        """The windows that have ended and were not looked at; those after the newest row are none."""
        seen = {w.start for w in self.windows()}
        last = (
            rows(
                self.project,
                sa.select(sa.func.max(Prediction.moment)).where(
                    Prediction.model == self.config.name
                ),
            )[0]
            or ""
        )
        ended = windows.ended(datetime.fromisoformat(state.since), at, self.config.watch.window)
        return [(a, b) for a, b in ended if stamp(a) not in seen and stamp(a) <= last]

    def answered(
        self, start: datetime, end: datetime, version: str = ""
    ) -> tuple[pd.DataFrame, str, dict[str, int]]:
        """A window's answers of one version (the last that gave enough of them, or most), that version, and rows by version."""
        found = predictions.between(self.project, start, end)
        counted = {str(v): int(n) for v, n in found["version"].value_counts().items()}
        enough = [
            v
            for v in found["version"].iloc[::-1].unique()
            if counted[v] >= self.config.monitor.rows
        ]
        chosen = version or (enough or [*counted, self.serving()[0]["version"]])[0]
        return found[found["version"] == chosen].reset_index(drop=True), chosen, counted

    def look(self, start: datetime, end: datetime, at: datetime) -> None:
        """Monitor a window without labels, once; raise what persists."""
        found, version, counted = self.answered(start, end)
        known = self.reference(version)
        made = {
            **windows.look(self.project, known, found, predictions.unpacked(found, known.features)),
            "names": plain(counted),
        }
        before = self.windows()
        looks = [
            *(revive(json.loads(w.looked)) for w in before[-incidents.RECENT + 1 :]),
            revive(made),
        ]
        usual = sorted(json.loads(w.looked)["rows"] for w in before)
        causes = [
            *incidents.drifts(looks, known.promise.value if known.promise else None, self.config),
            *incidents.proven(v for v in looks[-1]["verdicts"] if v.check == "schema"),
            *few_rows(sum(counted.values()), usual),
        ]
        with session(self.project) as opened:
            opened.add(
                Window(
                    self.config.name, stamp(start), stamp(end), version, stamp(at), json.dumps(made)
                )
            )
            told = incidents.update(
                opened,
                self.config.name,
                {"drift", "schema", "volume"},
                causes,
                stamp(at),
                f"over by {local(self.config, at)}",
            )
        self.tell(
            at,
            [
                f"{local(self.config, start)} to {local(self.config, end)} monitored: {number(len(found))} rows of version {version}, estimated {made['estimated']['value'] and round(made['estimated']['value'], 3)}",
                *told,
            ],
        )

    def windows(self) -> list[Window]:
        """The windows monitored so far, in order."""
        return rows(
            self.project,
            sa.select(Window).where(Window.model == self.config.name).order_by(Window.start),
        )

    def settle(self, window: Window, at: datetime, later: str) -> None:
        """Hold a window's labels against the promise, once; raise or close incidents; decide on retraining unless a later one does."""
        found, _, _ = self.answered(
            datetime.fromisoformat(window.start), datetime.fromisoformat(window.end), window.version
        )
        looked, facts = revive(json.loads(window.looked)), self.serving()[0]
        earlier = [
            json.loads(w.settled)["gap"]
            for w in self.windows()
            if w.settled and w.start < window.start and w.version == window.version
        ]
        made = windows.settle(
            self.project, self.reference(window.version), found, looked, run_of(earlier)
        )
        told = revive(made)
        pending, last = self.pending()
        age = at - datetime.fromisoformat(facts["as_of"])
        decided = policy.decide(
            looked["drift"],
            told["realised"],
            told["verdicts"],
            self.config,
            policy.labelled(told["realised"]),
            age,
            at - last if last else None,
            later or pending,
        )
        causes = [
            *incidents.proven(v for v in told["verdicts"] if v.check != "schema"),
            *few_labels(made["labelled"], len(found)),
        ]
        with session(self.project) as opened:
            opened.execute(
                sa.update(Window)
                .where(Window.id == window.id, Window.settled.is_(None))
                .values(
                    settled_at=stamp(at), settled=json.dumps({**made, "decision": plain(decided)})
                )
            )
            said = incidents.update(
                opened,
                self.config.name,
                {"realised", "gap", "labels"},
                causes,
                stamp(at),
                f"version {facts['version']} serves; over by {local(self.config, at)}",
            )
            opened.add(
                Retraining(
                    self.config.name,
                    stamp(datetime.fromisoformat(window.end) + self.config.label_delay),
                    decided["action"],
                    decided["reason"],
                    "policy",
                    now(),
                    DUE if decided["retrain"] else "",
                )
            )
        self.tell(
            at,
            [
                f"{local(self.config, datetime.fromisoformat(window.start))} to {local(self.config, datetime.fromisoformat(window.end))} settled: {told['realised'].sentence}",
                *said,
                f"retrain? {decided['reason']}",
            ],
        )

    def pending(self) -> tuple[str, datetime | None]:
        """What a retraining would have to wait for, in words; and when the last one was that led to a run."""
        made = rows(
            self.project,
            sa.select(Retraining)
            .where(Retraining.model == self.config.name, Retraining.action == "retrain")
            .order_by(Retraining.moment.desc()),
        )
        waiting = next((r for r in made if r.state in {DUE, WAITING}), None)
        return (
            f"The new version of {waiting.run or 'a retraining'} waits for a decision."
            if waiting
            else "",
            datetime.fromisoformat(made[0].moment) if made else None,
        )

    def follow_up(self, at: datetime) -> None:
        """Run the retrainings that are due; see what became of those that waited for a person."""
        from mlops_kit.pipeline import manifest

        for row in rows(
            self.project,
            sa.select(Retraining)
            .where(Retraining.model == self.config.name, Retraining.state.in_([DUE, WAITING]))
            .order_by(Retraining.id),
        ):
            if row.state == DUE:
                self.retrain(row, at)
            elif (self.project.reports / row.run / manifest.FILE).exists():
                status = manifest.read(self.project.reports / row.run)["status"]
                if status != WAITING:
                    self.mark(row, status, row.run, at)

    def retrain(self, row: Retraining, at: datetime) -> None:
        """Run the chain up to deploy as of now."""
        from mlops_kit.pipeline import run as chain

        project = self.project.with_values("the watch", as_of=at, until=at)
        self.tell(at, [f"retraining, decided by {row.by}"])
        made = chain.run(
            project,
            chain.selected(project, first="prepare", last="deploy"),
            {},
            False,
            f"retraining decided by {row.by}: {row.reason}",
            self.say,
        )
        self.mark(row, made["status"], made["run"], at)
        said = made["stages"]["deploy"].get("sentence") or (chain.failure(made) or "")
        self.tell(at, [f"retraining {made['run']}: {made['status']}. {said}"])

    def mark(self, row: Retraining, state: str, run: str, at: datetime) -> None:
        """File what became of a retraining; one that led to nothing is an incident until the next that does."""
        cause = incidents.Cause(
            "retraining", "watch", "A retraining led to no new version", f"Run {run}: {state}."
        )
        with session(self.project) as opened:
            opened.execute(
                sa.update(Retraining).where(Retraining.id == row.id).values(state=state, run=run)
            )
            if state != WAITING:
                incidents.update(
                    opened,
                    self.config.name,
                    {"retraining"},
                    [] if state == "succeeded" else [cause],
                    stamp(at),
                    f"run {run}",
                )

    def tell(self, at: datetime, lines: list[str]) -> None:
        """Say what happened, each line with the moment it happened at."""
        for line in lines:
            self.say(f"{local(self.config, at)}  {line}")


def local(config: configs.Config, moment: datetime) -> str:
    """A moment in the project's zone, without a clock at midnight."""
    return (
        moment.astimezone(ZoneInfo(config.timezone))
        .strftime("%Y-%m-%d %H:%M")
        .removesuffix(" 00:00")
    )


def run_of(flags: list[bool]) -> int:
    """How many true ones stand at the end.

    >>> run_of([True, False, True, True])
    2
    """
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))


def few_rows(count: int, usual: list[int]) -> list[incidents.Cause]:
    """Far fewer rows than the windows before had."""
    middle = usual[len(usual) // 2] if usual else 0
    return (
        [
            incidents.Cause(
                "volume",
                "watch",
                "Fewer rows than usual",
                f"{number(count)} rows in the window, usual {number(middle)}.",
            )
        ]
        if count < FEW * middle
        else []
    )


def few_labels(labelled: int, count: int) -> list[incidents.Cause]:
    """Labels that are due and have not come."""
    share = labelled / count if count else 1.0
    return (
        [
            incidents.Cause(
                "labels",
                "watch",
                "Labels are missing",
                f"Only {percent(share)} of {number(count)} rows have their label, though it is due.",
            )
        ]
        if share < LABELLED
        else []
    )


@contextmanager
def alone(project: configs.Project, say: Say) -> Iterator[Watcher]:
    """The watch over a project, one at a time; a dead one holds nothing.

    Raises
    ------
    RunFailed
        If another goes on.
    """
    try:
        held = FileLock(project.path(".mlops") / "watch.lock").acquire(timeout=0)
    except Timeout as error:
        raise RunFailed(
            "another watch of this project goes on",
            "one at a time",
            "stop it first, or leave it to its work",
        ) from error
    with held:
        yield Watcher(project, say)


def live(project: configs.Project, since: datetime | None, until: datetime, say: Say) -> str:
    """Live a past stretch of time pass by pass, from where the watch has come to; what became of it, in a sentence."""
    with alone(project, say) as watcher:
        state = watcher.begin(until, since)
        begin = datetime.fromisoformat(state.upto)
        if since is not None and stamp(since) < state.since:
            raise KitError(
                f"the watch began {local(project.config, datetime.fromisoformat(state.since))}, after --since {local(project.config, since)}",
                "a moment at or after its beginning",
                "leave --since out: it goes on where it stands",
            )
        passes = pd.date_range(begin, until, freq=project.config.watch.every, inclusive="left")
        for at in sorted(
            {*passes.to_pydatetime(), max(begin, until)}
        ):  # the first too: a pass that was killed after its mark has its labels and windows still to do
            watcher.once(at)
        return summary(project)


def keep(project: configs.Project, until: datetime | None, say: Say) -> str:
    """Pass after pass by the clock, until a moment or until somebody stops it."""
    with alone(project, say) as watcher:
        while True:
            at = datetime.now(UTC)
            watcher.once(at)
            following = at + project.config.watch.every
            if until is not None and following > until:
                return summary(project)
            say(f"the next pass is at {local(project.config, following)}", passing=True)
            time.sleep(max(0.0, (following - datetime.now(UTC)).total_seconds()))


def once(project: configs.Project, at: datetime, say: Say) -> str:
    """One pass."""
    with alone(project, say) as watcher:
        watcher.once(at)
        return summary(project)


def ask(project: configs.Project, by: str, why: str) -> Retraining:
    """Record that somebody wants a new model, as of where the watch stands; its next pass makes it.

    Raises
    ------
    KitError
        If there is no reason, the person may not, or nothing is watched yet.
    RunFailed
        If a retraining is on its way already.
    """
    if not why.strip():
        raise KitError(
            "a retraining needs a reason", "a sentence that others can read later", "say why"
        )
    decisions.may(project.config.people, by, approves=False)
    state = rows(project, sa.select(Watch).where(Watch.model == project.config.name))
    if not state:
        raise KitError(
            "nothing is watched yet",
            "a pass of the watch",
            "mlops watch --once, or mlops run for a new model",
        )
    going = rows(
        project,
        sa.select(Retraining).where(
            Retraining.model == project.config.name, Retraining.state.in_([DUE, WAITING])
        ),
    )
    if going:
        raise RunFailed(
            f"a retraining is on its way already, decided by {going[0].by}",
            "one at a time",
            "wait for it; the page says what became of it",
        )
    made = Retraining(project.config.name, state[0].upto, "retrain", why.strip(), by, now(), DUE)
    try:
        with session(project) as opened:
            opened.add(made)
    except sa.exc.IntegrityError as error:
        raise RunFailed(
            f"{by} has asked for a retraining as of {local(project.config, datetime.fromisoformat(state[0].upto))} before",
            "a later moment",
            "mlops watch goes on to one",
        ) from error
    return made


def summary(project: configs.Project) -> str:
    """How things stand, in a sentence."""
    made = rows(project, sa.select(Window).where(Window.model == project.config.name))
    runs = rows(
        project,
        sa.select(Retraining).where(Retraining.model == project.config.name, Retraining.run != ""),
    )
    still = rows(
        project,
        sa.select(Incident).where(Incident.model == project.config.name, Incident.closed.is_(None)),
    )
    present = decisions.current(project)
    upto = rows(project, sa.select(Watch.upto).where(Watch.model == project.config.name))[0]
    retrained = f"{len(runs)} retraining{'s' if len(runs) != 1 else ''}"
    return f"Up to {local(project.config, datetime.fromisoformat(upto))}: {len(made)} windows monitored, {retrained}, {len(still)} open incident{'s' if len(still) != 1 else ''}; version {present.version if present else 'none'} serves."
