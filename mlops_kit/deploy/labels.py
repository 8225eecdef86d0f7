"""Labels: what came true of a prediction, from whomever it comes, joined once.

Three ways lead here: feedback by prediction id, a ``labels:`` table, the source itself. A message is
kept with the word that says what was made of it: joined; corrected (another value, known later than
the present one); repeated; outdated (a value known before the present one); unknown (no such
prediction yet: it is tried again at each import); refused (no value of the target). A table that is
read again and again leaves a row only where it says something new.
"""

from __future__ import annotations

import math
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from mlops_kit import contract, features, sources
from mlops_kit.config import Project
from mlops_kit.database import Label, Prediction, exists, session, stamp
from mlops_kit.deploy.predictions import COUNTS, MANY, named_row, present_labels
from mlops_kit.errors import KitError

if TYPE_CHECKING:
    import pandas as pd
    from sqlalchemy.orm import Session

WORDS = ("joined", "corrected", "repeated", "outdated", "unknown", "refused")
PREDICTION = "prediction_id"
CORRECTIONS = timedelta(days=30)  # how long after its row a source may still mend a label


class Said(NamedTuple):
    """A message: of which prediction (its id, or its row's key), what value, known from when."""

    name: str
    value: Any
    known: str


class Coder:
    """Turns a value of the target into its number, as training does; None for what is no value of it."""

    def __init__(self, project: Project) -> None:
        self.task, file = project.config.task, project.path(project.config.contract.file)
        column = contract.load(file).columns.get(project.config.target) if file.exists() else None
        self.kind = column.type if column else "number"
        self.classes = features.ordered(column.allowed) if column and column.allowed else [0, 1]

    @property
    def expected(self) -> str:
        """What a value should be, in words."""
        return "a number" if self.task == "regression" else f"one of {', '.join(map(str, self.classes))}"

    def __call__(self, value: Any) -> float | None:
        """The value as a number, or None."""
        if value is None or isinstance(value, (list, dict)):
            return None
        if self.task == "regression":
            return self.measured(value)
        found = {self.text(c): float(i) for i, c in enumerate(self.classes)}
        return found.get(self.text(value))

    @staticmethod
    def measured(value: Any) -> float | None:
        """A finite number, or None; a truth value is none."""
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            return None
        return number if math.isfinite(number) else None

    def text(self, value: Any) -> str:
        """How a class is told apart: whole numbers and truth values of any type are one."""
        if isinstance(value, bool) or hasattr(value, "dtype") and value.dtype == bool:
            return str(int(value)) if self.kind != "text" else str(bool(value)).lower()
        if isinstance(value, (int, float)) or hasattr(value, "dtype"):
            return str(int(value)) if float(value).is_integer() else str(value)
        plain = str(value).strip()
        if self.kind == "boolean":
            word = contract.WORDS.get(plain.lower())
            return plain if word is None else str(int(word))
        return plain.removesuffix(".0") if self.kind in {"integer", "number"} else plain


def join(project: Project, messages: list[Said], origin: str, at: str, by_key: bool, again: bool) -> list[str]:
    """File messages and say what was made of each, in their order.

    Parameters
    ----------
    origin : str
        Where they come from: ``feedback``, ``labels`` or ``source``.
    at : str
        The moment of the import.
    by_key : bool
        Whether they name the row's key (as ``predictions.named_row`` writes it) and not a prediction.
    again : bool
        Whether they come from a table that is read again and again: what it said before is not filed again.
    """
    coder, words = Coder(project), []
    with session(project) as opened:
        names = [m.name for m in messages]
        found, present = matches(opened, project.config.name, names, by_key), current(opened, project.config.name, names, by_key)
        told = said_before(opened, project.config.name, origin) if again else set()
        for message in messages:
            value = coder(message.value)
            made = [file(present, i, value, message) for i in found.get(message.name, [])] if value is not None else []
            word = "refused" if value is None else next((w for w in WORDS if w in made), "unknown")
            words.append(word)
            filed = [(i, w) for i, w in zip(found.get(message.name, []), made, strict=False)] or [(message.name, word)]
            opened.add_all(row(project, message, i, value, origin, w, at) for i, w in filed if not (again and quiet(w, i, message, told)))
    return words


