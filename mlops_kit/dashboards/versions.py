"""The reviewed versions of a project and what their runs stored: read, never computed, never asked of MLflow.

The first screen is made from the runs' files and the database of decisions alone, which is quick;
the registry is asked again when somebody decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit import decisions, store
from mlops_kit import stage as stages
from mlops_kit.config import Project
from mlops_kit.errors import KitError, RunFailed, nearest

if TYPE_CHECKING:
    from mlops_kit.database import Opinion

AGAIN = "mlops run --from review"


@dataclass(frozen=True)
class Version:
    """A reviewed version and the run that reviewed it last."""

    project: Project
    number: str
    run: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run was made from and what became of it."""
        found: dict[str, Any] = store.read_json(self.run / "manifest.json")
        return found

    @cached_property
    def artifacts(self) -> dict[str, store.Artifact]:
        """All that the run stored, by name."""
        return stages.artifacts(self.run)

    @cached_property
    def shown(self) -> list[dict[str, Any]]:
        """What the review showed, with its sentences."""
        found: list[dict[str, Any]] = stages.records(self.run).get("review", {}).get("shown", [])
        return found

    def read(self, name: str) -> Any:
        """A stored result.

        Raises
        ------
        RunFailed
            If the run has none, or it is damaged.
        """
        if name not in self.artifacts:
            raise RunFailed(f"the run {self.run.name} stored no {name.replace('_', ' ')!r}: it was made by an older version of mlops-kit, or stopped before", "a run that has it", AGAIN)
        return store.read_artifact(self.run, self.artifacts[name])

    @cached_property
    def facts(self) -> dict[str, str]:
        """Which model and which evidence this page shows: the server compares them with the registry's."""
        kept = self.read("version")
        review = {n: a.content for n, a in self.artifacts.items() if a.stage == "review" and a.content}
        return {"run": self.run.name, "version": self.number, "model_hash": kept["model_hash"], "evidence_hash": kept.get("evidence_hash") or store.text_hash(review)}

    @cached_property
    def opinion(self) -> Opinion | None:
        """The last word that was said of this very model and evidence."""
        return decisions.opinion(self.project, self.facts)

    @property
    def waits(self) -> bool:
        """Whether its run waits for somebody to decide."""
        return str(self.manifest["status"]).startswith("waiting") and (self.opinion is None or self.opinion.word == "changes")

    @property
    def sample(self) -> int:
        """The rows of a trial run; 0 for all rows."""
        return int(self.manifest["sample"])


def versions(project: Project) -> list[Version]:
    """The versions that a review registered, the newest first; each with the newest run that has it."""
    found: dict[str, Version] = {}
    for run in stages.runs(project.reports):
        file = run / "artifacts" / "version.json"
        number = store.read_json(file).get("version") if file.exists() else None
        if number is not None and number not in found:
            found[number] = Version(project, number, run)
    return sorted(found.values(), key=lambda v: int(v.number), reverse=True)


def pick(known: list[Version], number: str) -> Version:
    """A version by its number.

    Raises
    ------
    KitError
        If no run here has it.
    """
    made = {v.number: v for v in known}
    if number not in made:
        raise KitError(f"no run here has version {number!r}", nearest(number, made) if made else "a version that a review registered", "mlops run")
    return made[number]


def asked_for(project: Project, known: list[Version]) -> Version:
    """The version to show where none is named: the newest that waits, else the champion, else the newest."""
    waiting = next((v for v in known if v.waits), None)
    present = decisions.current(project)
    serving = next((v for v in known if present is not None and v.number == present.version), None)
    return waiting or serving or known[0]


def opponent(version: Version) -> str:
    """The number of the version that it was compared with; empty if there was none.

    The review names it; of an older run it is the champion of that moment.
    """
    named = version.read("version").get("against")
    if named is not None:
        return str(named)
    reviewed = version.manifest["stages"].get("review", {}).get("started") or version.manifest["started"]
    before = [p.version for p in decisions.history(version.project) if p.at < reviewed and p.version != version.number]
    return before[0] if before else ""
