"""Versions of the project's model: which one is champion, promoting one, and rolling back.

The database of approvals decides which version is champion. MLflow's aliases ``champion`` and
``previous`` follow it, and ``challenger`` names the version registered last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data.target import load_legacy_coding
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome, PromotionRecord
from mlops_kit.project.loader import Project
from mlops_kit.registry.models import load_model
from mlops_kit.registry.store import connect_mlflow, mlflow

__all__ = [
    "ModelVersion",
    "find_champion",
    "load_champion",
    "load_version",
    "promote_version",
    "require_champion",
    "roll_back",
]

# The tags that a review writes on a version; a version without them was not registered by one.
REQUIRED_TAGS = frozenset(
    {
        "uri",
        "sha256",
        "model_hash",
        "evidence_hash",
        "features",
        "threshold",
        "judged",
        "as_of",
        "review",
        "sample",
        "author",
    }
)


@dataclass(frozen=True)
class EvaluationModel:
    """The evaluation model of a version, and the held-out rows it was evaluated on.

    Parameters
    ----------
    uri, model_hash, sha256 : str
        As in ``SavedModel``.
    first_time : str
        Time of the oldest held-out row; empty for a table without time.
    row_key_hash : str
        Hash of the held-out rows' keys.
    """

    uri: str
    model_hash: str
    sha256: str
    first_time: str
    row_key_hash: str

    @classmethod
    def from_json(cls, text: str) -> EvaluationModel:
        """Read the tag ``judged``; fields it lacks are empty."""
        record = json.loads(text)
        return cls(
            uri=record.get("uri", ""),
            model_hash=record.get("model_hash", ""),
            sha256=record.get("sha256", ""),
            first_time=record.get("from", ""),
            row_key_hash=record.get("rows", ""),
        )

    def to_json(self) -> str:
        """Return the text of the tag ``judged``."""
        record = {
            "uri": self.uri,
            "model_hash": self.model_hash,
            "sha256": self.sha256,
            "from": self.first_time,
            "rows": self.row_key_hash,
        }
        return json.dumps(record)


@dataclass(
    frozen=True,
    kw_only=True,
)
class ModelVersion(approvals.ReviewedVersion):
    """A registered version with everything its review recorded.

    Parameters
    ----------
    uri, sha256 : str
        Where the final model is, and the hash of its file.
    features : tuple of str
        The model's inputs, in its order.
    threshold : float or None
        The decision threshold; None for a regression.
    classes : tuple
        The classes in the order of their codes, the positive class last; empty for a regression.
    evaluation : EvaluationModel
        The model that the review evaluated.
    as_of : str
        The time after which the final model has seen no data; ``None`` as text without time.
    run : str
        The run that registered the version.
    """

    uri: str
    sha256: str
    features: tuple[str, ...]
    threshold: float | None
    evaluation: EvaluationModel
    as_of: str
    run: str = ""
    classes: tuple[Any, ...] = ()

    @classmethod
    def from_tags(cls, version: str, tags: Mapping[str, str]) -> ModelVersion:
        """Read the tags of a version in MLflow's registry."""
        return cls(
            version=version,
            model_hash=tags["model_hash"],
            evidence_hash=tags["evidence_hash"],
            review=tags["review"],
            sample_rows=int(tags["sample"]),
            author=tags["author"],
            uri=tags["uri"],
            sha256=tags["sha256"],
            features=tuple(json.loads(tags["features"])),
            threshold=json.loads(tags["threshold"]),
            evaluation=EvaluationModel.from_json(tags["judged"]),
            as_of=tags["as_of"],
            run=tags.get("run", ""),
            classes=tuple(json.loads(tags.get("classes", "[]"))),
        )


def find_champion(project: Project) -> ModelVersion | None:
    """Return the champion by the database of approvals, or None if there is none.

    MLflow's alias is not consulted, because anyone can move it.

    Raises
    ------
    RunFailedError
        If the version changed since it was approved.
    """
    promotion = approvals.get_current_promotion(project)
    if promotion is None:
        return None
    version = load_version(project, promotion.version)
    approved_hashes = (promotion.model_hash, promotion.evidence_hash)
    if (version.model_hash, version.evidence_hash) != approved_hashes:
        raise RunFailedError(
            f"version {promotion.version} has changed since it was approved: "
            f"hash {version.model_hash[:12]}",
            promotion.model_hash[:12],
            "mlops rollback --reason …, or mlops run",
        )
    return version


def require_champion(project: Project) -> ModelVersion:
    """Return the champion.

    Raises
    ------
    KitError
        If there is none.
    """
    champion = find_champion(project)
    if champion is None:
        raise KitError(
            f"{project.config.name} has no champion yet",
            "a run whose review passed and was approved",
            "mlops run",
        )
    return champion


