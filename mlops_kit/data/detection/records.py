"""What detection finds in a table: one typed record per guess."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel


class GuessTopic(StrEnum):
    """What a guess is about."""

    TASK = "task"
    POSITIVE_CLASS = "positive class"
    UNLABELED = "unlabeled rows"
    TIME = "time"
    LABEL_DELAY = "label delay"
    ID = "id"
    GROUP = "group"
    CONSTANT = "constant"
    DUPLICATE = "duplicate"
    LEAK = "leak"
    FREE_TEXT = "free text"
    DATE_AS_TEXT = "date as text"
    SENTINEL = "sentinel"
    NESTED = "lists or objects"
    REJECTED_ROWS = "rejected rows"
    READING = "reading"


@dataclass(frozen=True)
class GivenSettings:
    """Settings that are known before detection; the other guesses depend on them.

    Attributes
    ----------
    task, positive : str, optional
        The task, and the positive class of a binary one; None: detected.
    time : str, optional
        The column with the prediction time; empty: the table has none; None: detected.
    id_columns : list of str, optional
        The columns that identify a row; empty: there are none; None: detected.
    group : str, optional
        The column of ``validation.group``; empty: rows are split one by one; None: detected.
    """

    task: str | None = None
    positive: str | None = None
    time: str | None = None
    id_columns: list[str] | None = None
    group: str | None = None


class Guess(BaseModel, frozen=True, extra="forbid"):
    """A property of a table, with the evidence for it.

    Attributes
    ----------
    topic : GuessTopic
        What it is about.
    setting : str
        The setting of ``mlops.yaml`` that follows from it; empty if none does.
    value : Any
        The value of that setting as JSON: for a list, what this guess adds to it.
    reason : str
        The evidence as a sentence with numbers.
    is_certain : bool
        False if the table alone cannot confirm it: a person has to look.
    alternatives : list
        Other values that are possible.
    columns : list of str
        The columns that it is about.
    """

    topic: GuessTopic
    setting: str = ""
    value: Any = None
    reason: str
    is_certain: bool = True
    alternatives: list[Any] = []
    columns: list[str] = []


class DetectionReport(BaseModel, frozen=True, extra="forbid"):
    """All guesses about a table."""

    schema_version: Literal[1] = 1
    rows: int
    target: str
    guesses: list[Guess]

    def select(self, topic: GuessTopic) -> list[Guess]:
        """Return the guesses about a topic."""
        return [guess for guess in self.guesses if guess.topic == topic]

    def get_value(self, setting: str) -> Any:
        """Return the value of a setting; for several guesses, their lists together.

        None if no guess sets it.
        """
        values = [guess.value for guess in self.guesses if guess.setting == setting]
        if not values:
            return None
        if not isinstance(values[0], list):
            return values[0]
        combined: list[Any] = []
        for value in values:
            combined += [item for item in value if item not in combined]
        return combined
