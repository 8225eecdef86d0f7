"""Profiles and bins as JSON, in which the database stores them.

Counts are whole numbers unless rows have weights. Edges are stored as text, so that infinities and
every digit survive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.lazy import np
from mlops_kit.stages.monitor.column_bins import MAX_LISTED_UNSEEN, ColumnBins
from mlops_kit.stages.monitor.profiles import DriftProfile

PROFILE_SCHEMA_VERSION = 1
_DAY_FIELDS = ("rows", "weights", "squared_weights")


@dataclass(frozen=True)
class ReferenceProfile:
    """What windows of a version are compared with, as counts.

    Attributes
    ----------
    bins : mapping of str to ColumnBins
        The bins of each column, made from the reference.
    reference : DriftProfile
        The profile of the rows that the version was evaluated on.
    history : DriftProfile or None
        The profile of all rows that it was made from; None if rows have weights.
    """

    bins: Mapping[str, ColumnBins]
    reference: DriftProfile
    history: DriftProfile | None

    def to_json(self) -> str:
        """Convert to the JSON text that the database stores."""
        history = None if self.history is None else _encode_profile(self.history)
        return json.dumps(
            {
                "schema_version": PROFILE_SCHEMA_VERSION,
                "bins": {name: _encode_bins(bins) for name, bins in self.bins.items()},
                "reference": _encode_profile(self.reference),
                "history": history,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> ReferenceProfile:
        """Read the JSON text of a stored record."""
        stored = json.loads(text)
        history = stored["history"]
        return cls(
            bins={name: _decode_bins(bins) for name, bins in stored["bins"].items()},
            reference=_decode_profile(stored["reference"]),
            history=None if history is None else _decode_profile(history),
        )


def profile_to_json(profile: DriftProfile) -> str:
    """Convert a profile to the JSON text that the database stores."""
    return json.dumps({"schema_version": PROFILE_SCHEMA_VERSION, **_encode_profile(profile)})


def profile_from_json(text: str) -> DriftProfile:
    """Read a profile from the JSON text that the database stores."""
    return _decode_profile(json.loads(text))


def _encode_profile(profile: DriftProfile) -> dict[str, Any]:
    """Convert a profile to JSON values; without weights, sums of weights are left out."""
    encoded: dict[str, Any] = {"days": list(profile.days), "rows": _encode_numbers(profile.rows)}
    if not np.array_equal(profile.weights, profile.rows):
        encoded["weights"] = _encode_numbers(profile.weights)
        encoded["squared_weights"] = _encode_numbers(profile.squared_weights)
    encoded["counts"] = {name: _encode_numbers(counts) for name, counts in profile.counts.items()}
    encoded["unseen_names"] = {name: list(names) for name, names in profile.unseen_names.items()}
    return encoded


def _encode_numbers(values: np.ndarray) -> list[Any]:
    """Convert counts to a list, of whole numbers if they are."""
    whole = values.astype(np.int64)
    numbers = whole if np.array_equal(whole, values) else values
    return list(numbers.tolist())


def _decode_profile(stored: Mapping[str, Any]) -> DriftProfile:
    """Restore a profile."""
    rows = np.array(stored["rows"], dtype=float)
    sums = {name: np.array(stored.get(name, rows), dtype=float) for name in _DAY_FIELDS}
    counts = {}
    for name, column_counts in stored["counts"].items():
        values = np.array(column_counts, dtype=float)
        counts[name] = values.reshape(len(rows), -1) if len(rows) else values[:, None]
    unseen_names = {name: tuple(names) for name, names in stored["unseen_names"].items()}
    return DriftProfile(
        days=tuple(stored["days"]),
        counts=counts,
        unseen_names=unseen_names,
        **sums,
    )


def _encode_bins(bins: ColumnBins) -> dict[str, Any]:
    """Convert bins to JSON values."""
    return {
        "kind": str(bins.kind),
        "edges": [repr(float(edge)) for edge in bins.edges],
        "categories": list(bins.categories),
        "has_others": bins.has_others,
        "tails": [repr(float(tail)) for tail in bins.tails],
        "distinct": int(bins.distinct),
    }


def _decode_bins(stored: Mapping[str, Any]) -> ColumnBins:
    """Restore bins."""
    low, high = stored["tails"]
    return ColumnBins(
        kind=stored["kind"],
        edges=np.array([float(edge) for edge in stored["edges"]]),
        categories=tuple(stored["categories"]),
        has_others=stored["has_others"],
        tails=(float(low), float(high)),
        distinct=stored["distinct"],
    )


def sum_profiles(profiles: list[DriftProfile]) -> DriftProfile:
    """Sum profiles with the same bins, day by day; days in their order.

    A day that several profiles have, such as that of the border of two windows, is one day.
    """
    days = sorted({day for profile in profiles for day in profile.days})
    position_by_day = {day: position for position, day in enumerate(days)}
    positions = np.array(
        [position_by_day[day] for profile in profiles for day in profile.days], dtype=np.intp
    )
    sums = {}
    for name in _DAY_FIELDS:
        values = np.concatenate([getattr(profile, name) for profile in profiles])
        sums[name] = np.bincount(positions, values, minlength=len(days))
    counts = {}
    unseen_names = {}
    for name in profiles[0].counts:
        stacked = np.vstack([profile.counts[name] for profile in profiles])
        total = np.zeros((len(days), stacked.shape[1]))
        np.add.at(total, positions, stacked)
        counts[name] = total
        names = {value for profile in profiles for value in profile.unseen_names[name]}
        unseen_names[name] = tuple(sorted(names)[:MAX_LISTED_UNSEEN])
    return DriftProfile(
        days=tuple(days),
        counts=counts,
        unseen_names=unseen_names,
        **sums,
    )
