"""Registering a reviewed model as a version of the project's model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.files import hash_json
from mlops_kit.core.results import Verdict
from mlops_kit.core.serialization import to_json_value
from mlops_kit.db import approvals
from mlops_kit.project.identity import identify_author
from mlops_kit.project.loader import Project
from mlops_kit.registry.models import SavedModel
from mlops_kit.registry.store import connect_mlflow, mlflow
from mlops_kit.registry.versions import EvaluationModel


@dataclass(
    frozen=True,
    kw_only=True,
)
class VersionCandidate:
    """A reviewed model that is about to be registered.

    Parameters
    ----------
    model : SavedModel
        The final model.
    evaluation : EvaluationModel
        The model that the review evaluated.
    classes : list
        The classes in the order of their codes; empty for a regression.
    artifact_hashes : mapping of str to str
        Hashes of the artifacts that are the version's evidence, by name.
    run, sample_rows, as_of
        As in ``ModelVersion``; ``as_of`` is None without time.
    is_draft : bool
        A draft is not registered.
    """

    model: SavedModel
    evaluation: EvaluationModel
    features: list[str]
    threshold: float | None
    classes: list[Any]
    artifact_hashes: Mapping[str, str]
    run: str
    sample_rows: int
    as_of: Any
    is_draft: bool

    def build_tags(self, verdicts: Iterable[Verdict], author: str) -> dict[str, str]:
        """Build the tags of the version, in the form that ``ModelVersion.from_tags`` reads."""
        verdicts = list(verdicts)
        is_blocked = any(verdict.is_blocking for verdict in verdicts)
        verdict_records = [
            {
                "check": verdict.check,
                "outcome": verdict.outcome,
                "sentence": verdict.sentence,
            }
            for verdict in verdicts
        ]
        return {
            "uri": self.model.uri,
            "sha256": self.model.sha256,
            "model_hash": self.model.model_hash,
            "features": json.dumps(self.features),
            "evidence_hash": hash_json(dict(self.artifact_hashes)),
            "author": author,
            "threshold": json.dumps(self.threshold),
            "classes": json.dumps(self.classes),
            "review": "failed" if is_blocked else "passed",
            "run": self.run,
            "judged": self.evaluation.to_json(),
            "sample": str(self.sample_rows),
            "as_of": str(self.as_of),
            "verdicts": json.dumps(to_json_value(verdict_records)),
        }


def register_version(
    project: Project,
    candidate: VersionCandidate,
    verdicts: Iterable[Verdict],
) -> dict[str, Any]:
    """Register a reviewed model as ``challenger``.

    A model that was registered before keeps its version. Until that version was promoted, a later
    review renews its tags, except for the author.

    Returns
    -------
    dict
        ``version`` (a number as text, or None for a draft of an unregistered model),
        ``model_hash``, ``passed`` and ``outcome`` (a sentence).
    """
    tags = candidate.build_tags(verdicts, identify_author(project.config.people))
    with connect_mlflow(project) as client:
        version = _find_registered_version(client, project, candidate.model)
        if not candidate.is_draft:
            if version is None:
                version = create_version(
                    client,
                    project,
                    candidate.model.uri,
                    tags,
                )
            else:
                _renew_tags(
                    client,
                    project,
                    version,
                    tags,
                )
            client.set_registered_model_alias(
                project.config.name,
                "challenger",
                version,
            )
    sentence = "A draft is not registered."
    if version:
        sentence = f"Version {version} is registered as challenger."
    return {
        "version": version,
        "model_hash": candidate.model.model_hash,
        "passed": tags["review"] == "passed",
        "outcome": sentence,
    }


def _find_registered_version(
    client: mlflow.MlflowClient,
    project: Project,
    model: SavedModel,
) -> str | None:
    """Return the version under which a model is registered, or None."""
    for version in client.search_model_versions(f"name = '{project.config.name}'"):
        is_same_model = version.tags.get("model_hash") == model.model_hash
        if is_same_model and version.tags.get("uri") == model.uri:
            return str(version.version)
    return None


def _renew_tags(
    client: mlflow.MlflowClient,
    project: Project,
    version: str,
    tags: Mapping[str, str],
) -> None:
    """Replace the tags of a version by a later review's, unless it was ever promoted.

    The author stays. Approvals of the earlier evidence no longer apply, since the evidence hash
    changes.
    """
    promoted_versions = {promotion.version for promotion in approvals.list_promotions(project)}
    if version in promoted_versions:
        return
    for key in tags.keys() - {"author"}:
        client.set_model_version_tag(
            project.config.name,
            version,
            key,
            tags[key],
        )


def create_version(
    client: mlflow.MlflowClient,
    project: Project,
    uri: str,
    tags: dict[str, str],
) -> str:
    """Create a version of the project's registered model; return its number."""
    name = project.config.name
    try:
        client.create_registered_model(name)
    except mlflow.exceptions.MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return str(client.create_model_version(name, uri, tags=tags).version)
