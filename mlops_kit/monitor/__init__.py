"""Monitor: have the inputs moved, does the model still keep its promise, who must be told?"""

from mlops_kit.monitor.alerts import append, headline, judge, records
from mlops_kit.monitor.drift import compare, schema, sides
from mlops_kit.monitor.realised import by_day, promised, realised

__all__ = [
    "append",
    "by_day",
    "compare",
    "headline",
    "judge",
    "promised",
    "realised",
    "records",
    "schema",
    "sides",
]
