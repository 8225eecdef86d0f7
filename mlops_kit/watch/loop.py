"""``mlops watch``: score new rows, import labels, monitor, decide on retraining, retrain.

A pass runs *as of* a time and sees nothing later, so that a past period can be replayed in minutes.
Each step is one transaction with its own mark in the database, and the next pass does what a
killed one has not marked: no row is scored twice, no window is monitored twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import describe_exception
from mlops_kit.core.extras import require_extra
from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.data import labels
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import WatchRecord
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project.loader import Project
from mlops_kit.project.secrets import make_scrubber
from mlops_kit.watch.alert_delivery import send_alerts
from mlops_kit.watch.alert_queue import queue_alerts
from mlops_kit.watch.arrivals import check_arrivals
from mlops_kit.watch.context import WatchContext
from mlops_kit.watch.heartbeat import Heartbeat, send_heartbeat
from mlops_kit.watch.lease import WatchLease, hold_lease
from mlops_kit.watch.monitoring import (
    evaluate_due_labels,
    monitor_window,
)
from mlops_kit.watch.predecessor import roll_back_worse_champion
from mlops_kit.watch.reinstatement import reinstate_earlier_version
from mlops_kit.watch.retraining import follow_up_retrainings
from mlops_kit.watch.row_quarantine import check_quarantined_days
from mlops_kit.watch.row_scoring import score_new_rows
from mlops_kit.watch.status import format_local_time, summarize_watch
from mlops_kit.watch.window_borders import list_unmonitored_windows

_ALERT_INTERVAL = timedelta(minutes=1)  # how often alerts are sent between two passes


class Watcher:
    """The watch of one project."""

    def __init__(self, project: Project, report: ProgressReporter, lease: WatchLease) -> None:
        self.project = project
        self.lease = lease
        self.context = WatchContext(project, report)

    def run_pass(self, as_of: datetime, since: datetime | None = None) -> None:
        """Run one pass as of a time.

        Parameters
        ----------
        since : datetime or None
            Where the watch begins, in its first pass; by default the champion's ``as_of``.
        """
        self.lease.require_held()
        try:
            self._score_and_monitor(as_of, since)
        except Exception as error:
            self.lease.note_pass(make_scrubber(self.project)(describe_exception(error)))
            raise
        else:
            self.lease.note_pass("")
        finally:
            # Alerts of what is stored are sent even if a later step fails.
            self.send_due_alerts(as_of)

    def run_live_pass(self, as_of: datetime) -> None:
        """Run one pass as of the present, with heartbeats."""
        self._send_heartbeat(as_of, Heartbeat.START)
        try:
            self.run_pass(as_of)
        except Exception:
            self._send_heartbeat(as_of, Heartbeat.FAILURE)
            raise
        self._send_heartbeat(as_of, Heartbeat.SUCCESS)

    def _send_heartbeat(self, as_of: datetime, heartbeat: Heartbeat) -> None:
        error = send_heartbeat(self.project, heartbeat)
        if error:
            self.context.report_lines(as_of, [f"the heartbeat failed: {error}"])

    def send_due_alerts(self, as_of: datetime) -> None:
        """Send the alerts that are due, also those that the passing of time alone makes due."""
        self.lease.require_held()
        with open_transaction(self.project) as transaction:
            queue_alerts(transaction, self.project.config, as_of)
        self.context.report_lines(as_of, send_alerts(self.project, as_of))

    def _score_and_monitor(self, as_of: datetime, since: datetime | None) -> None:
        context = self.context
        progress = self.load_progress(since)
        follow_up_retrainings(context, as_of)
        scored_rows = score_new_rows(context, progress, as_of)
        sentences = [context.history.take_rejected_rows(), scored_rows.sentence]
        context.report_lines(as_of, filter(None, sentences))
        label_counts = self._import_labels(as_of)
        context.report(
            f"{context.format_time(as_of)}: {format_number(scored_rows.scored)} rows scored, "
            f"{_format_label_counts(label_counts)}",
            transient=True,
        )
        context.report_lines(as_of, check_arrivals(context, progress, as_of))
        windows = list(list_unmonitored_windows(context, progress, as_of))
        for start, end in windows:
            self.lease.require_held()
            monitor_window(context, start, end, as_of)
        self.lease.require_held()
        reinstate_earlier_version(context, as_of)
        evaluate_due_labels(context, as_of)
        if windows:
            check_quarantined_days(context, as_of)
        roll_back_worse_champion(context, as_of)
        follow_up_retrainings(context, as_of)

    def load_progress(self, since: datetime | None = None) -> WatchRecord:
        """Load how far the watch has come; the first pass creates the record."""
        champion = self.context.get_champion()
        model = self.project.config.name
        with open_transaction(self.project) as transaction:
            progress = transaction.get(WatchRecord, model)
            if progress is None:
                start = since or datetime.fromisoformat(champion.version.as_of)
                progress = WatchRecord(
                    model=model,
                    watched_from=format_timestamp(start),
                    watched_until=format_timestamp(start),
                    updated_at=current_timestamp(),
                )
                transaction.add(progress)
            return progress

    def _import_labels(self, as_of: datetime) -> dict[str, int]:
        first_row_time = labels.find_earliest_unlabeled(self.project)
        history = self.context.history.read_until(as_of, first_row_time)
        return labels.import_labels(self.project, history, as_of)


def _format_label_counts(label_counts: dict[str, int]) -> str:
    matched = label_counts.get("joined", 0) + label_counts.get("corrected", 0)
    text = f"{format_number(matched)} labels"
    for outcome, count in label_counts.items():
        if outcome in {"unknown", "refused"} and count:
            text += f", {format_number(count)} {outcome}"
    return text


@contextmanager
def open_watcher(project: Project, report: ProgressReporter) -> Iterator[Watcher]:
    """Open the watch of a project; only one process at a time can hold it.

    Raises
    ------
    MissingExtraError
        If the libraries that train a model are not installed, since the watch retrains.
    RunFailedError
        If another process watches the project.
    """
    require_extra("train")
    with hold_lease(project) as lease:
        yield Watcher(project, report, lease)


def replay_period(
    project: Project, since: datetime | None, until: datetime, report: ProgressReporter
) -> str:
    """Replay a past period pass by pass, from where the watch has come to.

    Returns
    -------
    str
        A summary of the watch.
    """
    with open_watcher(project, report) as watcher:
        progress = watcher.load_progress(since)
        watched_from = datetime.fromisoformat(progress.watched_from)
        watched_until = datetime.fromisoformat(progress.watched_until)
        if since is not None and format_timestamp(since) < progress.watched_from:
            raise KitError(
                f"the watch began {format_local_time(project.config, watched_from)}, after "
                f"--since {format_local_time(project.config, since)}",
                "a time at or after its beginning",
                "omit --since: the watch continues where it is",
            )
        # The first pass is repeated too: one that was killed after it moved the progress mark
        # has not imported its labels and monitored its windows yet.
        regular_passes = pd.date_range(
            watched_until, until, freq=project.config.watch.interval, inclusive="left"
        )
        pass_times = {*regular_passes.to_pydatetime(), max(watched_until, until)}
        for as_of in sorted(pass_times):
            watcher.run_pass(as_of)
        return summarize_watch(project)


def run_on_schedule(project: Project, until: datetime | None, report: ProgressReporter) -> str:
    """Run a pass per interval, until a time or until the process is stopped.

    Returns
    -------
    str
        A summary of the watch.
    """
    with open_watcher(project, report) as watcher:
        while True:
            as_of = datetime.now(UTC)
            watcher.run_live_pass(as_of)
            next_pass = as_of + project.config.watch.interval
            if until is not None and next_pass > until:
                return summarize_watch(project)
            report(f"next pass at {format_local_time(project.config, next_pass)}", transient=True)
            while (waiting_time := next_pass - datetime.now(UTC)) > timedelta(0):
                time.sleep(min(waiting_time, _ALERT_INTERVAL).total_seconds())
                watcher.send_due_alerts(datetime.now(UTC))


def run_single_pass(project: Project, as_of: datetime, report: ProgressReporter) -> str:
    """Run one pass as of a time.

    Returns
    -------
    str
        A summary of the watch.
    """
    with open_watcher(project, report) as watcher:
        watcher.run_live_pass(as_of)
        return summarize_watch(project)
