"""The decisions of operators on the monitoring page, and the comparisons that they rest on."""

from __future__ import annotations

import json

from mlops_kit.core.formatting import format_number
from mlops_kit.dashboards.monitoring_context import MonitoringContext
from mlops_kit.dashboards.page_base import CardContent
from mlops_kit.dashboards.text_formats import (
    capitalize_sentence,
    format_clock_time,
    format_event_time,
    format_interval_cell,
    format_optional,
)
from mlops_kit.dashboards.view_models import (
    ActionView,
    Color,
    make_day_cell,
    make_optional_table,
    make_status,
)
from mlops_kit.db.operator_decisions import (
    DecisionKind,
    find_promotion_stop,
    list_operator_decisions,
)
from mlops_kit.watch.predecessor import list_stored_comparisons


def make_operator_actions(context: MonitoringContext) -> list[ActionView]:
    """Make the decisions about automatic promotion and the reference performance."""
    actions = []
    stop = find_promotion_stop(context.project)
    if stop is not None:
        actions.append(
            ActionView(
                name="enable_promotion",
                label="Enable promotion …",
                title="Enable automatic promotion again?",
                text=stop.sentence,
                submit_label="Enable",
            )
        )
    window = context.data.last_labeled_window
    value = context.realized_value
    if context.is_performance_below_reference and window is not None and value is not None:
        reference = format_number(context.data.get_reference(window.version))
        actions.append(
            ActionView(
                name="accept_reference",
                label=f"Accept {format_number(value)} …",
                title=f"Accept {format_number(value)} as the reference performance?",
                text=(
                    f"Windows of version {window.version} are compared with it instead of "
                    f"{reference} from now on. Incidents end when performance matches it."
                ),
                submit_label="Accept",
                payload=json.dumps({"version": window.version, "value": repr(value)}),
            )
        )
    return actions


def show_predecessor_comparisons(context: MonitoringContext) -> CardContent:
    """Show each window of a new champion beside what the version before would have made of it."""
    rows = []
    for record, comparison in list_stored_comparisons(context.project):
        result: object = comparison.note or "not worse"
        if comparison.is_worse:
            result = make_status(Color.CRITICAL, "▲ worse: rolled back")
        rows.append(
            (
                make_day_cell(format_event_time(record.window_start, context.zone)),
                comparison.version,
                comparison.predecessor,
                f"{comparison.rows:,}",
                format_optional(comparison.gain, format_number),
                format_interval_cell(comparison.interval),
                result,
            )
        )
    note = (
        f"Both versions score the same rows; gain in {context.metric.title}, positive if the new "
        "version is better. The interval over all windows since the promotion stays valid although "
        "it is looked at after each one: at most 5% of versions that are not worse are rolled back."
    )
    if not rows:
        note += " No version that replaced another has been compared yet."
    headings = ("Window", "Version", "Before", "Rows", "Gain", "Gain since promotion", "Result")
    table = make_optional_table(headings, rows, [3, 4, 5], "Champion vs predecessor")
    return CardContent(note, table)


def show_operator_decisions(context: MonitoringContext) -> CardContent:
    """Show who enabled automatic promotion or accepted a reference, and why."""
    rows = []
    for record in list_operator_decisions(context.project):
        decision = capitalize_sentence(record.kind)
        if record.kind == DecisionKind.REFERENCE_ACCEPTED:
            stored = json.loads(record.value_json)
            decision += f": {format_number(stored['value'])} for version {stored['version']}"
        time = format_clock_time(record.decided_at, context.zone)
        rows.append((time, decision, record.actor, record.reason))
    note = "Automatic promotion that was enabled again, and reference values that were accepted."
    if not rows:
        note += " There were none."
    headings = ("Recorded", "Decision", "By", "Reason")
    return CardContent(note, make_optional_table(headings, rows, label="Decisions of operators"))
