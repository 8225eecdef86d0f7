"""The recipe that a search has chosen: what is fitted, on which features, with which threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """A model family with its parameters, and how it scored in the search.

    Attributes
    ----------
    threshold : float or None
        The decision threshold of least cost on the validation rows; None for a regression.
    features : list of str
        The columns that the model sees, in their order.
    metric : str
        The metric of the search; ``less_is_better`` says which way it points.
    score : float
        The metric's mean over the folds.
    rows, folds : int
        Training rows that a trial saw, and the folds it was validated on.
    trials : int
        How many recipes were tried.
    seconds : float
        Duration of the search: the only value that varies between equal searches.
    stopped_by_clock : bool
        Whether the time limit ended the search.
    baselines : dict of str to float
        The scores of the baselines, by name.
    training_rows : str
        The rows that models are fitted on, as ``train.rows`` states it.
    row_alternatives : list of dict
        How each selection of training rows scored; empty if none was compared.
    """

    family: str
    params: dict[str, Any]
    threshold: float | None
    features: list[str]
    metric: str
    less_is_better: bool
    score: float
    rows: int
    folds: int
    trials: int
    seconds: float
    stopped_by_clock: bool
    baselines: dict[str, float]
    training_rows: str = "all"
    row_alternatives: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary, for the artifact ``recipe``."""
        return {"schema_version": _SCHEMA_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read the artifact ``recipe``, also one of an earlier version."""
        names = [item.name for item in fields(cls) if item.name in values]
        return cls(**{name: values[name] for name in names})
