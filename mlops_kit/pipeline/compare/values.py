"""Values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops_kit.core.serialization import to_json_value
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide


def compare_values(
    section: str, old: dict[str, Any], new: dict[str, Any], *, absent: str = NOT_THERE
) -> Iterator[ComparisonRow]:
    """Values by name that differ."""
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name) or (name in old) != (name in new):
            before, now = (
                str(to_json_value(side[name])) if name in side else absent for side in (old, new)
            )
            yield ComparisonRow(section, name, before, now)


def collect_traced_values(a: RunSide, b: RunSide, part: str) -> list[dict[str, Any]]:
    """A part of what was used by the stages that both runs have traced."""
    both = [
        s
        for s, e in a[1].stages.items()
        if e.dependencies is not None and b[1].get_stage(s).dependencies is not None
    ]
    return [
        {n: v for s in both for n, v in getattr(m.stages[s].dependencies, part).items()}
        for _, m, _ in (a, b)
    ]


def keep_common_names(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    """What both know."""
    return [{n: v for n, v in side.items() if n in old and n in new} for side in (old, new)]
