"""Saving and loading models: skops format, reviewed types, and hashes that are checked.

A model is never pickled. Which types it may contain is decided here and not by the model: MLflow
writes a model's allow-list into the model and trusts it when loading. The model hash leaves out
object ids and clock times, so two equal fits have the same hash.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as get_installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.files import hash_file
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.core.serialization import to_json_value
from mlops_kit.core.tasks import TASKS
from mlops_kit.project.config.pipeline import format_rerun_command
from mlops_kit.project.loader import Project
from mlops_kit.registry.store import connect_mlflow, mlflow

if TYPE_CHECKING:
    import skops.io as skops
else:
    skops = LazyModule("skops.io")

# Types a model may contain besides those that skops itself trusts (the public ones of scikit-learn
# and NumPy). A partial is harmless by itself: skops lists the function inside it separately.
TRUSTED_TYPES = {
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "pandas._libs.missing.NAType",
    "pandas.core.tools.datetimes.to_datetime",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
}
TRUSTED_TYPE_PREFIX = "skrub."


@dataclass(frozen=True)
class FamilyContents:
    """What models of a family may contain besides ``TRUSTED_TYPES``.

    Attributes
    ----------
    trusted_types : frozenset of str
        Types, as ``module.Class``.
    distributions : tuple of str
        Installed packages that a model needs where it is loaded.
    """

    trusted_types: frozenset[str]
    distributions: tuple[str, ...]


# What families of plugins declare, by family.
FAMILY_CONTENTS: ExtensionRegistry[FamilyContents] = ExtensionRegistry(ExtensionKind.MODEL_TYPE)
_MODEL_REQUIREMENTS = ("scikit-learn", "skrub", "lightgbm", "numpy", "pandas", "skops", "mlflow")
_EXAMPLE_ROWS = 3


@dataclass(frozen=True)
class SavedModel:
    """Where a saved model is, and what its content must be.

    Parameters
    ----------
    uri : str
        MLflow's ``models:/m-…``.
    model_hash : str
        Hash of the model's content, see ``compute_model_hash``.
    sha256 : str
        Hash of the file.
    """

    uri: str
    model_hash: str
    sha256: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SavedModel:
        """Read the record that ``to_record`` wrote into an artifact or tag."""
        return cls(
            uri=record["uri"],
            model_hash=record["model_hash"],
            sha256=record["sha256"],
        )

    def to_record(self) -> dict[str, str]:
        """Return the fields as an artifact or tag stores them."""
        return {
            "uri": self.uri,
            "model_hash": self.model_hash,
            "sha256": self.sha256,
        }


class ModelLocation(Protocol):
    """Anything that says where a model is and which hashes it must have."""

    @property
    def uri(self) -> str:
        """MLflow's URI of the model."""

    @property
    def model_hash(self) -> str:
        """Hash of the model's content."""

    @property
    def sha256(self) -> str:
        """Hash of the model's file."""


def compute_model_hash(file: Path) -> str:
    """Compute the hash of a skops file's content.

    Object ids are renumbered and clock times left out, so equal models have equal hashes.
    """
    digest = hashlib.sha256()
    new_ids: dict[str, int] = {}
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
        canonical = _canonicalize_node(
            schema,
            archive,
            digest,
            new_ids,
        )
    digest.update(json.dumps(canonical, sort_keys=True).encode())
    return digest.hexdigest()


def _canonicalize_node(
    node: Any,
    archive: zipfile.ZipFile,
    digest: hashlib._Hash,
    new_ids: dict[str, int],
) -> Any:
    """Return a node of a skops schema with renumbered ids; hash the files it refers to."""
    if isinstance(node, list):
        return [
            _canonicalize_node(
                item,
                archive,
                digest,
                new_ids,
            )
            for item in node
        ]
    if not isinstance(node, dict):
        return node
    if isinstance(node.get("file"), str):
        digest.update(archive.read(node["file"]))
    canonical = {}
    for key, value in node.items():
        if key == "file" and isinstance(value, str):
            continue
        if key == "__id__":
            canonical[key] = new_ids.setdefault(str(value), len(new_ids))
        else:
            canonical[key] = _canonicalize_node(
                value,
                archive,
                digest,
                new_ids,
            )
    return canonical


def check_model_types(file: Path) -> list[str]:
    """Return the types in a skops file that skops does not trust, if all are on our list.

    Raises
    ------
    RunFailedError
        Naming the first type that is not on the list.
    """
    untrusted_types = skops.get_untrusted_types(file=file)
    for name in untrusted_types:
        if not _is_trusted_type(name):
            raise RunFailedError(
                f"the model contains the type {name!r}, which is not on the allow-list",
                "types of scikit-learn, skrub and LightGBM",
                "build the model from these, or name a type that you have reviewed under "
                "'trusted_types' where its model family is registered",
            )
    return list(untrusted_types)


