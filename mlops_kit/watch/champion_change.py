"""A change of the champion that the watch decides: a rollback, or a reinstatement."""

from __future__ import annotations

from datetime import datetime

from mlops_kit.db.engine import open_transaction
from mlops_kit.registry import versions
from mlops_kit.stages.monitor.incidents import IncidentSignal
from mlops_kit.watch.alert_queue import update_incidents
from mlops_kit.watch.context import WatchContext


def change_champion(
    context: WatchContext,
    version: str,
    actor: str,
    reason: str,
    signal: IncidentSignal,
    as_of: datetime,
) -> None:
    """Promote a version in place of the champion; the incident, with the evidence, is stored first.

    Parameters
    ----------
    version : str
        The version that serves from now on.
    actor, reason : str
        Who promotes it, and why, as the record of the promotion states it.
    signal : IncidentSignal
        What the incident says.
    as_of : datetime
        The time of the pass.
    """
    with open_transaction(context.project) as transaction:
        lines = update_incidents(transaction, context.config, set(), [signal], as_of, "")
    versions.promote_version(context.project, version, actor, reason)
    context.report_lines(as_of, lines)
