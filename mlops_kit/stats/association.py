"""Association of two columns: copies of a column, and a single column that ranks a target."""

from __future__ import annotations

from mlops_kit.core.lazy import np, pd, scipy_stats

_MIN_COMMON_ROWS = 20  # with fewer rows nothing can be said
_MIN_CLASS_ROWS = 10  # of a class in the ranked half; with fewer its AUC may be high by chance
_QUANTILE_GROUPS = 50  # of numbers, when their association with several classes is measured
_MIN_EQUAL_SHARE = 0.99  # of the values of two columns that are copies
_MIN_COPY_RANK_CORRELATION = 0.999  # of two columns that are copies up to their scale


def are_copies(left: pd.Series, right: pd.Series) -> bool:
    """Whether two columns are equal, or rank the rows alike, where both have values."""
    known = pd.DataFrame({"left": left.array, "right": right.array}).dropna()
    if len(known) < _MIN_COMMON_ROWS or known.nunique().min() < 2:
        return False
    if all(map(pd.api.types.is_numeric_dtype, known.dtypes)):
        correlation = known.astype(float).corr("spearman").to_numpy()[0, 1]
        return bool(abs(correlation) >= _MIN_COPY_RANK_CORRELATION)
    is_equal = known["left"].astype(str) == known["right"].astype(str)
    return bool(is_equal.mean() >= _MIN_EQUAL_SHARE)


def measure_association(
    values: pd.Series,
    target: np.ndarray,
    binary: bool,
    halves: np.ndarray | None = None,
) -> float:
    """Measure how well a column alone ranks the target.

    Missing values rank below or above all others, whichever associates more. A category is replaced
    by the mean target of its rows in the other half, so that a unique name per row is not a leak.

    Parameters
    ----------
    halves : ndarray, optional
        The half of each row, 0 or 1; by default every second row.

    Returns
    -------
    float
        AUC (0.5 to 1) if ``binary``, else |Spearman's rho| (0 to 1).
    """
    codes: np.ndarray
    if pd.api.types.is_numeric_dtype(values):
        codes = values.astype("float64").to_numpy(na_value=np.nan)
    elif pd.api.types.is_datetime64_any_dtype(values):
        codes = values.astype("int64").where(values.notna()).to_numpy(dtype="float64")
    else:
        texts = values.astype("str").to_numpy(dtype=object)
        if halves is None:
            halves = np.arange(len(texts)) % 2
        codes, target = _encode_by_target_mean(texts, target, halves)
    is_missing = np.isnan(codes)
    fill_values = (-np.inf, np.inf) if is_missing.any() else (0.0,)
    measure = compute_rank_auc if binary else compute_rank_correlation
    return max(measure(np.where(is_missing, fill, codes), target) for fill in fill_values)


def measure_class_associations(
    values: pd.Series,
    codes: np.ndarray,
    halves: np.ndarray | None = None,
) -> dict[int, float]:
    """Measure how well a column alone tells each of several classes from the rest.

    Values are put into groups (a category each, or quantile bins of numbers), and the class shares
    of each group in one half of the rows rank the rows of the other half (one-vs-rest ROC-AUC).

    Parameters
    ----------
    codes : ndarray
        The code of each row's class.
    halves : ndarray, optional
        The half of each row, 0 or 1; by default every second row.

    Returns
    -------
    dict of int to float
        The AUC (0.5 to 1) of each class, by its code. The lowest one says whether the column
        contains the target, the highest one whether it gives away a class. A class with fewer than
        ten rows in the ranked half, which may be ranked well by chance, is left out.
    """
    if halves is None:
        halves = np.arange(len(values)) % 2
    groups = _group_values(values)
    areas = {}
    for code in np.unique(codes):
        is_class = (codes == code).astype(float)
        shares, labels = _encode_by_target_mean(groups, is_class, halves)
        if _MIN_CLASS_ROWS <= labels.sum() < len(labels):
            areas[int(code)] = compute_rank_auc(shares, labels)
    return areas


def _group_values(values: pd.Series) -> np.ndarray:
    """Group values: numbers and timestamps with many values by quantiles, others as they are."""
    types = pd.api.types
    is_ordered = types.is_numeric_dtype(values) or types.is_datetime64_any_dtype(values)
    if is_ordered and values.nunique() > _QUANTILE_GROUPS:
        ranks = values.rank(
            method="average",
            pct=True,
        )
        groups = (ranks * _QUANTILE_GROUPS).round()
        return groups.astype("str").to_numpy(dtype=object)
    return values.astype("str").to_numpy(dtype=object)


def _encode_by_target_mean(
    values: np.ndarray,
    target: np.ndarray,
    halves: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Encode the categories of half 0 as their mean target in half 1; return half 0."""
    is_other = halves == 1
    means = pd.Series(target[is_other]).groupby(values[is_other]).mean()
    encoded = pd.Series(values[~is_other]).map(means).fillna(target[is_other].mean())
    return encoded.to_numpy(), target[~is_other]


def compute_rank_auc(values: np.ndarray, target: np.ndarray) -> float:
    """Compute the area under the ROC curve by ranks, in the better of both directions.

    It is the Mann-Whitney statistic by the number of pairs; 0.5 for one class.
    """
    positive = values[target == 1]
    negative = values[target != 1]
    if not len(positive) or not len(negative):
        return 0.5
    statistic = scipy_stats.mannwhitneyu(positive, negative, method="asymptotic").statistic
    area = statistic / (len(positive) * len(negative))
    return float(max(area, 1 - area))


def compute_rank_correlation(values: np.ndarray, target: np.ndarray) -> float:
    """Compute Spearman's |rank correlation|; 0 for a constant."""
    value_ranks = scipy_stats.rankdata(values)
    target_ranks = scipy_stats.rankdata(target)
    if value_ranks.std() == 0 or target_ranks.std() == 0:
        return 0.0
    return float(abs(np.corrcoef(value_ranks, target_ranks)[0, 1]))
