"""Records."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.run_manifest import RunManifest

NOT_THERE = "not there"


@dataclass(frozen=True)
class ComparisonRow:
    """One thing in both runs; ``same`` is True where nothing differs beyond noise, None where it cannot be told."""

    section: str
    name: str
    old: str
    new: str
    is_same: bool | None = False
    explanation: str = ""


@dataclass(frozen=True)
class RunComparison:
    """Two runs, what differs between them, the code as a diff by notebook, and figures of one title side by side."""

    old_run: str
    new_run: str
    rows: list[ComparisonRow]
    code_diffs: dict[str, str] = field(default_factory=dict)
    figures: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def differences(self) -> str:
        """What differs, in a sentence."""
        count = {
            s: sum(r.is_same is False for r in rows) for s, rows in self.rows_by_section.items()
        }
        told = [f"{n} in {s}" for s, n in count.items() if n]
        unsure = sum(r.is_same is None for r in self.rows)
        clear = [
            f" {r.name}: {r.explanation}."
            for r in self.rows
            if r.section == "metrics" and r.is_same is False and r.explanation
        ]
        return (
            ("differences: " + ", ".join(told) if told else "nothing differs beyond noise")
            + (f"; of {unsure} more it cannot be told." if unsure else ".")
            + "".join(clear)
        )

    @property
    def sentence(self) -> str:
        """Which runs, and what differs."""
        return f"{self.new_run} against {self.old_run}: {self.differences}"

    @property
    def rows_by_section(self) -> dict[str, list[ComparisonRow]]:
        """The rows by section."""
        return {
            s: [r for r in self.rows if r.section == s]
            for s in dict.fromkeys(r.section for r in self.rows)
        }

    def to_json_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "old": self.old_run,
            "new": self.new_run,
            "sentence": self.sentence,
            "rows": [vars(r) for r in self.rows],
            "code": self.code_diffs,
        }


@dataclass(frozen=True)
class OutputComparison:
    """Whether an artifact or a logged number of a stage is identical in two runs; None where it is a record of the world outside."""

    stage: str
    name: str
    is_same: bool | None
    detail: str


RunSide = tuple[Path, RunManifest, ProjectConfig]