def load_champion(project: Project) -> tuple[ModelVersion, Any]:
    """Return the champion and its fitted model.

    Raises
    ------
    KitError
        If there is no champion.
    """
    champion = require_champion(project)
    return champion, load_model(project, champion)


def load_version(project: Project, version: str) -> ModelVersion:
    """Return what the review recorded about a version.

    A version that an earlier version of this package registered does not state its classes; it
    keeps the coding with which it was trained.

    Raises
    ------
    RunFailedError
        If there is no such version, or no review registered it.
    """
    name = project.config.name
    try:
        with connect_mlflow(project) as client:
            tags = client.get_model_version(name, version).tags
    except mlflow.exceptions.MlflowException as error:
        raise RunFailedError(
            f"the registry has no version {version!r} of {name}",
            "a version that a review registered",
            "mlops run",
        ) from error
    missing = sorted(REQUIRED_TAGS - set(tags))
    if missing:
        raise RunFailedError(
            f"version {version} has no record of {', '.join(missing)}",
            "a version that a review registered",
            "mlops run",
        )
    recorded = ModelVersion.from_tags(version, tags)
    if project.config.task == "regression" or recorded.classes:
        return recorded
    return replace(recorded, classes=load_legacy_coding(project).classes)


def sync_aliases(project: Project) -> None:
    """Set MLflow's aliases ``champion`` and ``previous`` to what the database says."""
    promotion = approvals.get_current_promotion(project)
    if promotion is None:
        return
    name = project.config.name
    with connect_mlflow(project) as client:
        client.set_registered_model_alias(name, "champion", promotion.version)
        if promotion.previous_version:
            client.set_registered_model_alias(
                name,
                "previous",
                promotion.previous_version,
            )


def check_champion_alias(project: Project) -> str:
    """Check that MLflow's alias ``champion`` is the champion.

    Returns
    -------
    str
        What is wrong, to follow "MLflow's alias champion"; empty if nothing is.
    """
    promotion = approvals.get_current_promotion(project)
    aliased = None
    with connect_mlflow(project) as client, suppress(mlflow.exceptions.MlflowException):
        aliased = client.get_model_version_by_alias(project.config.name, "champion")
    if aliased is None:
        return f"is not set; version {promotion.version} is in service" if promotion else ""
    aliased_version = str(aliased.version)
    if promotion is not None and aliased_version == promotion.version:
        return ""
    status = "nobody approved"
    if _is_approved(project, aliased_version, aliased.tags):
        status = "was approved but not promoted"
    champion = f"version {promotion.version}" if promotion else "no version"
    return f"points to version {aliased_version}, which {status}; {champion} is in service"


def _is_approved(project: Project, version: str, tags: Mapping[str, str]) -> bool:
    """Return whether a version was approved with the hashes that its tags state."""
    approval = approvals.find_approval_by_hashes(
        project,
        version,
        tags.get("model_hash", ""),
        tags.get("evidence_hash", ""),
    )
    return approval is not None and approval.outcome == ApprovalOutcome.APPROVED


def promote_version(
    project: Project,
    version: str,
    actor: str,
    reason: str,
) -> PromotionRecord:
    """Make an approved version champion, and let MLflow's aliases follow.

    Promoting the present champion again changes nothing and returns its promotion.

    Raises
    ------
    RunFailedError
        If its review did not pass, it was trained on a sample or changed since, nobody approved
        it, or another promotion was recorded in between.
    """
    promotion = approvals.get_current_promotion(project)
    candidate = load_version(project, version)
    is_champion = promotion is not None and (
        (promotion.version, promotion.model_hash) == (version, candidate.model_hash)
    )
    if promotion is None or not is_champion:
        promotion = approvals.record_promotion(
            project,
            candidate,
            promotion,
            actor,
            reason,
        )
    sync_aliases(project)
    return promotion


def roll_back(project: Project, actor: str, reason: str) -> PromotionRecord:
    """Make the previous champion champion again.

    Raises
    ------
    KitError
        If there is no previous champion, the reason is empty, or the person may not do this.
    """
    promotion = approvals.get_current_promotion(project)
    if promotion is None or promotion.previous_version is None:
        raise KitError(
            "there is no earlier version to roll back to",
            "two promotions or more",
            "mlops run",
        )
    approvals.check_permission(
        project.config.people,
        actor,
        approves=False,
    )
    if not reason.strip():
        raise KitError(
            f"a rollback needs a reason, got {reason!r}",
            "a sentence that others can read later",
            '--reason "why"',
        )
    return promote_version(
        project,
        promotion.previous_version,
        actor,
        f"rollback: {reason}",
    )
