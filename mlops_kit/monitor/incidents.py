"""Incidents: what somebody should know, opened once, updated while it lasts, closed when it is over.

Drift alone opens none: a column must have drifted in most of the last windows, and its drift must be
estimated to cost more than what counts as no worse. What labels prove, and what broke, opens one at once.

To add a cause: a ``Cause`` in ``causes``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from mlops_kit.config import Config
from mlops_kit.database import Incident
from mlops_kit.metrics import METRICS
from mlops_kit.results import Verdict, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

RECENT = 3  # windows among which a drift has to persist


class Cause(NamedTuple):
    """What is wrong now: its name, how bad, a title, a sentence."""

    cause: str
    severity: str
    title: str
    sentence: str


def drifts(looks: list[dict[str, Any]], config: Config) -> list[Cause]:
    """The columns whose drift persists and costs something.

    Parameters
    ----------
    looks : list of dict
        What was said of the windows, the newest last, revived.
    """
    recent = [look["drift"].data for look in looks[-RECENT:] if len(look["drift"].data)]
    if not recent or not looks or not len(looks[-1]["drift"].data):
        return []
    times = {c: sum(c in set(d.loc[d["word"] == "alert", "column"]) for d in recent) for c in recent[-1]["column"]}
    found, title = [], METRICS[config.headline].title
    for row in recent[-1].itertuples():
        cost = row.cost if row.cost == row.cost and row.cost is not None else 0.0
        if row.word != "alert" or times[row.column] < config.watch.persist or cost < config.review.margin:
            continue
        severity = "act" if cost >= config.monitor.fall else "watch"
        found.append(Cause(f"drift:{row.column}", severity, f"{row.column} is unlike what the model was judged on", f"{row.why}; costs about {number(cost)} of {title}."))
    return found


def proven(verdicts: Iterable[Verdict]) -> list[Cause]:
    """What the labels, or the columns themselves, prove."""
    titles = {"realised": "Below what was promised", "gap": "What it learnt no longer holds", "schema": "The columns changed"}
    return [Cause(v.check, "act" if v.blocks or v.check == "gap" else "watch", titles[v.check], v.sentence) for v in verdicts if v.check in titles and v.outcome == "failed"]


def update(opened: Session, model: str, judged: set[str], causes: list[Cause], at: str, ended: str) -> list[str]:
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
    still = {i.cause: i for i in opened.scalars(sa.select(Incident).where(Incident.model == model, Incident.closed.is_(None)))}
    for name, cause in now.items():
        if name in still:
            held = still[name]
            held.severity, held.title, held.sentence, held.updated, held.windows = cause.severity, cause.title, cause.sentence, at, held.windows + (held.updated != at)
        else:
            opened.add(Incident(model, name, cause.severity, cause.title, cause.sentence, at, at))
            said.append(f"incident opened ({cause.severity}): {cause.title}: {cause.sentence}")
    for name, held in still.items():
        if name not in now and name.split(":")[0] in judged:
            held.closed, held.updated, held.ended = at, at, ended
            said.append(f"incident closed: {held.title}")
    return said
