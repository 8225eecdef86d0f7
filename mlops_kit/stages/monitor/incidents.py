"""Incidents: what somebody should know, opened once, updated while it lasts, closed when it is over.

Drift alone opens none: a column must have drifted in most of the last windows, and its drift must be
estimated to cost more than what counts as no worse; all such columns are one incident, for they move
together. What labels prove, and what broke, opens one at once.

To add a cause: a ``Cause`` in ``causes``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import Verdict
from mlops_kit.db.approvals import check_permission
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stats.metrics import METRICS

RECENT_WINDOWS = 3  # windows among which a drift has to persist


class IncidentSignal(NamedTuple):
    """What is wrong now: its name, how bad, a title, a sentence."""

    name: str
    severity: str
    title: str
    sentence: str


def detect_costly_drift(
    looks: list[dict[str, Any]], promise: float | None, config: ProjectConfig
) -> list[IncidentSignal]:
    """The drift that persists and costs something, as one cause; all of it bad only if the estimate says so too.

    Parameters
    ----------
    looks : list of dict
        What was said of the windows, the newest last, revived.
    promise : float or None
        The headline metric that the review promised.
    """
    recent = [look["drift"].data for look in looks[-RECENT_WINDOWS:] if len(look["drift"].data)]
    if not recent or not len(looks[-1]["drift"].data):
        return []
    times = {
        c: sum(c in set(d.loc[d["word"] == "alert", "column"]) for d in recent)
        for c in recent[-1]["column"]
    }
    last = recent[-1].assign(
        cost=recent[-1]["cost"].astype(float), times=[times[c] for c in recent[-1]["column"]]
    )
    lasting = last[
        (last["column"] != "score")
        & (last["word"] == "alert")
        & (last["times"] >= config.watch.min_drifted_windows)
        & (last["cost"] >= config.review.margin)
    ]
    if lasting.empty:
        return []
    worst, metric = (
        lasting.sort_values("cost", ascending=False, kind="stable"),
        METRICS[config.headline_metric],
    )
    names = worst["column"].tolist()
    others = (
        f"and {len(names) - 1} more columns are"
        if len(names) > 2
        else f"and {names[-1]} are"
        if len(names) == 2
        else "is"
    )
    title = f"{names[0]} {others} unlike what the model was judged on"
    said = "; ".join(
        f"{r.column} costs about {format_number(r.cost)} of {metric.title}"
        for r in worst.head(3).itertuples()
    )
    expected = looks[-1]["estimated"].value
    bad = (
        expected is not None
        and promise is not None
        and metric.compute_gain(expected, promise) < -config.monitor.max_drop
    )
    return [
        IncidentSignal(
            "drift",
            "act" if bad else "watch",
            title,
            f"{said}. Estimated {looks[-1]['estimated']}, promised {format_number(promise)}.",
        )
    ]


def detect_proven_failures(verdicts: Iterable[Verdict]) -> list[IncidentSignal]:
    """What the labels, or the columns themselves, prove."""
    titles = {
        "realised": "Below what was promised",
        "gap": "What it learnt no longer holds",
        "schema": "The columns changed",
    }
    return [
        IncidentSignal(
            v.check,
            "act" if v.is_blocking or v.check == "gap" else "watch",
            titles[v.check],
            v.sentence,
        )
        for v in verdicts
        if v.check in titles and v.outcome == "failed"
    ]


def update_incidents(
    opened: Session, model: str, judged: set[str], causes: list[IncidentSignal], at: str, ended: str
) -> list[str]:
    """Open, update and close incidents within a transaction.

    Parameters
    ----------
    judged : set of str
        Names, up to the colon, of the causes that were looked at: of these, what is not there any more is closed.
    ended : str
        What closed them, if something does.

    Returns
    -------
    list of str
        A line for each that was opened or closed.
    """
    said, now = [], {c.name: c for c in causes}
    still = {
        i.signal: i
        for i in opened.scalars(
            sa.select(IncidentRecord).where(
                IncidentRecord.model == model, IncidentRecord.closed_at.is_(None)
            )
        )
    }
    for name, cause in now.items():
        if name in still:
            held = still[name]
            held.severity, held.title, held.message, held.updated_at, held.window_count = (
                cause.severity,
                cause.title,
                cause.sentence,
                at,
                held.window_count + (held.updated_at != at),
            )
        else:
            opened.add(
                IncidentRecord(model, name, cause.severity, cause.title, cause.sentence, at, at)
            )
            said.append(f"incident opened ({cause.severity}): {cause.title}: {cause.sentence}")
    for name, held in still.items():
        if name not in now and name.split(":")[0] in judged:
            held.closed_at, held.updated_at, held.close_reason = at, at, ended
            said.append(f"incident closed: {held.title}")
    return said


def acknowledge_incident(project: Project, number: int, by: str, why: str) -> IncidentRecord:
    """Record that somebody has seen an open incident, and what they make of it.

    Raises
    ------
    KitError
        If there is no reason, the person may not, or there is no such incident.
    RunFailed
        If it is over, or somebody has acknowledged it already.
    """
    if not why.strip():
        raise KitError(
            "an acknowledgement needs a reason",
            "a sentence that others can read later",
            "say what you make of it",
        )
    check_permission(project.config.people, by, approves=False)
    with open_transaction(project) as opened:
        found = opened.get(IncidentRecord, number)
        if found is None or found.model != project.config.name:
            raise KitError(
                f"there is no incident {number}", "one that the page shows", "load the page again"
            )
        taken = opened.execute(
            sa.update(IncidentRecord)
            .where(
                IncidentRecord.id == number,
                IncidentRecord.closed_at.is_(None),
                IncidentRecord.acknowledged_by.is_(None),
            )
            .values(
                acknowledged_by=by,
                acknowledged_at=current_timestamp(),
                acknowledge_reason=why.strip(),
            )
        )
        if not taken.rowcount:  # type: ignore[attr-defined]
            state = (
                f"was closed {found.closed_at[:10]}"
                if found.closed_at
                else f"was acknowledged by {found.acknowledged_by}"
            )
            raise RunFailedError(
                f"the incident {found.title!r} {state}",
                "an open one that nobody has acknowledged",
                "load the page again",
            )
    return found
