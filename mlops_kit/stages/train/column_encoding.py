"""How the columns of a table become numbers, in front of a model and inside its saved pipeline.

| Column | Becomes |
|---|---|
| number, boolean, also with missing values | itself, as a float |
| up to 250 categories | a column for each of the 40 most frequent, or a whole number |
| more categories, such as names | latent semantic analysis of their character n-grams |
| free text: several words, rarely repeated | latent semantic analysis of its words |
| timestamp | year, month, day, hour, weekday and seconds since 1970, in UTC |

Text and timestamps are encoded by skrub's ``StringEncoder`` and ``DatetimeEncoder``. Every step is
a class whose loading has been reviewed (``mlops_kit.registry.models.TRUSTED_TYPES``).

References
----------
Deerwester et al., "Indexing by latent semantic analysis", JASIS 41 (1990); Cerda & Varoquaux,
"Encoding high-cardinality string categorical variables", IEEE TKDE 34 (2022).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mlops_kit.core.lazy import LazyModule, pd

compose = LazyModule("sklearn.compose")
impute = LazyModule("sklearn.impute")
pipelines = LazyModule("sklearn.pipeline")
preprocessing = LazyModule("sklearn.preprocessing")
skrub = LazyModule("skrub")
utils = LazyModule("sklearn.utils")

_MAX_ONE_HOT_CATEGORIES = 40  # with a column each; rarer ones share a column
MAX_CATEGORIES = 250  # HistGradientBoosting accepts at most 255
_MIN_TEXT_WORDS = 4  # on average; values of fewer words are names or codes
_MIN_DISTINCT_TEXTS = 40  # fewer distinct texts are categories, however long
_WORD_PATTERN = r"\b\w\w+\b"  # of TfidfVectorizer
_TEXT_COMPONENTS = 30
_NAME_COMPONENTS = 10
_ENCODER_SEED = 0  # of the randomized decomposition; the same text has the same code in all models
TEXT_STEPS = ("strings", "texts")  # names of the steps that encode text
_NUMERIC_OBJECT_TYPES = {"boolean", "integer", "floating", "mixed-integer-float"}


class ColumnGroups(NamedTuple):
    """The features of a table by the way in which they become numbers.

    Attributes
    ----------
    numbers : list of str
        Numbers and booleans.
    categories : list of str
        Columns with up to ``MAX_CATEGORIES`` values.
    names : list of str
        Columns with more values, of few words.
    texts : list of str
        Free text.
    times : list of str
        Timestamps.
    """

    numbers: list[str]
    categories: list[str]
    names: list[str]
    texts: list[str]
    times: list[str]


def group_columns(frame: pd.DataFrame, features: list[str]) -> ColumnGroups:
    """Group features by the way in which they become numbers.

    A column without values is in no group: there is nothing to learn from it, and scikit-learn's
    boosting cannot bin it. Neither is a duration.
    """
    groups = ColumnGroups([], [], [], [], [])
    for name in features:
        column = frame[name]
        if column.isna().all() or pd.api.types.is_timedelta64_dtype(column):
            continue
        if pd.api.types.is_datetime64_any_dtype(column):
            groups.times.append(name)
        elif _is_numeric_column(column):
            groups.numbers.append(name)
        else:
            _get_text_group(column, groups).append(name)
    return groups


def _is_numeric_column(column: pd.Series) -> bool:
    """Whether a column holds numbers or booleans, also where missing values made it objects."""
    if pd.api.types.is_numeric_dtype(column):
        return True
    if not pd.api.types.is_object_dtype(column):
        return False
    return pd.api.types.infer_dtype(column, skipna=True) in _NUMERIC_OBJECT_TYPES


def _get_text_group(column: pd.Series, groups: ColumnGroups) -> list[str]:
    """Return the group of a column of strings: categories, names or texts."""
    distinct = pd.Series(column.dropna().unique())
    if len(distinct) <= _MIN_DISTINCT_TEXTS or not _holds_strings(distinct):
        return groups.categories
    words = float(distinct.str.count(_WORD_PATTERN).mean())
    if words >= _MIN_TEXT_WORDS:
        return groups.texts
    if len(distinct) > MAX_CATEGORIES:
        return groups.names
    return groups.categories


def _holds_strings(values: pd.Series) -> bool:
    return pd.api.types.infer_dtype(values, skipna=True) == "string"


def build_column_transformer(columns: ColumnGroups, *, scaled: bool, one_hot: bool) -> Any:
    """Build the ColumnTransformer in front of a model: categories first, then all others.

    Parameters
    ----------
    scaled : bool
        Impute numbers by their median, with an indicator, and scale them; otherwise they stay as
        they are, missing values included.
    one_hot : bool
        A column for each category; otherwise categories become whole numbers.
    """
    transformers: list[tuple[str, Any, Any]] = []
    if columns.categories:
        transformers.append(("names", _build_category_steps(one_hot), columns.categories))
    if columns.numbers:
        transformers.append(("numbers", _build_number_steps(scaled), columns.numbers))
    if columns.names:
        encoder = skrub.StringEncoder(_NAME_COMPONENTS, random_state=_ENCODER_SEED)
        transformers.append(("strings", _build_text_steps(encoder), columns.names))
    if columns.texts:
        encoder = skrub.StringEncoder(
            _TEXT_COMPONENTS, analyzer="word", ngram_range=(1, 1), random_state=_ENCODER_SEED
        )
        transformers.append(("texts", _build_text_steps(encoder), columns.texts))
    # A single column, not a list of one: its steps take a Series.
    for position, column in enumerate(columns.times):
        transformers.append((f"time_{position}", _build_time_steps(scaled), column))
    return compose.ColumnTransformer(transformers, sparse_threshold=0)


def _build_category_steps(one_hot: bool) -> Any:
    """Build the steps that encode categories."""
    # Parquet returns None where CSV returns NaN; an encoder would take these as two categories.
    fill_missing = impute.SimpleImputer(
        missing_values=pd.NA,
        strategy="constant",
        fill_value="(missing)",
    )
    if one_hot:
        encoder: Any = preprocessing.OneHotEncoder(
            max_categories=_MAX_ONE_HOT_CATEGORIES,
            handle_unknown="infrequent_if_exist",
            sparse_output=False,
        )
    else:
        encoder = preprocessing.OrdinalEncoder(
            max_categories=MAX_CATEGORIES,
            handle_unknown="use_encoded_value",
            unknown_value=-1,
        )
    return pipelines.make_pipeline(fill_missing, encoder)


def _build_number_steps(scaled: bool) -> Any:
    """Build the steps that prepare numbers and booleans."""
    # A boolean column with missing values holds objects; as floats it is 0, 1 or NaN, in training
    # and at the endpoint.
    to_float = preprocessing.FunctionTransformer(
        utils.check_array,
        kw_args={"dtype": "float64", "ensure_all_finite": "allow-nan"},
        feature_names_out="one-to-one",
    )
    return pipelines.make_pipeline(to_float, *_build_scaling_steps(scaled))


def _build_scaling_steps(scaled: bool) -> list[Any]:
    if not scaled:
        return []
    return [
        impute.SimpleImputer(strategy="median", keep_empty_features=True, add_indicator=True),
        preprocessing.StandardScaler(),
    ]


def _build_text_steps(encoder: Any) -> Any:
    """Build the steps that encode each of some columns of strings; a missing one is empty."""
    fill_missing = impute.SimpleImputer(
        missing_values=pd.NA,
        strategy="constant",
        fill_value="",
    ).set_output(transform="pandas")
    # The last step does nothing: a pipeline with a cache keeps the results of all others.
    return pipelines.make_pipeline(fill_missing, skrub.ApplyToCols(encoder), "passthrough")


def _build_time_steps(scaled: bool) -> Any:
    """Build the steps that extract numbers from a column of timestamps."""
    # What a request leaves out has no type; as a timestamp it is missing.
    to_timestamp = preprocessing.FunctionTransformer(
        pd.to_datetime,
        kw_args={"utc": True, "errors": "coerce"},
    )
    extract_parts = skrub.DatetimeEncoder("hour", add_weekday=True, add_total_seconds=True)
    return pipelines.make_pipeline(to_timestamp, extract_parts, *_build_scaling_steps(scaled))
