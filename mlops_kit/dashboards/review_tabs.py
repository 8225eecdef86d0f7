"""The further tabs of the review page: the evidence behind the first one."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from mlops_kit.core.column_labels import get_column_label
from mlops_kit.core.formatting import capitalize_first, format_number, format_percent
from mlops_kit.core.results import Table
from mlops_kit.dashboards.matrix_chart import (
    MatrixCell,
    MatrixChart,
    choose_drawn_classes,
    draw_matrix_chart,
)
from mlops_kit.dashboards.page_base import CardContent, build_card
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.review_context import ReviewContext
from mlops_kit.dashboards.review_overview import make_metric_table
from mlops_kit.dashboards.stored_reviews import (
    RERUN_REVIEW_COMMAND,
    ImportanceRow,
    SliceRow,
    WhatIfRow,
    read_records,
)
from mlops_kit.dashboards.strip_charts import (
    ValueInterval,
    make_bar_strips,
    make_value_chart,
)
from mlops_kit.dashboards.text_formats import (
    capitalize_sentence,
    describe_listing,
    format_clock_time,
    format_count,
)
from mlops_kit.dashboards.view_models import (
    Block,
    ChoicePartView,
    ChooserView,
    Color,
    FrameView,
    GridView,
    SelectOption,
    SelectView,
    make_column_name,
    make_frame_table,
    make_notes,
    make_optional_table,
    make_paragraph,
    make_sentence,
    make_stored_table,
    make_table,
)
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.stages.review.slices import SliceStatus
from mlops_kit.stats.metrics import METRICS

_SLICE_COLORS = {
    SliceStatus.FINE: Color.GOOD,
    SliceStatus.FAR_BELOW: Color.CRITICAL,
    SliceStatus.CANNOT_TELL: Color.WARNING,
}
_APPROVAL_WORDS = {
    ApprovalOutcome.APPROVED: "approved",
    ApprovalOutcome.REJECTED: "rejected",
    ApprovalOutcome.CHANGES_REQUESTED: "requested changes",
}
_MAX_SHOWN_FEATURES = 20
_MAX_SHOWN_CONFUSIONS = 3
_SHOWN_HASH_CHARACTERS = 12
_WHAT_IF_GROUP = "what-if"


def _build_stored_table_card(context: ReviewContext, title: str, artifact: str) -> Html:
    """Build the card of a stored table: its sentence, its visible columns and its notes."""

    def show_table() -> CardContent:
        table = context.review.read_table(artifact)
        return CardContent(make_sentence(table), make_stored_table(table))

    return build_card(title, show_table, RERUN_REVIEW_COMMAND)


def build_quality_tab(context: ReviewContext) -> Html:
    """Build the tab: every metric, the differences to the champion, and decisions.

    The decisions are costs, or for a multiclass task the performance of each class.
    """
    is_multiclass = context.config.task == "multiclass"
    cards = [
        build_card("Metrics", lambda: _show_metrics(context), RERUN_REVIEW_COMMAND),
        _build_stored_table_card(context, "Champion vs challenger", "against"),
        _build_stored_table_card(
            context, "Predicted classes" if is_multiclass else "Decision cost", "costs"
        ),
    ]
    if is_multiclass:
        cards += [
            build_card("Confusion matrix", lambda: _show_confusions(context), RERUN_REVIEW_COMMAND),
            _build_stored_table_card(context, "Calibration by class", "calibration_by_class"),
        ]
    return Html(GridView(tuple(cards)))


def _show_confusions(context: ReviewContext) -> CardContent:
    """Show shares and counts of each pair of classes, and each class in words."""
    table = context.review.read_table("confusion")
    rows = []
    for true_class, cells in table.to_frame().groupby("true class", sort=False):
        is_hit = cells["predicted class"] == true_class
        count = int(cells["rows"].sum())
        errors = cells[~is_hit & (cells["rows"] > 0)]
        errors = errors.sort_values(["rows", "predicted class"], ascending=[False, True])
        mistaken = []
        for predicted_class, share in errors[["predicted class", "share"]].itertuples(index=False):
            mistaken.append(f"{predicted_class} {format_percent(share)}")
        recognized = format_percent(float(cells.loc[is_hit, "share"].sum())) if count else "unknown"
        text = ", ".join(mistaken[:_MAX_SHOWN_CONFUSIONS])
        rows.append((str(true_class), f"{count:,}", recognized, text))
    headings = ("True class", "Rows", "Recognized", "Predicted instead")
    view = make_table(headings, rows, [1, 2], "Confusion matrix", css_class="wrap")
    return CardContent(table.sentence, (*_draw_confusions(table), view))


def _draw_confusions(table: Table) -> list[Block]:
    """Draw the confusion matrix, and say how to read it; nothing without a labeled row."""
    columns = ["true class", "predicted class", "rows", "share"]
    cells = []
    for true_class, predicted_class, count, share in table.data[columns].itertuples(index=False):
        cells.append(MatrixCell(str(true_class), str(predicted_class), int(count), float(share)))
    if not any(cell.count for cell in cells):
        return []
    names = choose_drawn_classes(cells)
    class_count = len({cell.true_class for cell in cells})
    text = (
        "Each square: the share of the true class that is predicted as the class above it, and the "
        "number of rows. Framed squares are correct."
    )
    if len(names) < class_count:
        text += f" The {len(names)} of {class_count} classes with the most errors are drawn."
    chart = draw_matrix_chart(MatrixChart(names, cells, f"Confusion matrix. {table.sentence}"))
    return [Html("<p class=note>{}</p>").format(text), chart]


def _show_metrics(context: ReviewContext) -> CardContent:
    table = context.review.read_table("metrics")
    metric_table = make_metric_table(context.review, context.other, "Metrics")
    return CardContent(table.sentence, (metric_table, *make_notes(table)))


def build_slices_tab(context: ReviewContext) -> Html:
    """Build the tab: the performance by slice as intervals, and as a table."""
    card = build_card("Performance by slice", lambda: _show_slices(context), RERUN_REVIEW_COMMAND)
    return Html(GridView((card,)))


def _show_slices(context: ReviewContext) -> CardContent:
    """Show the intervals of the slices around the value on all rows."""
    table = context.review.read_table("slices")
    metric = METRICS[context.config.headline_metric]
    values: list[ValueInterval] = []
    overall = 0.0
    for row in read_records(table, SliceRow):
        if row.value is None or row.low is None or row.high is None:
            continue
        if not values:
            # The gap is the gain over all rows, so the overall value follows from any slice.
            overall = row.value - metric.compute_gain(row.gap or 0.0, 0.0)
        text = f"{format_number(row.value)} · {row.rows:,} rows"
        color = _SLICE_COLORS[SliceStatus(row.status)]
        name = make_column_name(row.slice)
        values.append(ValueInterval(name, row.value, row.low, row.high, text, color))
    blocks: list[Block] = []
    if values:
        overall_text = f"all rows: {format_number(overall)}"
        blocks.append(make_value_chart(values, overall, overall_text, "Slices with intervals"))
    return CardContent(make_sentence(table), (*blocks, *make_stored_table(table)))


def build_explanations_tab(context: ReviewContext) -> Html:
    """Build the tab: feature importance and what-if analysis."""
    hint = RERUN_REVIEW_COMMAND
    cards = (
        build_card("Feature importance", lambda: _show_importance(context), hint, 6),
        build_card("What-if analysis", lambda: _show_what_if(context), hint, 6),
    )
    return Html(GridView(cards))


def _show_importance(context: ReviewContext) -> CardContent:
    """Show the permutation importance of the most important features."""
    table = context.review.read_table("importance")
    bars = []
    for row in read_records(table, ImportanceRow)[:_MAX_SHOWN_FEATURES]:
        bars.append((make_column_name(row.feature), row.importance, format_number(row.importance)))
    label = "Permutation importance: drop of the headline metric when a feature is shuffled"
    return CardContent(make_sentence(table), (make_bar_strips(bars, label), *make_notes(table)))


def _show_what_if(context: ReviewContext) -> CardContent:
    """Show what the model would predict for one row if one of its columns were different.

    Everything is on the page already, so a choice needs no kernel.
    """
    table = context.review.read_table("what_if")
    parts: dict[tuple[str, str], list[WhatIfRow]] = {}
    scores: list[float] = []
    for row in read_records(table, WhatIfRow):
        parts.setdefault((str(row.row), str(row.column)), []).append(row)
        scores.extend((abs(row.score), abs(row.new_score)))
    if not parts:
        return CardContent(table.sentence)
    largest = max(scores) or 1.0
    rows = list(dict.fromkeys(row for row, _ in parts))
    columns = list(dict.fromkeys(column for _, column in parts))
    chooser = ChooserView(
        (
            _make_what_if_select("row", capitalize_first(context.config.row_name), rows),
            _make_what_if_select("column", "Column", columns, are_columns=True),
        )
    )
    views = [_make_what_if_part(context, part, largest) for part in parts.values()]
    return CardContent(make_sentence(table), (chooser, *views, *make_notes(table)))


def _make_what_if_select(
    name: str, label: str, values: list[str], are_columns: bool = False
) -> SelectView:
    options = []
    for value in values:
        text = get_column_label(value).text if are_columns else value
        options.append(SelectOption(value, text))
    return SelectView(name, label, tuple(options), _WHAT_IF_GROUP)


def _make_what_if_part(
    context: ReviewContext, rows: list[WhatIfRow], largest: float
) -> ChoicePartView:
    """Make the predictions for one row and the values of one column, with a bar each."""
    first = rows[0]
    column_text = get_column_label(str(first.column)).text
    sentence = Html("The prediction for {} {}, where {} is {}, is <b>{}</b>.").format(
        context.config.row_name,
        first.row,
        make_column_name(first.column),
        first.value,
        context.format_prediction(first.score),
    )
    cells = []
    for row in rows:
        width = f"{abs(row.new_score) / largest * 100:.0f}%"
        bar = Html('<span class=bar style="width:{}"></span>').format(width)
        cells.append((str(row.new_value), bar, context.format_prediction(row.new_score)))
    table = make_table(
        (f"if {column_text} were", "", "prediction"),
        cells,
        [2],
        f"Predictions for other values of {column_text}",
        "bars",
    )
    return ChoicePartView(_WHAT_IF_GROUP, f"{first.row}|{first.column}", sentence, table)


def build_data_tab(context: ReviewContext) -> Html:
    """Build the tab: data split, contract, features and the source."""
    hint = RERUN_REVIEW_COMMAND
    cards = (
        _build_stored_table_card(context, "Data split", "split"),
        build_card("Data contract", lambda: _show_contract(context), hint, 6),
        build_card("Features", lambda: _show_features(context), hint, 6),
        _build_stored_table_card(context, "Source", "overview"),
    )
    return Html(GridView(cards))


def _show_contract(context: ReviewContext) -> CardContent:
    """Show the violations of the contract, and how many rows are in quarantine."""
    report = context.review.read("contract_report")
    quarantine = context.review.artifacts.get("quarantine")
    quarantined_rows = (quarantine.rows or 0) if quarantine else 0
    violations = report.to_frame()
    blocks: list[Block] = []
    if len(violations):
        blocks.extend(make_frame_table(violations))
    blocks.extend(make_notes(report))
    count = capitalize_sentence(format_count(quarantined_rows, "row"))
    blocks.append(make_paragraph(f"{count} in quarantine."))
    return CardContent(report.sentence, tuple(blocks))


def _show_features(context: ReviewContext) -> CardContent:
    """Show the names of the features, and the hash of the feature table."""
    table = context.review.artifacts.get("features")
    names = context.review.read("recipe")["features"]
    note = f"{capitalize_sentence(format_count(len(names), 'feature'))}."
    if table is not None and table.content:
        content = table.content[:_SHOWN_HASH_CHARACTERS]
        note += f" {table.rows or 0:,} rows, content hash {content}."
    codes = [Html("<code>{}</code> ").format(make_column_name(name)) for name in names]
    return CardContent(note, (make_paragraph(Html().join(codes)),))


def build_history_tab(context: ReviewContext) -> Html:
    """Build the tab: promotions and decisions."""
    hint = RERUN_REVIEW_COMMAND
    cards = (
        build_card("Promotions", lambda: _show_promotions(context), hint),
        build_card("Approvals and rejections", lambda: _show_approvals(context), hint),
    )
    return Html(GridView(cards))


def _show_promotions(context: ReviewContext) -> CardContent:
    """Show who promoted which version, the newest first."""
    zone = ZoneInfo(context.config.timezone)
    rows = []
    for record in context.promotions:
        rows.append(
            (
                format_clock_time(record.promoted_at, zone),
                record.version,
                record.previous_version or "",
                record.actor,
                record.reason,
                record.model_hash[:_SHOWN_HASH_CHARACTERS],
            )
        )
    headings = ("Time", "Version", "Previous", "By", "Reason", "Model hash")
    note = describe_listing(len(rows), "promotion", "the newest first")
    return CardContent(note, make_optional_table(headings, rows, label="Promotions"))


def _show_approvals(context: ReviewContext) -> CardContent:
    """Show who decided what about which version, the newest first."""
    zone = ZoneInfo(context.config.timezone)
    rows = []
    for record in context.approvals:
        rows.append(
            (
                format_clock_time(record.decided_at, zone),
                record.version,
                _APPROVAL_WORDS[ApprovalOutcome(record.outcome)],
                record.actor,
                record.reason,
                record.model_hash[:_SHOWN_HASH_CHARACTERS],
            )
        )
    headings = ("Time", "Version", "Outcome", "By", "Reason", "Model hash")
    note = describe_listing(len(rows), "decision", "the newest first")
    return CardContent(note, make_optional_table(headings, rows, label="Decisions"))


def build_card_tab(context: ReviewContext) -> Html:
    """Build the tab of the stored model card."""
    card = build_card("Model card", lambda: _show_model_card(context), RERUN_REVIEW_COMMAND)
    return Html(GridView((card,)))


def _show_model_card(context: ReviewContext) -> CardContent:
    review = context.review
    document = review.read("card")
    link = context.make_link(review.run / review.artifacts["card"].path, "Open it separately")
    frame = FrameView(f"Model card of version {review.number}", document)
    return CardContent("", (Html("<p class=note>{}</p>").format(link), frame))
