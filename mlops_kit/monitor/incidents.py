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

from mlops_kit.config import Config, Project
from mlops_kit.database import Incident, now, session
from mlops_kit.decisions import may
from mlops_kit.errors import KitError, RunFailed
from mlops_kit.metrics import METRICS
from mlops_kit.results import Verdict, number

RECENT = 3  # windows among which a drift has to persist


class Cause(NamedTuple):
    """What is wrong now: its name, how bad, a title, a sentence."""

    cause: str
    severity: str
    title: str
    sentence: str


def drifts(looks: list[dict[str, Any]], promise: float | None, config: Config) -> list[Cause]:
    """The drift that persists and costs something, as one cause; all of it bad only if the estimate says so too.

    Parameters
    ----------
    looks : list of dict
        What was said of the windows, the newest last, revived.
    promise : float or None
        The headline metric that the review promised.
    """
    recent = [look["drift"].data for look in looks[-RECENT:] if len(look["drift"].data)]
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
        & (last["times"] >= config.watch.persist)
        & (last["cost"] >= config.review.margin)
    ]
    if lasting.empty:
        return []
    worst, metric = (
        lasting.sort_values("cost", ascending=False, kind="stable"),
        METRICS[config.headline],
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
        f"{r.column} costs about {number(r.cost)} of {metric.title}"
        for r in worst.head(3).itertuples()
    )
    expected = looks[-1]["estimated"].value
    bad = (
        expected is not None
        and promise is not None
        and metric.gain(expected, promise) < -config.monitor.fall
    )
    return [
        Cause(
            "drift",
            "act" if bad else "watch",
            title,
            f"{said}. Estimated {looks[-1]['estimated']}, promised {number(promise)}.",
        )
    ]


def proven(verdicts: Iterable[Verdict]) -> list[Cause]:
    """What the labels, or the columns themselves, prove."""
    titles = {
        "realised": "Below what was promised",
        "gap": "What it learnt no longer holds",
        "schema": "The columns changed",
    }
    return [
        Cause(
            v.check, "act" if v.blocks or v.check == "gap" else "watch", titles[v.check], v.sentence
        )
        for v in verdicts
        if v.check in titles and v.outcome == "failed"
    ]


def update(
    opened: Session, model: str, judged: set[str], causes: list[Cause], at: str, ended: str
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
    said, now = [], {c.cause: c for c in causes}
    still = {
        i.cause: i
        for i in opened.scalars(
            sa.select(Incident).where(Incident.model == model, Incident.closed.is_(None))
        )
    }
    for name, cause in now.items():
        if name in still:
            held = still[name]
            held.severity, held.title, held.sentence, held.updated, held.windows = (
                cause.severity,
                cause.title,
                cause.sentence,
                at,
                held.windows + (held.updated != at),
            )
        else:
            opened.add(Incident(model, name, cause.severity, cause.title, cause.sentence, at, at))
            said.append(f"incident opened ({cause.severity}): {cause.title}: {cause.sentence}")
    for name, held in still.items():
        if name not in now and name.split(":")[0] in judged:
            held.closed, held.updated, held.ended = at, at, ended
            said.append(f"incident closed: {held.title}")
    return said


def acknowledge(project: Project, number: int, by: str, why: str) -> Incident:
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
    may(project.config.people, by, approves=False)
    with session(project) as opened:
        found = opened.get(Incident, number)
        if found is None or found.model != project.config.name:
            raise KitError(
                f"there is no incident {number}", "one that the page shows", "load the page again"
            )
        taken = opened.execute(
            sa.update(Incident)
            .where(Incident.id == number, Incident.closed.is_(None), Incident.seen_by.is_(None))
            .values(seen_by=by, seen_at=now(), seen_why=why.strip())
        )
        if not taken.rowcount:  # type: ignore[attr-defined]
            state = (
                f"was closed {found.closed[:10]}"
                if found.closed
                else f"was acknowledged by {found.seen_by}"
            )
            raise RunFailed(
                f"the incident {found.title!r} {state}",
                "an open one that nobody has acknowledged",
                "load the page again",
            )
    return found
