"""Scores that do not depend on the batch a row is scored in.

A BLAS library chooses its kernel, and with it the order of summation, by the shape of the matrix,
the CPU and the number of threads. A linear model can therefore score the same row differently in
the last bits, alone or within a batch. A sparse matrix product does not use BLAS: SciPy sums each
row from left to right, independently of the other rows. Linear models therefore receive their rows
as a sparse matrix here.

The score of a row is then exactly the same in any batch for models whose other steps treat each row
separately: scaling, imputation, encoding, trees, boosting, calibration. An encoder of text counts
its words in a sparse matrix, so it does too. This holds for all built-in model families. Estimators
that multiply dense matrices in another way (neural networks, kernels, ``TruncatedSVD`` on dense
columns), and linear models inside voting or stacking ensembles, are only equal within
floating-point error.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

from mlops_kit.core.lazy import LazyModule, np

sparse = LazyModule("scipy.sparse")

# Relative and absolute tolerance for one row scored twice where a float64 BLAS product is involved:
# by an estimator named above, or by a linear model loaded and called without this module.
SCORE_TOLERANCE = 1e-9
MAX_BLOCK_VALUES = 1_000_000  # values converted at once; bounds the memory of the column indices
_CONTAINER_ATTRIBUTES = (
    "steps",
    "calibrated_classifiers_",
    "estimator",
    "estimator_",
    "regressor_",
)


def make_batch_independent(model: Any) -> Any:
    """Return the model with its linear estimators replaced by ones that score row by row.

    Looks into pipelines, calibrated classifiers and transformed targets. Only what has to change is
    copied, so the given model stays as it is; a model without a linear estimator is returned.

    Parameters
    ----------
    model : fitted scikit-learn estimator

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> ridge = Ridge().fit([[0.0], [1.0]], [0.0, 1.0])
    >>> rowwise = make_batch_independent(ridge)
    >>> isinstance(rowwise, Ridge), rowwise is ridge
    (True, False)
    """
    if isinstance(model, tuple):  # a named step
        name, step = model
        replaced = make_batch_independent(step)
        return model if replaced is step else (name, replaced)
    if isinstance(model, list):
        items = [make_batch_independent(item) for item in model]
        is_unchanged = all(new is old for new, old in zip(items, model, strict=True))
        return model if is_unchanged else items
    if _is_linear(model):
        base: Any = type(model)
        rowwise = copy.copy(model)
        rowwise.__class__ = _make_rowwise_class(base)
        # A sparse matrix has no column names, about which scikit-learn would warn.
        vars(rowwise).pop("feature_names_in_", None)
        return rowwise
    attributes = getattr(model, "__dict__", {})
    changed = {}
    for name in _CONTAINER_ATTRIBUTES:
        if name in attributes:
            replaced = make_batch_independent(attributes[name])
            if replaced is not attributes[name]:
                changed[name] = replaced
    if not changed:
        return model
    outer = copy.copy(model)
    vars(outer).update(changed)
    return outer


def _is_linear(model: Any) -> bool:
    """Return whether a model is a fitted linear model of scikit-learn; these accept sparse rows."""
    home = type(model).__module__
    if not home.startswith(("sklearn.linear_model.", "sklearn.svm._classes")):
        return False
    is_kernel_machine = hasattr(model, "support_vectors_")
    return not is_kernel_machine and hasattr(model, "coef_")


@functools.cache
def _make_rowwise_class(base: type) -> type:
    """Return a subclass of a linear model that multiplies sparse rows, in blocks.

    Class probabilities come from ``decision_function`` in all linear classifiers of scikit-learn,
    and predictions of a linear regressor from ``predict``, so one method has to change.
    """
    method = "decision_function" if hasattr(base, "decision_function") else "predict"
    multiply = getattr(base, method)

    def score_rows(self: Any, features: Any) -> Any:
        if sparse.issparse(features):
            return multiply(self, features.tocsr())
        rows = np.ascontiguousarray(features, dtype="float64")
        size = max(1, MAX_BLOCK_VALUES // max(1, rows.shape[1]))
        starts = range(0, max(1, len(rows)), size)
        blocks = [_convert_to_csr(rows[start : start + size]) for start in starts]
        return np.concatenate([multiply(self, block) for block in blocks])

    return type(base.__name__, (base,), {method: score_rows, "__module__": base.__module__})


def _convert_to_csr(rows: np.ndarray) -> Any:
    """Convert a dense float64 matrix to CSR, zeros included; the values are shared."""
    count, width = rows.shape
    indices = np.tile(np.arange(width, dtype="int32"), count)
    ends = np.arange(count + 1, dtype="int32") * width
    return sparse.csr_matrix(
        (rows.ravel(), indices, ends),
        shape=rows.shape,
        copy=False,
    )
