"""Batch scoring: which rows the stage scores, and a summary of the scores."""

from __future__ import annotations

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.core.tasks import summarize_score, to_score_array
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.registry import scoring
from mlops_kit.stages.stage import Stage

_TITLE = "Scores by day"


def select_period_rows(stage: Stage) -> pd.DataFrame:
    """Select the rows to score: those between ``as_of`` and ``until``.

    For a table without time they are the rows without a label.
    """
    rows = stage.read_source(stage.until)
    config = stage.config
    if config.time is None:
        is_due = rows[config.target].isna()
    else:
        is_due = rows[config.time] >= stage.as_of
    return rows[is_due].reset_index(drop=True)


def select_accepted_rows(
    stage: Stage, rows: pd.DataFrame, history: pd.DataFrame
) -> tuple[pd.DataFrame, Table]:
    """Select the rows to score that the data contract accepts.

    Parameters
    ----------
    rows : DataFrame
        The rows to score.
    history : DataFrame
        The source as known when they are scored.

    Returns
    -------
    accepted : DataFrame
        The rows that are scored.
    check : Table
        What the contract rejects, and what it accepts although it is new.
    """
    rows = to_pandas(rows)
    history = to_pandas(history)
    check = scoring.check_rows_to_score(stage.project, rows, history)
    return rows[~check.is_rejected].reset_index(drop=True), check.table


def summarize_scores_by_day(scored: pd.DataFrame, config: ProjectConfig) -> Table:
    """Summarize how many rows were scored each day, and the share predicted positive.

    The score of a multiclass task is the probability of the predicted class here, and no row is
    flagged.

    Returns
    -------
    Table
        One row per day: ``day``, ``rows``, ``mean score``, ``flagged``.
    """
    scored = to_pandas(scored)
    if scored.empty:
        reason = "no row is between as_of and until"
        if config.time is None:
            reason = "the table has no time column and no row without a label"
        return Table(
            _TITLE,
            f"Nothing to score: {reason}.",
            pd.DataFrame(columns=["day", "rows", "mean score", "flagged"]),
        )
    scores = summarize_score(to_score_array(scored["score"]))
    decisions = scored["decision"]
    if config.task == "multiclass":
        decisions = pd.Series(float("nan"), scored.index)
    scored = pd.DataFrame({"day": scored["day"], "score": scores, "decision": decisions})
    by_day = scored.groupby("day", sort=True)
    data = by_day.agg(
        **{
            "rows": ("score", "size"),
            "mean score": ("score", "mean"),
            "flagged": ("decision", "mean"),
        }
    ).reset_index()
    if config.time:
        data["day"] = pd.to_datetime(data["day"])
    sentence = f"{format_number(len(scored))} rows were scored over {len(data)} days"
    flagged_share = scored["decision"].mean()
    if not pd.isna(flagged_share):
        sentence += f"; {format_percent(float(flagged_share))} of them are flagged"
    return Table(_TITLE, f"{sentence}.", data)
