"""The reviewed versions of a project and what their runs stored.

Everything is read from the files of the runs and the database of decisions, which is quick; nothing
is computed, and MLflow is not asked. The registry is asked when somebody decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError, suggest_names
from mlops_kit.core.results import Interval, KeyNumber, KeyNumbers, Table, Verdict, Verdicts
from mlops_kit.dashboards.text_formats import format_heading, get_metric_title
from mlops_kit.db.approvals import list_approvals, list_promotions
from mlops_kit.db.operator_decisions import list_rolled_back_versions
from mlops_kit.db.tables import ApprovalOutcome, ApprovalRecord, PromotionRecord
from mlops_kit.project.artifacts import Artifact, read_artifact
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import list_artifacts, list_run_folders, read_stage_records
from mlops_kit.project.run_manifest import RunManifest, RunStatus, read_stored_manifest
from mlops_kit.stages.review.stored_tables import add_number_keys, translate_old_columns

RERUN_REVIEW_COMMAND = "mlops run --from review"
REVIEW_SUBJECT = "the review stage"  # of the checks that are counted
COST_METRIC = "cost"
# How reviews of earlier versions name the champion, which had no field of its own.
_OLD_CHAMPION_PHRASE = re.compile(r"[Vv]ersion (\S+?)(?:\?| answers| has)")

RecordT = TypeVar("RecordT")


@dataclass(frozen=True)
class MetricRow:
    """A metric of a version, with those of the baselines."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    baseline_linear: float | None
    baseline_constant: float | None

    @property
    def title(self) -> str:
        """The metric in words."""
        return format_heading(get_metric_title(self.metric))

    @property
    def text(self) -> str:
        """The value with its interval."""
        return str(Interval(self.value, self.low, self.high))


@dataclass(frozen=True)
class DifferenceRow:
    """A difference between a version and the champion of its review; positive is better."""

    metric: str
    title: str
    difference: float | None
    low: float | None
    high: float | None
    margin: float | None
    verdict: str
    text: str


@dataclass(frozen=True)
class CalibrationPoint:
    """A bin of a calibration curve."""

    model: str
    predicted: float
    observed: float | None
    low: float | None
    high: float | None
    share: float


@dataclass(frozen=True)
class SliceRow:
    """The performance on a slice; ``gap`` is the gain over all rows."""

    slice: str
    rows: int
    value: float | None
    low: float | None
    high: float | None
    gap: float | None
    status: str


@dataclass(frozen=True)
class ImportanceRow:
    """The permutation importance of a feature."""

    feature: str
    importance: float


@dataclass(frozen=True)
class WhatIfRow:
    """The score of a row if one of its columns had another value."""

    row: str
    score: float
    column: str
    value: str
    new_value: str
    new_score: float


def get_first(items: Sequence[RecordT]) -> RecordT | None:
    """Return the first of some items; None if there are none."""
    return items[0] if items else None


def get_last(items: Sequence[RecordT]) -> RecordT | None:
    """Return the last of some items; None if there are none."""
    return items[-1] if items else None


def read_records(table: Table, record_type: type[RecordT]) -> list[RecordT]:
    """Read the rows of a stored table as records; what is missing is None."""
    names = [field.name for field in fields(cast(Any, record_type))]
    records = []
    rows = table.to_frame().reindex(columns=names).itertuples(index=False, name=None)
    for row in rows:
        values = [value if value == value else None for value in row]
        records.append(record_type(*values))
    return records


@dataclass(frozen=True)
class ShownFacts:
    """Which model and evidence a page shows; the server compares them when somebody decides.

    ``seen`` is the id of the last decision on the version that the page shows; 0 for none.
    """

    run: str
    version: str
    model_hash: str
    evidence_hash: str
    seen: str


