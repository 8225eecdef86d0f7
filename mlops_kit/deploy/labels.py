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
from contextlib import suppress
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlops_kit import contract, features, sources
from mlops_kit.config import Project
from mlops_kit.database import Label, Prediction, exists, session, stamp
from mlops_kit.deploy.predictions import chunks, named_row, with_labels
from mlops_kit.errors import KitError
from mlops_kit.late import pd

COUNTS = ("joined", "corrected")  # words of a label that counts
WORDS = ("joined", "corrected", "repeated", "outdated", "unknown", "refused")
PREDICTION = "prediction_id"
CORRECTIONS = timedelta(days=14)  # how long after its row a source may still mend a label


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
        self.codes = {self.text(c): float(i) for i, c in enumerate(self.classes)}

    def __call__(self, value: Any) -> float | None:
        """The value as a number, or None."""
        if value is None or isinstance(value, (list, dict)):
            return None
        if self.task != "regression":
            return self.codes.get(self.text(value))
        with suppress(TypeError, ValueError):
            return (
                number
                if not isinstance(value, bool) and math.isfinite(number := float(value))
                else None
            )
        return None

    def text(self, value: Any) -> str:
        """How a class is told apart: whole numbers and truth values of any type are one."""
        if isinstance(value, bool) or hasattr(value, "dtype") and value.dtype == bool:
            return str(int(value)) if self.kind != "text" else str(bool(value)).lower()
        if isinstance(value, (int, float)) or hasattr(value, "dtype"):
            return str(int(value)) if float(value).is_integer() else str(value)
        plain = str(value).strip()
        if self.kind == "boolean":
            return (
                str(int(contract.WORDS[plain.lower()]))
                if plain.lower() in contract.WORDS
                else plain
            )
        return plain.removesuffix(".0") if self.kind in {"integer", "number"} else plain


def join(
    project: Project, messages: list[Said], origin: str, at: str, by_key: bool, again: bool
) -> list[str]:
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
    try:
        return joined(project, messages, origin, at, by_key, again)
    except (
        sa.exc.IntegrityError
    ):  # another process labelled one of these in between; this time it is seen
        return joined(project, messages, origin, at, by_key, again)


def joined(
    project: Project, messages: list[Said], origin: str, at: str, by_key: bool, again: bool
) -> list[str]:
    """``join`` in one transaction."""
    coder, words = Coder(project), []
    with session(project) as opened:
        found, present = matches(opened, project.config.name, [m.name for m in messages], by_key)
        lost = sa.select(Label.prediction, Label.said).where(
            Label.model == project.config.name,
            Label.origin == origin,
            Label.word.in_(("unknown", "refused")),
        )
        told = set(map(tuple, opened.execute(lost))) if again else set()
        for message in messages:
            value = coder(message.value)
            made = (
                [file(present, i, value, message.known) for i in found.get(message.name, [])]
                if value is not None
                else []
            )
            word = "refused" if value is None else next((w for w in WORDS if w in made), "unknown")
            words.append(word)
            filed = [(i, w) for i, w in zip(found.get(message.name, []), made, strict=False)] or [
                (message.name, word)
            ]
            for name, made_of_it in filed:
                nothing_new = (
                    made_of_it in {"repeated", "outdated"}
                    or made_of_it not in COUNTS
                    and (name, str(message.value)) in told
                )
                if not (again and nothing_new):
                    put(
                        opened,
                        Label(
                            project.config.name,
                            name,
                            value,
                            str(message.value),
                            message.known,
                            origin,
                            made_of_it,
                            at,
                            made_of_it in COUNTS,
                        ),
                    )
    return words


def put(opened: Session, message: Label) -> None:
    """File a message; one that counts takes the place of the one before."""
    if message.word == "corrected":
        opened.flush()
        opened.execute(
            sa.update(Label)
            .where(Label.prediction == message.prediction, Label.counts)
            .values(counts=False)
        )
    opened.add(message)


def file(present: dict[str, tuple[float, str]], prediction: str, value: float, known: str) -> str:
    """What is made of a value for a prediction; ``present`` is brought up to date."""
    held = present.get(prediction)
    if held is not None and held[0] == value:
        return "repeated"
    if held is not None and known < held[1]:
        return "outdated"
    present[prediction] = (value, known)
    return "joined" if held is None else "corrected"


