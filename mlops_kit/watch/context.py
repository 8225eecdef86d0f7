"""What every step of a pass of the watch shares: the project, its champion and references."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.data.source import SourceHistory
from mlops_kit.db import approvals
from mlops_kit.db.engine import query_records
from mlops_kit.db.operator_decisions import find_accepted_reference
from mlops_kit.db.tables import WindowRecord
from mlops_kit.project.loader import Project
from mlops_kit.registry import versions
from mlops_kit.registry.versions import ModelVersion
from mlops_kit.stages.monitor.reference_performance import (
    ReferencePerformance,
    accept_value,
)
from mlops_kit.watch.status import format_local_time
from mlops_kit.watch.windows import ReferenceData, load_reference


class Champion(NamedTuple):
    """The version in service, and its loaded model."""

    version: ModelVersion
    model: Any


class WatchContext:
    """The watched project, and what is kept between two passes.

    Raises
    ------
    KitError
        If the table has no time column.
    """

    def __init__(self, project: Project, report: ProgressReporter) -> None:
        if project.config.time is None:
            raise KitError(
                "a table without a time column cannot be watched",
                "'time' in mlops.yaml: the column of the prediction time",
                "mlops run scores the rows without a label",
            )
        self.project = project
        self.config = project.config
        self.report = report
        self.history = SourceHistory(project)
        self._champion: Champion | None = None
        self._promotion_number = 0
        self._references: dict[str, ReferenceData] = {}

    def get_champion(self) -> Champion:
        """Get the champion; it is loaded again only after a promotion."""
        promotion = approvals.get_current_promotion(self.project)
        promotion_number = promotion.number if promotion else 0
        if self._champion is None or promotion_number != self._promotion_number:
            self._champion = Champion(*versions.load_champion(self.project))
            self._promotion_number = promotion_number
        return self._champion

    def get_reference(self, version: str) -> ReferenceData:
        """Get what a version was evaluated on.

        Its performance is the reviewed one, or what a person accepted in its place.
        """
        if version not in self._references:
            described_version = versions.load_version(self.project, version)
            self._references[version] = load_reference(self.project, described_version)
        reference = self._references[version]
        accepted = find_accepted_reference(self.project, version)
        if accepted is None:
            return reference
        reviewed = reference.performance or ReferencePerformance(None)
        return reference._replace(performance=accept_value(reviewed, accepted.value))

    def list_monitored_windows(self) -> list[WindowRecord]:
        """List the windows monitored so far, in their order."""
        statement = (
            sa.select(WindowRecord)
            .where(WindowRecord.model == self.config.name)
            .order_by(WindowRecord.start)
        )
        return query_records(self.project, statement)

    def format_time(self, time: datetime) -> str:
        """Format a time in the project's time zone."""
        return format_local_time(self.config, time)

    def report_lines(self, as_of: datetime, lines: Iterable[str]) -> None:
        """Report what happened in a pass, one line per event."""
        for line in lines:
            self.report(f"{self.format_time(as_of)}  {line}")
