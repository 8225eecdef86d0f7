"""Decisions of people about the watch of a model: automatic promotion, and its reference value.

Two rollbacks in a row stop automatic promotion: two models that passed their review have proved
worse in service, so the review misses something. It stays stopped until a person enables it again;
meanwhile a person can still approve a version.

To add a decision: 1. its value in ``DecisionKind``, 2. a function that records it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.db.approvals import REINSTATING_ACTOR, check_permission, list_promotions
from mlops_kit.db.engine import open_transaction, query_records
from mlops_kit.db.tables import OperatorDecisionRecord, PromotionRecord
from mlops_kit.db.timestamps import current_timestamp
from mlops_kit.project.loader import Project

MAX_ROLLBACKS_IN_A_ROW = 2
_SCHEMA_VERSION = 1


class DecisionKind(StrEnum):
    """What a person decided; the values are those stored in the database."""

    PROMOTION_ENABLED = "promotion enabled"
    REFERENCE_ACCEPTED = "reference accepted"


@dataclass(frozen=True)
class PromotionStop:
    """Why automatic promotion is stopped.

    Attributes
    ----------
    versions : tuple of str
        The versions that were rolled back in a row.
    """

    versions: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The reason in a sentence."""
        listed = " and ".join(self.versions)
        return (
            f"Versions {listed} were rolled back in a row, so no version is promoted automatically "
            "until a person enables it again."
        )


@dataclass(frozen=True)
class AcceptedReference:
    """A reference performance that a person accepted in place of the reviewed one."""

    version: str
    metric: str
    value: float
    actor: str
    reason: str
    decided_at: str


def find_promotion_stop(project: Project) -> PromotionStop | None:
    """Find whether automatic promotion is stopped; None if it is not."""
    enabled_after = 0
    for record in list_operator_decisions(project, DecisionKind.PROMOTION_ENABLED):
        enabled_after = max(enabled_after, int(json.loads(record.value_json)["promotion"]))
    promotions = list_promotions(project)
    return detect_promotion_stop(promotions[::-1], enabled_after)


def detect_promotion_stop(
    promotions: Sequence[PromotionRecord], enabled_after: int = 0
) -> PromotionStop | None:
    """Detect two rollbacks in a row that no person has answered.

    Parameters
    ----------
    promotions : sequence of PromotionRecord
        All promotions, the oldest first.
    enabled_after : int
        The number of the promotion after which a person enabled automatic promotion again.
    """
    known_versions: set[str] = set()
    rolled_back: list[str] = []
    was_rollback = False
    stop = None
    for promotion in promotions:
        if promotion.actor == REINSTATING_ACTOR:
            was_rollback = False  # the version before was better when it was promoted
            continue
        is_known = promotion.version in known_versions
        is_rollback = is_known and not was_rollback
        if is_known and was_rollback:
            rolled_back = rolled_back[:-1]  # the rollback itself was undone
        elif is_rollback and promotion.number > enabled_after:
            rolled_back.append(promotion.previous_version or "")
        elif not is_known and not was_rollback:
            rolled_back = []  # the version before was not rolled back
        if len(rolled_back) >= MAX_ROLLBACKS_IN_A_ROW and stop is None:
            stop = PromotionStop(tuple(rolled_back))
        known_versions.add(promotion.version)
        was_rollback = is_rollback
    return stop


def list_rolled_back_versions(promotions: Sequence[PromotionRecord]) -> set[str]:
    """List the versions that an earlier one has replaced because they were worse.

    A version that was promoted again since, and one that a reinstatement replaced, are not listed.

    Parameters
    ----------
    promotions : sequence of PromotionRecord
        All promotions, the oldest first.
    """
    first_numbers: dict[str, int] = {}
    rolled_back: set[str] = set()
    for promotion in promotions:
        number = first_numbers.setdefault(promotion.version, promotion.number)
        replaced_number = first_numbers.get(promotion.previous_version or "", 0)
        rolled_back.discard(promotion.version)
        if replaced_number > number and promotion.actor != REINSTATING_ACTOR:
            rolled_back.add(promotion.previous_version or "")
    return rolled_back


