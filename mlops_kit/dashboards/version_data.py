"""The reviewed versions of a project and what their runs stored: read, never computed, never asked of MLflow.

The first screen is made from the runs' files and the database of decisions alone, which is quick;
the registry is asked again when somebody decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.results import Interval, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.dashboards.text_formats import heading
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalRecord, PromotionRecord
from mlops_kit.project import run_folder
from mlops_kit.project.artifacts import Artifact, read_artifact
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunManifest, RunStatus, read_stored_manifest
from mlops_kit.stages.review.stored_tables import translate_old_columns
from mlops_kit.stats.metrics import METRICS

AGAIN = "mlops run --from review"


@dataclass(frozen=True)
class Version:
    """A reviewed version and the run that reviewed it last."""

    project: Project
    number: str
    run: Path

    @cached_property
    def manifest(self) -> RunManifest:
        """What the run was made from and what became of it."""
        return read_stored_manifest(self.run)

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """All that the run stored, by name."""
        return run_folder.list_artifacts(self.run)

    def read(self, name: str) -> Any:
        """A stored result.

        Raises
        ------
        RunFailed
            If the run has none, or it is damaged.
        """
        if name not in self.artifacts:
            raise RunFailedError(
                f"run {self.run.name} did not store {name!r}: an older version made it, or it stopped before",
                "a run that stored it",
                AGAIN,
            )
        return read_artifact(self.run, self.artifacts[name])

    def table(self, name: str) -> Table:
        """A stored table with its sentence."""
        return translate_old_columns(name, self.read(name))

    def grouped(self, name: str, *columns: str) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        """The rows of a stored table by what stands in some columns, in their order."""
        found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in records(self.table(name)):
            found.setdefault(tuple(str(row[c]) for c in columns), []).append(row)
        return found

    @cached_property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Each metric's stored row by the metric's title, with its interval as text."""
        rows = {r["metric"]: r for r in records(self.table("metrics"))}
        return {
            heading(METRICS[m].title if m in METRICS else m): {
                **r,
                "text": str(Interval(r["value"], r["low"], r["high"])),
            }
            for m, r in rows.items()
        }

    @cached_property
    def numbers(self) -> KeyNumbers:
        """The few numbers that matter; of an older run those that its review showed."""
        shown = (
            []
            if "numbers" in self.artifacts
            else run_folder.read_stage_records(self.run).get("review", {}).get("shown", [])
        )
        for old in (s for s in shown if s.get("numbers")):
            return KeyNumbers(old["title"], old["sentence"], tuple(old["numbers"]))
        return cast(KeyNumbers, self.read("numbers"))

    @cached_property
    def verdicts(self) -> Verdicts:
        """All checks of the review, the ones against the champion included."""
        return Verdicts.from_verdicts([*self.read("verdicts"), *self.read("comparison")])

    @property
    def blocking(self) -> Verdict | None:
        """The check that keeps it from serving."""
        return next((v for v in self.verdicts if v.is_blocking), None)

    @cached_property
    def facts(self) -> dict[str, str]:
        """Which model and which evidence the page shows, and what it knows of what was said: the server compares."""
        kept = self.read("version")
        review = {
            n: a.content for n, a in self.artifacts.items() if a.stage == "review" and a.content
        }
        last = next((o.id for o in self.opinions), 0)
        return {
            "run": self.run.name,
            "version": self.number,
            "model_hash": kept["model_hash"],
            "evidence_hash": kept.get("evidence_hash") or files.hash_json(review),
            "seen": str(last),
        }

    @cached_property
    def opinions(self) -> list[ApprovalRecord]:
        """What was said of the version, the newest first."""
        return [o for o in approvals.list_approvals(self.project) if o.version == self.number]

    @cached_property
    def promotion(self) -> PromotionRecord | None:
        """Its last promotion; None if it never served."""
        return next(
            (p for p in approvals.list_promotions(self.project) if p.version == self.number), None
        )

    @property
    def serves(self) -> bool:
        """Whether it is the champion."""
        return any(p.version == self.number for p in approvals.list_promotions(self.project, 1))

    @property
    def waits(self) -> bool:
        """Whether its run waits for somebody to decide."""
        return self.manifest.status == RunStatus.WAITING_FOR_APPROVAL

    @property
    def said(self) -> str:
        """The last word on it: approved, rejected, changes, or nothing."""
        return next((o.outcome for o in self.opinions), "")

    @property
    def sample(self) -> int:
        """The rows of a trial run; 0 for all rows."""
        return self.manifest.sample

    @cached_property
    def opponent(self) -> str:
        """The number of the version that it was compared with on the same rows; empty if there was none, or nothing tells."""
        with suppress(KitError):
            for verdict in self.verdicts:
                if "champion_version" in verdict.diagnostics:
                    return str(verdict.diagnostics["champion_version"])
            # Reviews made by earlier versions name it in sentences only.
            old_title = self.table("against").title if "against" in self.artifacts else ""
            for text in (old_title, *(v.sentence for v in self.verdicts)):
                found = re.search(r"[Vv]ersion (\S+?)(?:\?| answers| has)", text)
                if found:
                    return found.group(1)
        return ""


def records(table: Table) -> list[dict[str, Any]]:
    """The rows of a stored table; None for what is missing."""
    return [
        {str(k): v if v == v else None for k, v in row.items()}
        for row in table.to_frame().to_dict("records")
    ]


def versions(project: Project) -> list[Version]:
    """The versions that a review registered, the newest first; each with the newest run that has it."""
    found = dict(reversed([(v.number, v) for v in reviewed(project)]))
    return sorted(found.values(), key=lambda v: int(v.number), reverse=True)


def reviewed(project: Project) -> Iterator[Version]:
    """A version for each run that has one, the newest run first."""
    for run in run_folder.list_run_folders(project.reports_folder):
        file = run / "artifacts" / "version.json"
        number = files.read_json(file).get("version") if file.exists() else None
        if number is not None:
            yield Version(project, str(number), run)


def pick(known: list[Version], number: str) -> Version:
    """A version by its number.

    Raises
    ------
    KitError
        If no run here has it.
    """
    made = {v.number: v for v in known}
    if number not in made:
        raise KitError(
            f"no run here has version {number!r}",
            suggest_names(number, made),
            "choose another one, or mlops run",
        )
    return made[number]


def asked_for(known: list[Version]) -> Version:
    """The version to show where none is named: the newest that waits and was not rejected, else the champion, else the newest."""
    waiting = next((v for v in known if v.waits and v.said != "rejected" and not v.sample), None)
    return waiting or next((v for v in known if v.serves), None) or known[0]
