"""Features: the same value at training and at the endpoint, from what was known at the moment.

A project's own features are functions in its own file (``features:`` in ``mlops.yaml``)::

    from mlops_kit import features

    @features.view
    def calendar(db):
        return db.sql("SELECT row, dayofweek(moment) AS weekday FROM rows")

To add a feature: 1. a column in a view, or a function with ``@features.view``, 2. its file under
``features:``; ``point_in_time`` then checks that it sees nothing too early.
"""

from mlops_kit.features.offline import build, encode, known, names, ordered, point_in_time
from mlops_kit.features.views import Tables, View, load, trailing, view

__all__ = [
    "Tables",
    "View",
    "build",
    "encode",
    "known",
    "load",
    "names",
    "ordered",
    "point_in_time",
    "trailing",
    "view",
]
