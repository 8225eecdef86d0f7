"""The result of comparing two runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.run_manifest import RunManifest

NOT_THERE = "not there"  # shown in place of a value that one of the runs does not have


class Difference(StrEnum):
    """Whether two runs differ in something, beyond noise."""

    DIFFERENT = "differs"
    NONE = "no clear difference"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True)
class RunSide:
    """One of the two runs: its folder, its manifest, and the settings that it was started with."""

    folder: Path
    manifest: RunManifest
    config: ProjectConfig


@dataclass(frozen=True)
class ComparisonRow:
    """One value in both runs.

    Attributes
    ----------
    section : str
        The section of the comparison that it belongs to.
    name : str
        What is compared.
    old, new : str
        The value in either run, as it is shown.
    difference : Difference
        Whether the values differ beyond noise.
    explanation : str
        More about the difference.
    """

    section: str
    name: str
    old: str
    new: str
    difference: Difference = Difference.DIFFERENT
    explanation: str = ""


@dataclass(frozen=True)
class FigurePair:
    """A figure of both runs as SVG; empty where a run does not have it."""

    title: str
    old: str
    new: str


@dataclass(frozen=True)
class RunComparison:
    """Two runs and what differs between them.

    Attributes
    ----------
    old_run, new_run : str
        Names of the runs.
    rows : list of ComparisonRow
        What was compared.
    code_diffs : dict
        How the code cells and source files differ, by the name of the notebook or file.
    figures : list of FigurePair
        The figures that differ.
    """

    old_run: str
    new_run: str
    rows: list[ComparisonRow]
    code_diffs: dict[str, str] = field(default_factory=dict)
    figures: list[FigurePair] = field(default_factory=list)

    @property
    def differences(self) -> str:
        """What differs, in a sentence."""
        counts: list[str] = []
        for section, rows in self.rows_by_section.items():
            count = _count_rows(rows, Difference.DIFFERENT)
            if count:
                counts.append(f"{count} in {section}")
        sentence = "nothing differs beyond noise"
        if counts:
            sentence = "differences: " + ", ".join(counts)
        unknown = _count_rows(self.rows, Difference.UNKNOWN)
        if unknown:
            sentence += f"; undecided: {unknown}"
        explanations = [
            f" {row.name}: {row.explanation}."
            for row in self.rows_by_section.get("metrics", [])
            if row.difference == Difference.DIFFERENT and row.explanation
        ]
        return f"{sentence}.{''.join(explanations)}"

    @property
    def sentence(self) -> str:
        """Which runs are compared, and what differs."""
        return f"{self.new_run} compared with {self.old_run}: {self.differences}"

    @property
    def rows_by_section(self) -> dict[str, list[ComparisonRow]]:
        """The rows by section, in the order of the sections."""
        sections: dict[str, list[ComparisonRow]] = {}
        for row in self.rows:
            sections.setdefault(row.section, []).append(row)
        return sections

    def to_json_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, without the figures."""
        return {
            "old": self.old_run,
            "new": self.new_run,
            "sentence": self.sentence,
            "rows": [asdict(row) for row in self.rows],
            "code": self.code_diffs,
        }


@dataclass(frozen=True)
class OutputComparison:
    """Whether an artifact or logged number of a stage is identical in two runs.

    Attributes
    ----------
    stage, name : str
        The stage and the name of the output.
    is_same : bool or None
        None for a record of the outside world, which is not compared.
    detail : str
        The value, or both values if they differ.
    """

    stage: str
    name: str
    is_same: bool | None
    detail: str


def _count_rows(rows: Iterable[ComparisonRow], difference: Difference) -> int:
    return sum(row.difference == difference for row in rows)
