"""Features: the same values in training and at the endpoint, from what was known at the time.

A project's own features are functions in its own files (``features:`` in ``mlops.yaml``)::

    from mlops_kit.data import features

    @features.view
    def calendar(db):
        return db.sql("SELECT row, dayofweek(moment) AS weekday FROM rows")

To add a feature: 1. a column in a view, or a function with ``@features.view``, 2. the file under
``features:``. ``check_point_in_time`` then checks that it uses no data from the future.
"""

from __future__ import annotations

from mlops_kit.data.columns import list_feature_columns
from mlops_kit.data.features.build import (
    build_features,
    check_point_in_time,
    count_differences,
    select_known_history,
    select_model_inputs,
)
from mlops_kit.data.features.views import (
    FeatureDatabase,
    FeatureView,
    build_trailing_sql,
    load_views,
    view,
)

__all__ = [
    "FeatureDatabase",
    "FeatureView",
    "build_features",
    "build_trailing_sql",
    "check_point_in_time",
    "count_differences",
    "list_feature_columns",
    "load_views",
    "select_known_history",
    "select_model_inputs",
    "view",
]
