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

import sqlalchemy as sa
from filelock import FileLock, Timeout

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.data import columns, labels, source
from mlops_kit.db import approvals, predictions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import (
    RETRAINING_DUE,
    PredictionRecord,
    RetrainingRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project import loader
from mlops_kit.project.run_manifest import RunStatus
from mlops_kit.registry import scoring, versions
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.retrain import policy
from mlops_kit.watch.signals import detect_low_volume, detect_missing_labels
from mlops_kit.watch.status import format_local_time, summarize_watch
from mlops_kit.watch.windows import (
    ReferenceData,
    analyze_labeled_window,
    analyze_unlabeled_window,
    count_trailing_true,
    list_ended_windows,
    load_reference,
)

_MAX_SCORING_BATCH_ROWS = 20_000  # rows scored in one transaction
_LATE_ROW_GRACE = timedelta(days=7)  # how late a row may turn up in the source and still be scored


class Watcher:
    """The watch over one project, and what it keeps between two passes."""

    def __init__(self, project: loader.Project, say: ProgressReporter) -> None:
        if project.config.time is None:
            raise KitError(
                "a table without time cannot be watched",
                "'time' in mlops.yaml: the column with the moment of prediction",
                "mlops run scores the rows without a label",
            )
        self.project, self.config, self.report = project, project.config, say
        self.history = source.SourceHistory(project)
        self.promotion_number = 0
        self.champion_facts: versions.ModelVersion | None = None
        self.champion_model: Any = None
        self.references: dict[str, ReferenceData] = {}

    def get_champion(self) -> tuple[versions.ModelVersion, Any]:
        """The champion's facts and model, loaded anew only after a promotion."""
        present = approvals.get_current_promotion(self.project)
        if (
            self.champion_facts is None
            or present is None
            or present.number != self.promotion_number
        ):
            self.champion_facts, self.champion_model = versions.load_champion(self.project)
            self.promotion_number = present.number if present else 0
        return self.champion_facts, self.champion_model

    def get_reference(self, version: str) -> ReferenceData:
        """What a version was judged on."""
        if version not in self.references:
            self.references[version] = load_reference(
                self.project, versions.load_version(self.project, version)
            )
        return self.references[version]

    def run_pass(self, at: datetime, since: datetime | None = None) -> None:
        """One pass as of a moment."""
        state = self.load_progress(at, since)
        self.follow_up_retrainings(at)
        scored = self.score_new_rows(state, at)
        counts = labels.import_labels(
            self.project,
            self.history.read_until(at, labels.find_earliest_unlabeled(self.project)),
            at,
        )
        joined = counts.get("joined", 0) + counts.get("corrected", 0)
        odd = {w: n for w, n in counts.items() if w in {"unknown", "refused"} and n}
        self.report(
            f"{format_local_time(self.config, at)}: {format_number(scored)} rows scored, {format_number(joined)} labels"
            + "".join(f", {format_number(n)} {w}" for w, n in odd.items()),
            transient=True,
        )
        for start, end in self.list_unmonitored_windows(state, at):
            self.monitor_window(start, end, at)
        due = [
            w
            for w in self.list_monitored_windows()
            if w.realized_json is None
            and datetime.fromisoformat(w.end) + self.config.label_delay <= at
        ]
        for window in due:
            self.evaluate_labels(
                window,
                at,
                ""
                if window is due[-1]
                else "A later window is settled in the same pass, and decides.",
            )
        self.follow_up_retrainings(at)

    def load_progress(self, at: datetime, since: datetime | None) -> WatchRecord:
        """The mark of how far the watch has come; the first pass makes it."""
        champion, _ = self.get_champion()
        with open_transaction(self.project) as opened:
            state = opened.get(WatchRecord, self.config.name)
            if state is None:
                begin = since or datetime.fromisoformat(champion.as_of)
                state = WatchRecord(
                    self.config.name,
                    format_timestamp(begin),
                    format_timestamp(begin),
                    current_timestamp(),
                )
                opened.add(state)
            return state

    def score_new_rows(self, state: WatchRecord, at: datetime) -> int:
        """Score what is new, then move the mark; a row that turns up late is scored too."""
        facts, model = self.get_champion()
        upto, since = (
            datetime.fromisoformat(state.watched_until),
            datetime.fromisoformat(state.watched_from),
        )
        first = max(since, upto - _LATE_ROW_GRACE)
        history = self.history.read_until(
            at, first - (self.config.lookback or timedelta(days=36500))
        )
        fresh = self.select_unscored_rows(history, first)
        for begin in range(0, len(fresh), _MAX_SCORING_BATCH_ROWS):
            some = fresh.iloc[begin : begin + _MAX_SCORING_BATCH_ROWS].reset_index(drop=True)
            out, inputs = scoring.score_with_inputs(self.project, model, facts, some, history)
            with open_transaction(self.project) as opened:
                predictions.insert_predictions(
                    opened,
                    scoring.build_prediction_records(
                        self.project, facts, out, inputs, "watch", format_timestamp(at)
                    ),
                )
        if format_timestamp(at) > state.watched_until:
            with open_transaction(self.project) as opened:
                opened.execute(
                    sa.update(WatchRecord)
                    .where(WatchRecord.model == self.config.name)
                    .values(watched_until=format_timestamp(at), updated_at=current_timestamp())
                )
        return len(fresh)

    def select_unscored_rows(self, history: pd.DataFrame, first: datetime) -> pd.DataFrame:
        """The rows from a moment on that nobody has scored."""
        recent = history[history[self.config.time] >= first].reset_index(drop=True)
        done = set(
            query_records(
                self.project,
                sa.select(PredictionRecord.row_key).where(
                    PredictionRecord.model == self.config.name,
                    PredictionRecord.origin == "watch",
                    PredictionRecord.event_time >= format_timestamp(first),
                ),
            )
        )
        named = [
            predictions.encode_row_key(k)
            for k in recent[columns.list_key_columns(self.project)].itertuples(
                index=False, name=None
            )
        ]
        return recent[[k not in done for k in named]].reset_index(drop=True)

    def list_unmonitored_windows(
        self, state: WatchRecord, at: datetime
    ) -> list[tuple[datetime, datetime]]:
        """The windows that have ended and were not looked at; those after the newest row are none."""
        seen = {w.start for w in self.list_monitored_windows()}
        last = (
            query_records(
                self.project,
                sa.select(sa.func.max(PredictionRecord.event_time)).where(
                    PredictionRecord.model == self.config.name
                ),
            )[0]
            or ""
        )
        ended = list_ended_windows(
            datetime.fromisoformat(state.watched_from), at, self.config.watch.window
        )
        return [
            (a, b)
            for a, b in ended
            if format_timestamp(a) not in seen and format_timestamp(a) <= last
        ]

    def select_window_predictions(
        self, start: datetime, end: datetime, version: str = ""
    ) -> tuple[pd.DataFrame, str, dict[str, int]]:
        """A window's answers of one version (the last that gave enough of them, or most), that version, and rows by version."""
        found = predictions.load_labeled_predictions(self.project, start, end)
        counted = {str(v): int(n) for v, n in found["version"].value_counts().items()}
        enough = [
            v
            for v in found["version"].iloc[::-1].unique()
            if counted[v] >= self.config.monitor.min_rows
        ]
        chosen = version or (enough or [*counted, self.get_champion()[0].version])[0]
        return found[found["version"] == chosen].reset_index(drop=True), chosen, counted

    def monitor_window(self, start: datetime, end: datetime, at: datetime) -> None:
        """Monitor a window without labels, once; raise what persists."""
        found, version, counted = self.select_window_predictions(start, end)
        known = self.get_reference(version)
        made = {
            **analyze_unlabeled_window(
                self.project,
                known,
                found,
                predictions.decode_feature_values(found, known.feature_names),
            ),
            "names": to_json_value(counted),
        }
        before = self.list_monitored_windows()
        looks = [
            *(
                from_json_value(json.loads(w.monitoring_json))
                for w in before[-incidents.RECENT_WINDOWS + 1 :]
            ),
            from_json_value(made),
        ]
        usual = sorted(json.loads(w.monitoring_json)["rows"] for w in before)
        causes = [
            *incidents.detect_costly_drift(
                looks, known.performance.value if known.performance else None, self.config
            ),
            *incidents.detect_proven_failures(
                v for v in looks[-1]["verdicts"] if v.check == "schema"
            ),
            *detect_low_volume(sum(counted.values()), usual),
        ]
        with open_transaction(self.project) as opened:
            opened.add(
                WindowRecord(
                    self.config.name,
                    format_timestamp(start),
                    format_timestamp(end),
                    version,
                    format_timestamp(at),
                    json.dumps(made),
                )
            )
            told = incidents.update_incidents(
                opened,
                self.config.name,
                {"drift", "schema", "volume"},
                causes,
                format_timestamp(at),
                f"over by {format_local_time(self.config, at)}",
            )
        self.report_lines(
            at,
            [
                f"{format_local_time(self.config, start)} to {format_local_time(self.config, end)} monitored: {format_number(len(found))} rows of version {version}, estimated {made['estimated']['value'] and round(made['estimated']['value'], 3)}",
                *told,
            ],
        )

    def list_monitored_windows(self) -> list[WindowRecord]:
        """The windows monitored so far, in order."""
        return query_records(
            self.project,
            sa.select(WindowRecord)
            .where(WindowRecord.model == self.config.name)
            .order_by(WindowRecord.start),
        )

    def evaluate_labels(self, window: WindowRecord, at: datetime, later: str) -> None:
        """Hold a window's labels against the promise, once; raise or close incidents; decide on retraining unless a later one does."""
        found, _, _ = self.select_window_predictions(
            datetime.fromisoformat(window.start), datetime.fromisoformat(window.end), window.version
        )
        looked, facts = from_json_value(json.loads(window.monitoring_json)), self.get_champion()[0]
        earlier = [
            json.loads(w.realized_json)["gap"]
            for w in self.list_monitored_windows()
            if w.realized_json and w.start < window.start and w.version == window.version
        ]
        made = analyze_labeled_window(
            self.project,
            self.get_reference(window.version),
            found,
            looked,
            count_trailing_true(earlier),
        )
        told = from_json_value(made)
        pending, last = self.get_pending_retraining()
        age = at - datetime.fromisoformat(facts.as_of)
        decided = policy.decide_retraining(
            looked["drift"],
            told["realised"],
            told["verdicts"],
            self.config,
            policy.count_labeled_rows(told["realised"]),
            age,
            at - last if last else None,
            later or pending,
        )
        causes = [
            *incidents.detect_proven_failures(v for v in told["verdicts"] if v.check != "schema"),
            *detect_missing_labels(made["labeled"], len(found)),
        ]
        with open_transaction(self.project) as opened:
            opened.execute(
                sa.update(WindowRecord)
                .where(WindowRecord.id == window.id, WindowRecord.realized_json.is_(None))
                .values(
                    realized_at=format_timestamp(at),
                    realized_json=json.dumps({**made, "decision": to_json_value(decided)}),
                )
            )
            said = incidents.update_incidents(
                opened,
                self.config.name,
                {"realised", "gap", "labels"},
                causes,
                format_timestamp(at),
                f"version {facts.version} serves; over by {format_local_time(self.config, at)}",
            )
            opened.add(
                RetrainingRecord(
                    self.config.name,
                    format_timestamp(datetime.fromisoformat(window.end) + self.config.label_delay),
                    decided["action"],
                    decided["reason"],
                    "policy",
                    current_timestamp(),
                    RETRAINING_DUE if decided["retrain"] else "",
                )
            )
        self.report_lines(
            at,
            [
                f"{format_local_time(self.config, datetime.fromisoformat(window.start))} to {format_local_time(self.config, datetime.fromisoformat(window.end))} settled: {told['realised'].sentence}",
                *said,
                f"retrain? {decided['reason']}",
            ],
        )

    def get_pending_retraining(self) -> tuple[str, datetime | None]:
        """What a retraining would have to wait for, in words; and when the last one was that led to a run."""
        made = query_records(
            self.project,
            sa.select(RetrainingRecord)
            .where(RetrainingRecord.model == self.config.name, RetrainingRecord.action == "retrain")
            .order_by(RetrainingRecord.as_of.desc()),
        )
        waiting = next(
            (r for r in made if r.status in {RETRAINING_DUE, RunStatus.WAITING_FOR_APPROVAL}), None
        )
        return (
            f"The new version of {waiting.run_id or 'a retraining'} waits for a decision."
            if waiting
            else "",
            datetime.fromisoformat(made[0].as_of) if made else None,
        )

    def follow_up_retrainings(self, at: datetime) -> None:
        """Run the retrainings that are due; see what became of those that waited for a person."""
        from mlops_kit.project import run_manifest

        for row in query_records(
            self.project,
            sa.select(RetrainingRecord)
            .where(
                RetrainingRecord.model == self.config.name,
                RetrainingRecord.status.in_([RETRAINING_DUE, RunStatus.WAITING_FOR_APPROVAL]),
            )
            .order_by(RetrainingRecord.id),
        ):
            if row.status == RETRAINING_DUE:
                self.run_retraining(row, at)
            elif (self.project.reports_folder / row.run_id / run_manifest.MANIFEST_FILE).exists():
                status = run_manifest.read_manifest(self.project.reports_folder / row.run_id).status
                if status != RunStatus.WAITING_FOR_APPROVAL:
                    self.record_retraining_outcome(row, status, row.run_id, at)

    def run_retraining(self, row: RetrainingRecord, at: datetime) -> None:
        """Run the chain up to deploy as of now."""
        from mlops_kit.pipeline import runner

        project = self.project.with_values("the watch", as_of=at, until=at)
        self.report_lines(at, [f"retraining, decided by {row.actor}"])
        made = runner.run_pipeline(
            project,
            runner.select_stages(project, first="prepare", last="deploy"),
            {},
            self.report,
            note=f"retraining decided by {row.actor}: {row.reason}",
        )
        self.record_retraining_outcome(row, made.status, made.run, at)
        said = made.get_stage("deploy").sentence or (runner.find_run_error(made) or "")
        self.report_lines(at, [f"retraining {made.run}: {made.status}. {said}"])

    def record_retraining_outcome(
        self, row: RetrainingRecord, state: str, run: str, at: datetime
    ) -> None:
        """File what became of a retraining; one that led to nothing is an incident until the next that does."""
        cause = incidents.IncidentSignal(
            "retraining", "watch", "A retraining led to no new version", f"Run {run}: {state}."
        )
        with open_transaction(self.project) as opened:
            opened.execute(
                sa.update(RetrainingRecord)
                .where(RetrainingRecord.id == row.id)
                .values(status=state, run_id=run)
            )
            if state != RunStatus.WAITING_FOR_APPROVAL:
                incidents.update_incidents(
                    opened,
                    self.config.name,
                    {"retraining"},
                    [] if state == "succeeded" else [cause],
                    format_timestamp(at),
                    f"run {run}",
                )

    def report_lines(self, at: datetime, lines: list[str]) -> None:
        """Say what happened, each line with the moment it happened at."""
        for line in lines:
            self.report(f"{format_local_time(self.config, at)}  {line}")


@contextmanager
def open_watcher(project: loader.Project, say: ProgressReporter) -> Iterator[Watcher]:
    """The watch over a project, one at a time; a dead one holds nothing.

    Raises
    ------
    RunFailed
        If another goes on.
    """
    try:
        held = FileLock(project.resolve_path(".mlops") / "watch.lock").acquire(timeout=0)
    except Timeout as error:
        raise RunFailedError(
            "another watch of this project goes on",
            "one at a time",
            "stop it first, or leave it to its work",
        ) from error
    with held:
        yield Watcher(project, say)


def replay_period(
    project: loader.Project, since: datetime | None, until: datetime, say: ProgressReporter
) -> str:
    """Live a past stretch of time pass by pass, from where the watch has come to; what became of it, in a sentence."""
    with open_watcher(project, say) as watcher:
        state = watcher.load_progress(until, since)
        begin = datetime.fromisoformat(state.watched_until)
        if since is not None and format_timestamp(since) < state.watched_from:
            raise KitError(
                f"the watch began {format_local_time(project.config, datetime.fromisoformat(state.watched_from))}, after --since {format_local_time(project.config, since)}",
                "a moment at or after its beginning",
                "leave --since out: it goes on where it stands",
            )
        passes = pd.date_range(begin, until, freq=project.config.watch.interval, inclusive="left")
        for at in sorted(
            {*passes.to_pydatetime(), max(begin, until)}
        ):  # the first too: a pass that was killed after its mark has its labels and windows still to do
            watcher.run_pass(at)
        return summarize_watch(project)


def run_on_schedule(project: loader.Project, until: datetime | None, say: ProgressReporter) -> str:
    """Pass after pass by the clock, until a moment or until somebody stops it."""
    with open_watcher(project, say) as watcher:
        while True:
            at = datetime.now(UTC)
            watcher.run_pass(at)
            following = at + project.config.watch.interval
            if until is not None and following > until:
                return summarize_watch(project)
            say(
                f"the next pass is at {format_local_time(project.config, following)}",
                transient=True,
            )
            time.sleep(max(0.0, (following - datetime.now(UTC)).total_seconds()))


def run_single_pass(project: loader.Project, at: datetime, say: ProgressReporter) -> str:
    """One pass."""
    with open_watcher(project, say) as watcher:
        watcher.run_pass(at)
        return summarize_watch(project)
