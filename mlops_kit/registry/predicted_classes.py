"""From scores to predicted classes, as codes in the log and by name for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import predict_codes, to_score_array


def predict_classes(scores: np.ndarray, threshold: float | None) -> np.ndarray:
    """Return the code of the predicted class of each row; NaN for a regression.

    It is the most probable class, or for a binary task the positive one from the threshold on.
    """
    if scores.ndim == 2:
        return predict_codes(scores).astype(float)
    if threshold is None:
        return np.full(len(scores), np.nan)
    return (scores >= threshold).astype(float)


def name_classes(scores: pd.DataFrame, classes: Sequence[Any]) -> pd.DataFrame:
    """Replace score and decision by the predicted class and a column for each probability."""
    probabilities = to_score_array(scores["score"])
    codes = scores["decision"].astype(int)
    columns = {}
    for name in scores.columns:
        if name == "decision":
            columns["class"] = codes.map(lambda code: classes[code])
            for code, value in enumerate(classes):
                columns[f"probability {value}"] = pd.Series(probabilities[:, code], scores.index)
        elif name != "score":
            columns[name] = scores[name]
    return pd.DataFrame(columns)
