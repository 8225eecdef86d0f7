"""Changes of the concept: since when the realized loss of the champion is higher.

The daily mean losses of the held-out rows and of the logged predictions are searched for a change
point (``mlops_kit.stats.change_point``). A retraining then gets the time of the change as
``train.change_point``.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.tasks import TASKS, to_score_array
from mlops_kit.data.columns import format_local_days
from mlops_kit.data.splitters import count_held_out_rows
from mlops_kit.data.target import TargetEncoder
from mlops_kit.db import predictions
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stats.change_point import find_change_point
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.row_losses import compute_row_losses
from mlops_kit.watch.context import WatchContext

MAX_CHANGE_PERIOD = timedelta(days=180)  # of logged predictions that are searched


class SuspectedChange(NamedTuple):
    """Since when the champion's realized loss is higher.

    Attributes
    ----------
    time : datetime
        The start of the first day after the change, in the project's time zone.
    labeled_rows : tuple of int
        The rows of each day since then that have a label.
    sentence : str
        The change in a sentence.
    """

    time: datetime
    labeled_rows: tuple[int, ...]
    sentence: str

    def describe_missing_rows(self) -> str:
        """Describe that too few rows were labeled since the change; empty if there are enough."""
        if count_held_out_rows(self.labeled_rows):
            return ""
        return (
            f"{self.sentence} {sum(self.labeled_rows):,} rows of {len(self.labeled_rows)} days "
            "were labeled since, too few to train on some and evaluate on others."
        )


def find_suspected_change(context: WatchContext, as_of: datetime) -> SuspectedChange | None:
    """Find since when the realized loss of the champion is higher; None if it is not."""
    version = context.get_champion().version
    losses = pd.concat(
        [
            _compute_reference_losses(context, version),
            _compute_logged_losses(context, version, as_of),
        ]
    )
    return locate_change(losses, context.config)


def locate_change(losses: pd.DataFrame, config: ProjectConfig) -> SuspectedChange | None:
    """Locate since when the losses of a model are higher; None if they are not.

    Parameters
    ----------
    losses : DataFrame
        As of ``make_losses``, of held-out and of served rows.
    config : ProjectConfig
        The project's settings.
    """
    if losses.empty:
        return None
    by_day = losses.groupby("day")["loss"].agg(["mean", "size"])
    change = find_change_point(by_day["mean"].to_numpy(), by_day["size"].to_numpy(), config.seed)
    if change is None or change.mean_after <= change.mean_before:
        return None
    day = str(by_day.index[change.position])
    rows_since = by_day["size"].iloc[change.position :]
    loss_title = METRICS[TASKS[config.task].loss_metric].title
    if config.task == "regression":
        loss_title = "mean squared error"
    sentence = (
        f"The realized {loss_title} rose from {format_number(change.mean_before)} to "
        f"{format_number(change.mean_after)} on {day} (p {format_number(change.p_value)})."
    )
    return SuspectedChange(
        time=datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(config.timezone)),
        labeled_rows=tuple(int(rows) for rows in rows_since),
        sentence=sentence,
    )


def _compute_logged_losses(
    context: WatchContext, version: ModelVersion, as_of: datetime
) -> pd.DataFrame:
    """Compute the loss of each labeled prediction of a version, with its day."""
    start = max(datetime.fromisoformat(version.as_of), as_of - MAX_CHANGE_PERIOD)
    rows = predictions.load_labeled_predictions(context.project, start, as_of)
    rows = rows[rows["version"] == version.version].reset_index(drop=True)
    rows = encode_version_labels(context.project, rows, version.classes)
    return make_losses(context.config, rows["moment"], rows["label"], rows["score"])


def _compute_reference_losses(context: WatchContext, version: ModelVersion) -> pd.DataFrame:
    """Compute the loss of each held-out row of a version, with its day."""
    config = context.config
    reference = context.get_reference(version.version).rows
    if config.time not in reference:
        return pd.DataFrame(columns=["day", "loss"])
    return make_losses(
        config, reference[config.time], reference[config.target], reference[SCORE_COLUMN]
    )


def make_losses(
    config: ProjectConfig, times: pd.Series, labels: pd.Series, scores: pd.Series
) -> pd.DataFrame:
    """Make the table of the loss of each labeled row, with its ``day``."""
    losses = compute_row_losses(config.task, labels, to_score_array(scores))
    days = format_local_days(times, config)
    table = pd.DataFrame({"day": np.asarray(days, dtype=object), "loss": losses})
    return table.dropna()


def encode_version_labels(
    project: Project, rows: pd.DataFrame, classes: tuple[object, ...]
) -> pd.DataFrame:
    """Encode labels in the codes of a version, which may differ from those of the project."""
    if not classes:
        return rows
    coding = TargetEncoder(project, classes).coding
    labels = coding.encode_column(rows["raw_label"])
    return rows.assign(label=labels.fillna(rows["label"]))