def matches(
    opened: Session, model: str, names: list[str], by_key: bool
) -> tuple[dict[str, list[str]], dict[str, tuple[float, str]]]:
    """The predictions of each name (one by id, all of a row by key); and of each the label that counts, if there is one: value, known."""
    column, found, present = (
        (Prediction.key if by_key else Prediction.id),
        dict[str, list[str]](),
        dict[str, tuple[float, str]](),
    )
    for some in chunks(names):
        for name, prediction, value, known in opened.execute(
            with_labels(column, Prediction.id, Label.value, Label.known)
            .where(Prediction.model == model, column.in_(some))
            .order_by(Prediction.id)
        ):
            found.setdefault(name, []).append(prediction)
            if known is not None:
                present[prediction] = (value, known)
    return found, present


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
    if not exists(project):
        return {}
    (messages, by_key), origin = (
        (from_table(project, at), "labels")
        if project.config.labels
        else ((from_source(project, history), True), "source")
    )
    return dict(
        Counter(join(project, messages, origin, stamp(at), by_key, again=True))
        + retried(project, at)
    )


def from_source(project: Project, history: pd.DataFrame) -> list[Said]:
    """What the source says of rows that were scored and that is news: no label yet, or another one."""
    config, keys, coder = project.config, sources.keys(project), Coder(project)
    first = earliest(project)
    if config.time is None or first is None:
        return []
    seen = history[history[config.target].notna() & (history[config.time] >= first)]
    held = labelled(project, first)
    codes = {v: coder(v) for v in seen[config.target].unique()}
    named = zip(
        [named_row(k) for k in seen[keys].itertuples(index=False, name=None)],
        seen[config.target],
        sources.known_at(project, seen, config.target),
        strict=True,
    )
    return [Said(n, v, stamp(m)) for n, v, m in named if n in held and held[n] != {codes[v]}]


def labelled(project: Project, first: Any) -> dict[str, set[float | None]]:
    """The labels of the rows scored from a moment on, by key; None where an answer has none yet."""
    out = dict[str, set[float | None]]()
    with session(project) as opened:
        for key, value in opened.execute(
            with_labels(Prediction.key, Label.value).where(
                Prediction.model == project.config.name,
                Prediction.moment >= stamp(first),
                Prediction.key != "",
            )
        ):
            out.setdefault(key, set()).add(value)
    return out


def earliest(project: Project) -> Any:
    """The moment of the oldest row that was scored and has no label yet, less the time in which corrections come."""
    with session(project) as opened:
        open_rows = with_labels(sa.func.min(Prediction.moment)).where(
            Prediction.model == project.config.name, Label.id.is_(None), Prediction.key != ""
        )
        found = opened.scalar(open_rows) or opened.scalar(
            sa.select(sa.func.max(Prediction.moment)).where(Prediction.model == project.config.name)
        )
    return None if found is None else pd.Timestamp(found) - CORRECTIONS


def from_table(project: Project, at: Any) -> tuple[list[Said], bool]:
    """What a ``labels:`` table says by a moment, and whether it names rows by key."""
    asked, config = project.config.labels, project.config
    assert asked is not None
    frame = (
        sources.query(asked.source, None)
        if not isinstance(asked.source, str)
        else sources.table(
            sources.located(project, asked.source),
            said=f"labels.source: {asked.source!r}",
            cure="edit 'labels' in mlops.yaml",
        )
    )
    keys, value = asked.key or sources.keys(project), asked.value or config.target
    if absent := [
        c for c in [*keys, value, *([asked.time] if asked.time else [])] if c not in frame
    ]:
        raise KitError(
            f"labels.source has no column {absent[0]!r}",
            f"one of {', '.join(map(str, frame.columns))}",
            "edit 'labels' in mlops.yaml",
        )
    moments = (
        sources.moments(frame[asked.time], asked.time, config.timezone)
        if asked.time
        else pd.Series(at, frame.index)
    )
    said, by_key = frame[value].notna() & (moments <= at), keys != [PREDICTION]
    frame, known = frame[said], [stamp(m) for m in moments[said]]
    names = [
        named_row(k) if by_key else str(k[0])
        for k in frame[keys].itertuples(index=False, name=None)
    ]
    return list(map(Said, names, frame[value], known)), by_key


def retried(project: Project, at: Any) -> Counter[str]:
    """File anew the messages that named no prediction then, and do now."""
    model, counts = project.config.name, Counter[str]()
    with session(project) as opened:
        waiting = list(
            opened.scalars(
                sa.select(Label)
                .where(Label.model == model, Label.word == "unknown")
                .order_by(Label.id)
            )
        )
        for by_key in (False, True):
            tried = [
                w for w in waiting if not (by_key and w.origin == "feedback")
            ]  # feedback names predictions by id only
            found, present = matches(opened, model, [w.prediction for w in tried], by_key)
            for message in [w for w in tried if w.prediction in found]:
                assert message.value is not None  # else it had been refused
                for prediction in found[message.prediction]:
                    word = file(present, prediction, message.value, message.known)
                    put(
                        opened,
                        Label(
                            model,
                            prediction,
                            message.value,
                            message.said,
                            message.known,
                            message.origin,
                            word,
                            stamp(at),
                            word in COUNTS,
                        ),
                    )
                    counts[word] += 1
                opened.delete(message)
                waiting.remove(message)
    return counts