def _is_trusted_type(name: str) -> bool:
    """Return whether a type is on our list, or on that of a plugin's model family."""
    if name in TRUSTED_TYPES or name.startswith(TRUSTED_TYPE_PREFIX):
        return True
    return any(name in contents.trusted_types for contents in FAMILY_CONTENTS.values())


def _list_requirements(types: list[str]) -> list[str]:
    """List what must be installed to load a model, with the versions installed here.

    Without the requirements, MLflow spends 10 s inferring them.
    """
    names = list(_MODEL_REQUIREMENTS)
    if not set(types) <= TRUSTED_TYPES:
        for contents in FAMILY_CONTENTS.values():
            if not contents.trusted_types.isdisjoint(types):
                names += contents.distributions
    return [f"{name}=={get_installed_version(name)}" for name in dict.fromkeys(names)]


def _infer_signature(
    model: Any,
    example: pd.DataFrame,
    has_classes: bool,
) -> Any:
    """Infer the model's signature; no column is required, since the pipeline handles gaps."""
    predict = model.predict_proba if has_classes else model.predict
    output = predict(example)
    inferred = mlflow.models.infer_signature(example, output)
    columns: list[Any] = [
        mlflow.types.ColSpec(column.type, column.name, required=False) for column in inferred.inputs
    ]
    return mlflow.models.ModelSignature(
        inputs=mlflow.types.Schema(columns),
        outputs=inferred.outputs,
    )


def save_model(
    client: mlflow.MlflowClient,
    project: Project,
    name: str,
    model: Any,
    example: pd.DataFrame,
    metadata: Mapping[str, Any],
) -> SavedModel:
    """Log a fitted pipeline into the active MLflow run, in skops format.

    Parameters
    ----------
    example : DataFrame
        Feature rows from which the signature and the input example are made.
    metadata : mapping
        Stored with the model, besides its hash.

    Raises
    ------
    RunFailedError
        If the model contains a type that is not trusted.
    """
    has_classes = TASKS[project.config.task].has_classes
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.skops"
        skops.dump(model, file)
        trusted_types = check_model_types(file)
        model_hash = compute_model_hash(file)
        # Some models count their predictions, so the signature comes from a copy.
        copy = skops.load(file, trusted=trusted_types)
    info = mlflow.sklearn.log_model(
        model,
        name=name,
        serialization_format="skops",
        skops_trusted_types=trusted_types,
        pyfunc_predict_fn="predict_proba" if has_classes else "predict",
        signature=_infer_signature(copy, example, has_classes),
        input_example=example.head(_EXAMPLE_ROWS),
        pip_requirements=_list_requirements(trusted_types),
        metadata={**to_json_value(metadata), "model_hash": model_hash},
    )
    logged_file = download_model_file(client, info.model_uri)
    if compute_model_hash(logged_file) != model_hash:
        raise RunFailedError(
            f"the model {type(model).__name__} changed while it was logged",
            "a model that is the same after predictions",
            "use another estimator in the model family",
        )
    return SavedModel(
        uri=info.model_uri,
        model_hash=model_hash,
        sha256=hash_file(logged_file),
    )


def download_model_file(client: mlflow.MlflowClient, uri: str) -> Path:
    """Return the skops file behind a model's URI, downloaded if the store is remote.

    Raises
    ------
    RunFailedError
        If the model has no such file.
    """
    folder = mlflow.artifacts.download_artifacts(
        artifact_uri=uri,
        tracking_uri=client.tracking_uri,
    )
    files = sorted(Path(folder).glob("*.skops"))
    if not files:
        raise RunFailedError(
            f"the model {uri} has no skops file",
            "a model saved by mlops-kit",
            "mlops run --force trains and saves a model again",
        )
    return files[0]


def load_model(project: Project, location: ModelLocation) -> Any:
    """Load a model after checking its file, its content and its types.

    Raises
    ------
    RunFailedError
        If the file or the model is not the recorded one, or contains a type that is not trusted.
    """
    with connect_mlflow(project) as client:
        file = download_model_file(client, location.uri)
    file_hash = hash_file(file)
    if file_hash != location.sha256:
        raise RunFailedError(
            f"the model's file has changed: hash {file_hash[:12]}",
            location.sha256[:12],
            format_rerun_command(project.config.stages, "model"),
        )
    # A record can be pointed at another file together with that file's hash, but the approved
    # model hash stays.
    model_hash = compute_model_hash(file)
    if model_hash != location.model_hash:
        raise RunFailedError(
            f"the file holds another model: {model_hash[:12]}",
            location.model_hash[:12],
            "mlops rollback --reason …, or mlops run",
        )
    return skops.load(file, trusted=check_model_types(file))