def list_earlier_versions(promotions: Sequence[PromotionRecord]) -> list[str]:
    """List the versions that were in service before the champion, the last one first.

    Versions that were rolled back are not among them.

    Parameters
    ----------
    promotions : sequence of PromotionRecord
        All promotions, the newest first.
    """
    rolled_back = list_rolled_back_versions(promotions[::-1])
    earlier_versions = []
    for name in dict.fromkeys(promotion.version for promotion in promotions[1:]):
        if name != promotions[0].version and name not in rolled_back:
            earlier_versions.append(name)
    return earlier_versions


def enable_automatic_promotion(
    project: Project,
    actor: str,
    reason: str,
) -> PromotionStop:
    """Record that a person enables automatic promotion after two rollbacks.

    Returns
    -------
    PromotionStop
        What had stopped it.

    Raises
    ------
    KitError
        If it is not stopped, there is no reason, or the person may not decide this.
    """
    stop = find_promotion_stop(project)
    if stop is None:
        raise KitError(
            "automatic promotion is not stopped",
            f"{MAX_ROLLBACKS_IN_A_ROW} rollbacks in a row",
            "there is nothing to do",
        )
    newest_promotion = list_promotions(project, limit=1)[0]
    _record_decision(
        project,
        DecisionKind.PROMOTION_ENABLED,
        actor,
        reason,
        {"promotion": newest_promotion.number},
    )
    return stop


def accept_reference(
    project: Project,
    version: str,
    value: float,
    actor: str,
    reason: str,
) -> AcceptedReference:
    """Record that a person accepts a value of the headline metric as a version's reference.

    Windows are compared with it from then on; what was stored before does not change.

    Raises
    ------
    KitError
        If the value is not a finite number, there is no reason, or the person may not decide this.
    """
    if not math.isfinite(value):
        raise KitError(
            f"{value!r} is not a reference performance",
            "a finite number",
            "give the value of the headline metric",
        )
    metric = project.config.headline_metric
    record = _record_decision(
        project,
        DecisionKind.REFERENCE_ACCEPTED,
        actor,
        reason,
        {"version": version, "metric": metric, "value": value},
    )
    return AcceptedReference(
        version,
        metric,
        value,
        record.actor,
        record.reason,
        record.decided_at,
    )


def find_accepted_reference(project: Project, version: str) -> AcceptedReference | None:
    """Return the newest accepted value of the headline metric for a version; None if none was."""
    return load_accepted_references(project).get(version)


def load_accepted_references(project: Project) -> dict[str, AcceptedReference]:
    """Load the newest accepted value of the headline metric by version."""
    accepted: dict[str, AcceptedReference] = {}
    for record in list_operator_decisions(project, DecisionKind.REFERENCE_ACCEPTED):
        stored = json.loads(record.value_json)
        version = stored["version"]
        if version in accepted or stored["metric"] != project.config.headline_metric:
            continue
        accepted[version] = AcceptedReference(
            version,
            stored["metric"],
            float(stored["value"]),
            record.actor,
            record.reason,
            record.decided_at,
        )
    return accepted


def list_operator_decisions(
    project: Project, kind: DecisionKind | None = None
) -> list[OperatorDecisionRecord]:
    """Return the decisions of a kind, or all of them, the newest first."""
    statement = (
        sa.select(OperatorDecisionRecord)
        .where(OperatorDecisionRecord.model == project.config.name)
        .order_by(OperatorDecisionRecord.id.desc())
    )
    if kind is not None:
        statement = statement.where(OperatorDecisionRecord.kind == kind.value)
    return query_records(project, statement)


def _record_decision(
    project: Project,
    kind: DecisionKind,
    actor: str,
    reason: str,
    value: Mapping[str, Any],
) -> OperatorDecisionRecord:
    """Record a decision of an operator."""
    check_permission(project.config.people, actor, approves=False)
    if not reason.strip():
        raise KitError(
            f"a decision needs a reason, got {reason!r}",
            "a sentence that others can read later",
            '--reason "why"',
        )
    record = OperatorDecisionRecord(
        model=project.config.name,
        kind=kind.value,
        actor=actor,
        reason=reason.strip(),
        decided_at=current_timestamp(),
        value_json=json.dumps({"schema_version": _SCHEMA_VERSION, **value}),
    )
    with open_transaction(project) as transaction:
        transaction.add(record)
    return record