def quiet(word: str, name: str, message: Said, told: set[tuple[str, str]]) -> bool:
    """Whether a table's message says nothing new."""
    return word in {"repeated", "outdated"} or word not in COUNTS and (name, str(message.value)) in told


def row(project: Project, message: Said, prediction: str, value: float | None, origin: str, word: str, at: str) -> Label:
    """A message as it is filed."""
    return Label(project.config.name, prediction, value, str(message.value), message.known, origin, word, at)


def file(present: dict[str, tuple[float, str]], prediction: str, value: float, message: Said) -> str:
    """What is made of a value for a prediction; ``present`` is brought up to date."""
    held = present.get(prediction)
    if held is not None and held[0] == value:
        return "repeated"
    if held is not None and message.known < held[1]:
        return "outdated"
    present[prediction] = (value, message.known)
    return "joined" if held is None else "corrected"


def matches(opened: Session, model: str, names: list[str], by_key: bool) -> dict[str, list[str]]:
    """The predictions of each name: one by id, all of a row by key."""
    column, out = (Prediction.key if by_key else Prediction.id), dict[str, list[str]]()
    for some in chunks(names):
        for name, found in opened.execute(sa.select(column, Prediction.id).where(Prediction.model == model, column.in_(some)).order_by(Prediction.id)):
            out.setdefault(name, []).append(found)
    return out


def current(opened: Session, model: str, names: list[str], by_key: bool) -> dict[str, tuple[float, str]]:
    """The label that counts of each of these predictions: its value, and when it was known."""
    label, column, out = present_labels(model), (Prediction.key if by_key else Prediction.id), dict[str, tuple[float, str]]()
    for some in chunks(names):
        asked = sa.select(Prediction.id, label.c.value, label.c.known).join(label, label.c.prediction == Prediction.id).where(Prediction.model == model, column.in_(some))
        out |= {i: (v, k) for i, v, k in opened.execute(asked)}
    return out


def chunks(names: list[str]) -> list[list[str]]:
    """The names once each, in lists that a database takes."""
    once = list(dict.fromkeys(names))
    return [once[i : i + MANY] for i in range(0, len(once), MANY)]


def said_before(opened: Session, model: str, origin: str) -> set[tuple[str, str]]:
    """What could not be joined of this origin so far."""
    asked = sa.select(Label.prediction, Label.said).where(Label.model == model, Label.origin == origin, Label.word.in_(("unknown", "refused")))
    return {(p, s) for p, s in opened.execute(asked)}


def feedback(project: Project, messages: list[Said], at: str) -> list[str]:
    """Labels that came by prediction id; what was made of each."""
    return join(project, messages, "feedback", at, by_key=False, again=False)


def collect(project: Project, history: pd.DataFrame, at: Any) -> dict[str, int]:
    """Import what is known by a moment: from the ``labels:`` table, or the source; then retry what was unknown.

    Parameters
    ----------
    history : DataFrame
        The source as known at that moment (``sources.read``).

    Returns
    -------
    dict
        How many messages became what.
    """
    counts: Counter[str] = Counter()
    if not exists(project):
        return dict(counts)
    if project.config.labels is not None:
        messages, by_key = from_table(project, at)
        counts += Counter(join(project, messages, "labels", stamp(at), by_key, again=True))
    else:
        counts += Counter(join(project, from_source(project, history), "source", stamp(at), by_key=True, again=True))
    return dict(counts + retried(project, at))


def from_source(project: Project, history: pd.DataFrame) -> list[Said]:
    """The target's values that the source knows, for rows that were scored; later ones are not in it."""
    config, keys = project.config, sources.keys(project)
    first = earliest(project)
    seen = history[history[config.target].notna() & (history[config.time] >= first)] if config.time and first is not None else history.iloc[:0]
    known = sources.known_at(project, seen, config.target)
    return [Said(named_row(k), v, stamp(m)) for k, v, m in zip(seen[keys].itertuples(index=False, name=None), seen[config.target], known, strict=True)]