@dataclass(frozen=True)
class StoredReview:
    """A reviewed version and the run that reviewed it last."""

    project: Project
    number: str
    run: Path

    @cached_property
    def manifest(self) -> RunManifest:
        """What the run was made from and how it ended."""
        return read_stored_manifest(self.run)

    @cached_property
    def artifacts(self) -> dict[str, Artifact]:
        """All that the run stored, by name."""
        return list_artifacts(self.run)

    def read(self, name: str) -> Any:
        """Read a stored artifact.

        Raises
        ------
        RunFailedError
            If the run has no such artifact, or it is damaged.
        """
        if name not in self.artifacts:
            raise RunFailedError(
                f"run {self.run.name} did not store {name!r}: an older version of mlops-kit made "
                "it, or it stopped before",
                "a run that stored it",
                RERUN_REVIEW_COMMAND,
            )
        return read_artifact(self.run, self.artifacts[name])

    def read_table(self, name: str) -> Table:
        """Read a stored table, with the present names of its columns."""
        return translate_old_columns(name, self.read(name))

    @cached_property
    def classes(self) -> list[Any]:
        """The classes in the order of their codes; empty if they are not on record."""
        if "model" not in self.artifacts:
            return []
        return list(self.read("model").get("classes", []))

    @cached_property
    def metrics(self) -> dict[str, MetricRow]:
        """The metrics by title."""
        rows = read_records(self.read_table("metrics"), MetricRow)
        return {row.title: row for row in rows}

    @cached_property
    def differences(self) -> list[DifferenceRow]:
        """The differences to the champion of the review; empty if there was none."""
        if "against" not in self.artifacts:
            return []
        return read_records(self.read_table("against"), DifferenceRow)

    @property
    def has_differences(self) -> bool:
        """Whether the review compared it with a champion."""
        return bool(self.differences)

    @cached_property
    def key_numbers(self) -> KeyNumbers:
        """The numbers that matter; of an older run those that its review showed."""
        numbers = None
        if "numbers" not in self.artifacts:
            numbers = self._read_old_key_numbers()
        if numbers is None:
            numbers = cast(KeyNumbers, self.read("numbers"))
        return add_number_keys(numbers, self.project.config.target, self.champion_version)

    def _read_old_key_numbers(self) -> KeyNumbers | None:
        """Read the key numbers that a review of an earlier version showed."""
        record = read_stage_records(self.run).get("review", {})
        for shown in record.get("shown", []):
            if shown.get("numbers"):
                return KeyNumbers(shown["title"], shown["sentence"], tuple(shown["numbers"]))
        return None

    def find_key_number(self, key: str) -> KeyNumber | None:
        """Find a key number by its key."""
        for number in self.key_numbers.items:
            if number.key == key:
                return number
        return None

    @cached_property
    def verdicts(self) -> Verdicts:
        """All checks of the review, including those against the champion."""
        return Verdicts.from_verdicts([*self.read("verdicts"), *self.read("comparison")])

    @property
    def blocking_verdict(self) -> Verdict | None:
        """The first check that blocks the version."""
        for verdict in self.verdicts:
            if verdict.is_blocking:
                return verdict
        return None

    @cached_property
    def shown_facts(self) -> ShownFacts:
        """What a page shows of the version, for the server to compare."""
        version = self.read("version")
        evidence_hash = version.get("evidence_hash")
        if not evidence_hash:  # not stored by earlier versions
            evidence = {}
            for name, artifact in self.artifacts.items():
                if artifact.stage == "review" and artifact.content:
                    evidence[name] = artifact.content
            evidence_hash = files.hash_json(evidence)
        last_approval = self.last_approval
        last_approval_id = 0
        if last_approval is not None:
            last_approval_id = last_approval.id
        return ShownFacts(
            run=self.run.name,
            version=self.number,
            model_hash=version["model_hash"],
            evidence_hash=evidence_hash,
            seen=str(last_approval_id),
        )

    @cached_property
    def approvals(self) -> list[ApprovalRecord]:
        """The decisions on the version, the newest first."""
        return [record for record in list_approvals(self.project) if record.version == self.number]

    @property
    def last_approval(self) -> ApprovalRecord | None:
        """The last decision on the version."""
        return get_first(self.approvals)

    @cached_property
    def promotion(self) -> PromotionRecord | None:
        """The last promotion of the version; None if it was never in service."""
        for record in list_promotions(self.project):
            if record.version == self.number:
                return record
        return None

    @cached_property
    def successor(self) -> PromotionRecord | None:
        """The promotion that ended the last service of the version; None while it serves."""
        if self.promotion is None:
            return None
        for record in list_promotions(self.project):
            if record.number == self.promotion.number + 1:
                return record
        return None

    @property
    def is_rolled_back(self) -> bool:
        """Whether its last service ended with a rollback."""
        promotions = list(reversed(list_promotions(self.project)))
        return self.number in list_rolled_back_versions(promotions)

    @property
    def was_reinstated(self) -> bool:
        """Whether it has been in service more than once."""
        promotions = list_promotions(self.project)
        return sum(record.version == self.number for record in promotions) > 1

    @property
    def is_champion(self) -> bool:
        """Whether the version is in service."""
        promotions = list_promotions(self.project, limit=1)
        return bool(promotions) and promotions[0].version == self.number

    @property
    def is_waiting(self) -> bool:
        """Whether its run waits for a decision."""
        return self.manifest.status == RunStatus.WAITING_FOR_APPROVAL

    @property
    def is_approved(self) -> bool:
        """Whether it was approved last and has never been in service."""
        last = self.last_approval
        is_approved = last is not None and last.outcome == ApprovalOutcome.APPROVED
        return is_approved and self.promotion is None

    @property
    def is_rejected(self) -> bool:
        """Whether the last decision on it was to reject it."""
        last = self.last_approval
        return last is not None and last.outcome == ApprovalOutcome.REJECTED

    @property
    def sample_rows(self) -> int:
        """The rows of a trial run; 0 for all rows."""
        return self.manifest.sample

    @cached_property
    def champion_version(self) -> str:
        """The champion that it was compared with on the same rows; empty if there was none."""
        with suppress(KitError):
            for verdict in self.verdicts:
                if "champion_version" in verdict.diagnostics:
                    return str(verdict.diagnostics["champion_version"])
            return self._find_old_champion_version()
        return ""

    def _find_old_champion_version(self) -> str:
        """Find the champion in the sentences of a review of an earlier version."""
        texts = [verdict.sentence for verdict in self.verdicts]
        if "against" in self.artifacts:
            texts.insert(0, self.read_table("against").title)
        for text in texts:
            match = _OLD_CHAMPION_PHRASE.search(text)
            if match:
                return match.group(1)
        return ""


