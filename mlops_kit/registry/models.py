"""Models."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit.core import files
from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.lazy import LazyModule, pd
from mlops_kit.core.serialization import to_json_value
from mlops_kit.project.loader import Project
from mlops_kit.registry.store import connect_mlflow

if TYPE_CHECKING:
    import mlflow
    import skops.io as skops
else:
    mlflow, skops = (LazyModule("mlflow"), LazyModule("skops.io"))

# Types that a model of ours may hold beside those that skops itself vouches for (scikit-learn's and NumPy's
# public ones). A partial is harmless by itself: skops lists the function inside it as a type of its own.
TRUSTED_TYPES = {
    "collections.OrderedDict",
    "functools.partial",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "pandas._libs.missing.NAType",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
}
TRUSTED_TYPE_PREFIX = "skrub."
_MODEL_REQUIREMENTS = ("scikit-learn", "skrub", "lightgbm", "numpy", "pandas", "skops")


def compute_model_hash(file: Path) -> str:
    """The hash of a skops file's content: object ids renumbered, clock times left out."""
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
        ids: dict[str, int] = {}
        digest = hashlib.sha256()

        def tidy(node: Any) -> Any:
            if isinstance(node, list):
                return [tidy(v) for v in node]
            if not isinstance(node, dict):
                return node
            if isinstance(name := node.get("file"), str):
                digest.update(archive.read(name))
            return {
                k: ids.setdefault(str(v), len(ids)) if k == "__id__" else tidy(v)
                for k, v in node.items()
                if k != "file" or not isinstance(v, str)
            }

        digest.update(json.dumps(tidy(schema), sort_keys=True).encode())
    return digest.hexdigest()


def check_model_types(file: Path) -> list[str]:
    """The types in a skops file that skops itself does not vouch for, if all are on our list.

    Raises
    ------
    RunFailed
        Naming the first type that is not.
    """
    asked = skops.get_untrusted_types(file=file)
    for name in asked:
        if name not in TRUSTED_TYPES and not name.startswith(TRUSTED_TYPE_PREFIX):
            raise RunFailedError(
                f"the model holds the type {name!r}, which is not on the allow-list",
                "scikit-learn's, skrub's and LightGBM's own types",
                "build the model from these, or add a type that you have read to tracking.ALLOWED",
            )
    return list(asked)


def _infer_signature(model: Any, example: pd.DataFrame, binary: bool) -> Any:
    """The model's signature; no column is required, for the pipeline knows what to do with a missing value."""
    found = mlflow.models.infer_signature(
        example, model.predict_proba(example) if binary else model.predict(example)
    )
    return mlflow.models.ModelSignature(
        inputs=mlflow.types.Schema(
            [mlflow.types.ColSpec(c.type, c.name, required=False) for c in found.inputs]
        ),
        outputs=found.outputs,
    )


def save_model(
    client: mlflow.MlflowClient,
    project: Project,
    name: str,
    model: Any,
    example: pd.DataFrame,
    facts: dict[str, Any],
) -> dict[str, str]:
    """Log a fitted pipeline into the active run, in skops format with signature, example and given requirements.

    Returns
    -------
    dict
        ``uri`` (``models:/m-…``), ``model_hash`` (canonical), ``sha256`` (of the file).
    """
    binary = project.config.task == "binary"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.skops"
        skops.dump(model, file)
        trusted, content = check_model_types(file), compute_model_hash(file)
    info = mlflow.sklearn.log_model(
        model,
        name=name,
        serialization_format="skops",
        skops_trusted_types=trusted,
        pyfunc_predict_fn="predict_proba" if binary else "predict",
        signature=_infer_signature(model, example, binary),
        input_example=example.head(3),
        pip_requirements=[f"{r}=={installed(r)}" for r in (*_MODEL_REQUIREMENTS, "mlflow")],
        metadata={**to_json_value(facts), "model_hash": content},
    )
    return {
        "uri": info.model_uri,
        "model_hash": content,
        "sha256": files.hash_file(download_model_file(client, info.model_uri)),
    }


def download_model_file(client: mlflow.MlflowClient, uri: str) -> Path:
    """The skops file behind a model's URI, on this machine."""
    found = sorted(
        Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=client.tracking_uri)
        ).glob("*.skops")
    )
    if not found:
        raise RunFailedError(
            f"the model {uri} has no skops file",
            "a model saved by mlops-kit",
            "mlops run --from train",
        )
    return found[0]


def load_model(project: Project, record: dict[str, str]) -> Any:
    """Load a model after its bytes and its types were checked against what was recorded.

    Raises
    ------
    RunFailed
        If the file is not the one that was recorded, or holds a type that is not allowed.
    """
    with connect_mlflow(project) as client:
        file = download_model_file(client, record["uri"])
    found = files.hash_file(file)
    if found != record["sha256"]:
        raise RunFailedError(
            f"the model's file has changed: hash {found[:12]}",
            record["sha256"][:12],
            "mlops run --from train --force",
        )
    content = compute_model_hash(
        file
    )  # a registry's record can be pointed at another file, with that file's own hash
    if content != record["model_hash"]:
        raise RunFailedError(
            f"the file holds another model: {content[:12]}",
            record["model_hash"][:12],
            "mlops rollback --reason …, or mlops run",
        )
    return skops.load(file, trusted=check_model_types(file))
