"""Results of fitted encoders, kept in memory for fits on the same rows.

``joblib.Memory`` writes the vocabulary of a text encoder to disk, which takes as long as fitting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from mlops_kit.core.lazy import pd


class EncodingCache:
    """The ``memory`` of a scikit-learn pipeline whose steps take data frames and ignore the target.

    A step is fitted once per rows and parameters; all pipelines share the fitted encoder.
    """

    def __init__(self) -> None:
        self._results: dict[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> EncodingCache:
        """Return the cache itself: scikit-learn copies the parameters of what it clones."""
        return self

    def cache(self, fit_transform: Callable[..., Any], **_options: Any) -> Callable[..., Any]:
        """Return a function that calls another one only for new rows or parameters."""

        def fit_transform_once(
            transformer: Any, frame: pd.DataFrame, *arguments: Any, **options: Any
        ) -> Any:
            key = _describe_fit(transformer, frame)
            if key not in self._results:
                self._results[key] = fit_transform(transformer, frame, *arguments, **options)
            return self._results[key]

        return fit_transform_once


def _describe_fit(transformer: Any, frame: pd.DataFrame) -> str:
    """Describe an unfitted transformer and the rows that it is fitted on."""
    row_hashes = pd.util.hash_pandas_object(frame, index=False)
    digest = hashlib.sha256(row_hashes.to_numpy().tobytes()).hexdigest()
    parameters = sorted((name, repr(value)) for name, value in transformer.get_params().items())
    return f"{type(transformer).__name__} {parameters} {list(frame.columns)} {digest}"