def iterate_reviews(project: Project) -> Iterator[StoredReview]:
    """Iterate over the runs that registered a version, the newest first."""
    for run in list_run_folders(project.reports_folder):
        file = run / "artifacts" / "version.json"
        number = files.read_json(file).get("version") if file.exists() else None
        if number is not None:
            yield StoredReview(project, str(number), run)


def list_reviews(project: Project) -> list[StoredReview]:
    """List the reviewed versions, the newest first, each with its newest run."""
    reviews: dict[str, StoredReview] = {}
    for review in iterate_reviews(project):
        reviews.setdefault(review.number, review)
    return sorted(reviews.values(), key=lambda review: int(review.number), reverse=True)


def find_review(reviews: Sequence[StoredReview], number: str) -> StoredReview:
    """Find a version by its number.

    Raises
    ------
    KitError
        If no run has it; the message lists the versions that there are.
    """
    by_number = {review.number: review for review in reviews}
    if number not in by_number:
        raise KitError(
            f"no run has version {number!r}",
            suggest_names(number, by_number),
            "choose another version, or mlops run",
        )
    return by_number[number]


def choose_review(reviews: Sequence[StoredReview]) -> StoredReview:
    """Choose the version to show: the newest that waits, else the champion, else the newest.

    A version that was rejected or trained on a sample does not wait.
    """
    for review in reviews:
        if review.is_waiting and not review.is_rejected and not review.sample_rows:
            return review
    for review in reviews:
        if review.is_champion:
            return review
    return reviews[0]