def earliest(project: Project) -> Any:
    """The moment of the oldest row that was scored and has no label yet, less the time in which corrections come."""
    import pandas as pd

    label = present_labels(project.config.name)
    with session(project) as opened:
        open_rows = sa.select(sa.func.min(Prediction.moment)).outerjoin(label, label.c.prediction == Prediction.id).where(Prediction.model == project.config.name, label.c.value.is_(None), Prediction.key != "")
        found = opened.scalar(open_rows) or opened.scalar(sa.select(sa.func.max(Prediction.moment)).where(Prediction.model == project.config.name))
    return None if found is None else pd.Timestamp(found) - CORRECTIONS


def from_table(project: Project, at: Any) -> tuple[list[Said], bool]:
    """What a ``labels:`` table says by a moment, and whether it names rows by key."""
    asked, config = project.config.labels, project.config
    assert asked is not None
    frame = sources.query(asked.source, None) if not isinstance(asked.source, str) else sources.table(sources.located(project, asked.source), said=f"labels.source: {asked.source!r}", cure="edit 'labels' in mlops.yaml")
    keys, value = asked.key or sources.keys(project), asked.value or config.target
    absent = [c for c in [*keys, value, *([asked.time] if asked.time else [])] if c not in frame]
    if absent:
        raise KitError(f"labels.source has no column {absent[0]!r}", f"one of {', '.join(map(str, frame.columns))}", "edit 'labels' in mlops.yaml")
    if asked.time:
        moments = sources.moments(frame[asked.time], asked.time, config.timezone)
        frame, moments = frame[moments <= at], moments[moments <= at]
    known = [stamp(m) for m in moments] if asked.time else [stamp(at)] * len(frame)
    by_key = keys != [PREDICTION]
    names = [named_row(k) if by_key else str(k[0]) for k in frame[keys].itertuples(index=False, name=None)]
    filled = frame[value].notna()
    return [Said(n, v, k) for n, v, k, f in zip(names, frame[value], known, filled, strict=True) if f], by_key


def retried(project: Project, at: Any) -> Counter[str]:
    """Join the messages that named no prediction then, and do now."""
    coder, counts = Coder(project), Counter[str]()
    with session(project) as opened:
        waiting = list(opened.scalars(sa.select(Label).where(Label.model == project.config.name, Label.word == "unknown").order_by(Label.id)))
        for by_key in (False, True):
            found = matches(opened, project.config.name, [w.prediction for w in waiting], by_key)
            for message in waiting:
                value, name = coder(message.said if message.value is None else message.value), message.prediction
                for prediction in found.get(name, []) if value is not None and message.word == "unknown" else []:
                    message.prediction, message.word, message.at = prediction, "joined", stamp(at)
                    counts["joined"] += 1
    return counts


def delay(project: Project) -> dict[str, Any]:
    """How labels stand: how many messages became what, up to when they are in, and how late they come (days).

    Returns
    -------
    dict
        A count a word; ``waiting`` (predictions without one), ``upto`` (moment of the newest labelled
        row, text), ``median_days`` and ``p90_days`` between a row's moment and its label.
    """
    import numpy as np
    import pandas as pd

    model, label = project.config.name, present_labels(project.config.name)
    with session(project) as opened:
        counts = dict(opened.execute(sa.select(Label.word, sa.func.count()).where(Label.model == model).group_by(Label.word)).tuples().all())
        waiting = opened.scalar(sa.select(sa.func.count()).select_from(Prediction).outerjoin(label, label.c.prediction == Prediction.id).where(Prediction.model == model, label.c.value.is_(None)))
        pairs = opened.execute(sa.select(Prediction.moment, label.c.known).join(label, label.c.prediction == Prediction.id).where(Prediction.model == model, Prediction.moment.is_not(None)).order_by(Prediction.moment)).all()
    days = [(pd.Timestamp(k) - pd.Timestamp(m)).total_seconds() / 86400 for m, k in pairs[-20_000:]]
    late = {"median_days": float(np.median(days)), "p90_days": float(np.quantile(days, 0.9))} if days else {"median_days": None, "p90_days": None}
    return {**{w: int(counts.get(w, 0)) for w in WORDS}, "waiting": int(waiting or 0), "upto": pairs[-1][0] if pairs else "", **late}
