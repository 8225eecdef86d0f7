"""The explorer: choose a column and a group, and see the distribution of its values.

It shows the figure of a table, as everywhere; the menus only choose which. Where no kernel answers
(a report, a printed notebook) its initial figure is shown instead.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from mlops_kit.core import charts
from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extras import import_from_extra
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Figure, Table
from mlops_kit.data.column_kinds import DisplayKind, infer_display_kind
from mlops_kit.data.columns import ROW_ID
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import (
    assign_groups,
    list_most_common_values,
    make_hashable,
    select_grouping_columns,
)

_HISTOGRAM_BINS = 20
_MAX_TEXT_VALUES = 20  # most frequent values of a text that are shown
_MAX_GROUP_LINES = 5  # largest groups that have a line of their own
_ALL_ROWS = "all rows"


def summarize_distribution(
    frame: pd.DataFrame,
    column: str,
    group: str | None = None,
) -> Table:
    """Summarize the distribution of a column: the share of rows per bin or value.

    Numbers are cut into bins of equal width; missing values are left out and counted in the
    sentence.

    Parameters
    ----------
    group : str, optional
        A column; shares are then those of each of its groups.

    Raises
    ------
    KitError
        If the table has no such column.
    """
    frame = to_pandas(frame)
    for name in (column, group):
        if name is not None and name not in frame.columns:
            raise KitError(
                f"the table has no column {name!r} to explore",
                suggest_names(name, frame.columns),
                "name a column of the table",
            )
    data = _count_by_bin(frame, column, group)
    title = f"Distribution of {column}"
    share_unit = "of rows"
    if group is not None:
        title += f" by {group}"
        share_unit += " of the group"
    missing_rows = int(frame[column].isna().sum())
    sentence = _describe_distribution(data, column, group, missing_rows)
    return Table(title, sentence, data, {"share": share_unit})


def _count_by_bin(
    frame: pd.DataFrame,
    column: str,
    group: str | None,
) -> pd.DataFrame:
    """Count the rows, and their share, by bin and group."""
    table_columns = ["value", "group", "rows", "share"]
    bins = _assign_value_bins(frame[column])
    if bins.isna().all():
        return pd.DataFrame([], columns=table_columns)
    if group is None:
        groups = pd.Series(_ALL_ROWS, index=frame.index)
    else:
        groups = assign_groups(frame[group])
    groups = groups.where(groups.isin(list_most_common_values(groups, _MAX_GROUP_LINES)), "other")
    counts = pd.crosstab(bins, groups)
    rows = []
    for name in counts.columns:
        group_rows = counts[name].sum()
        for label in bins.cat.categories:
            if label in counts.index:
                count = counts.loc[label, name]
                rows.append((label, name, int(count), float(count / group_rows)))
    return pd.DataFrame(rows, columns=table_columns)


def _assign_value_bins(values: pd.Series) -> pd.Series:
    """Assign each value to its bin, or to itself if there are few, as an ordered category."""
    values = make_hashable(values)
    kind = infer_display_kind(values)
    is_continuous = kind in {DisplayKind.NUMBER, DisplayKind.TIMESTAMP}
    if is_continuous and values.nunique() > _MAX_TEXT_VALUES:
        return _cut_into_bins(values, kind)
    labels = values.astype("object").map(str, na_action="ignore")
    if kind is DisplayKind.NUMBER:
        order = [str(value) for value in sorted(values.dropna().unique())]
    else:
        order = list_most_common_values(labels, _MAX_TEXT_VALUES)
        labels = labels.where(labels.isin(order) | labels.isna(), "other")
        if "other" not in order:
            order.append("other")
    return pd.Series(pd.Categorical(labels, order, ordered=True), index=values.index)


def _cut_into_bins(values: pd.Series, kind: DisplayKind) -> pd.Series:
    """Cut numbers or timestamps into bins of equal width with distinct labels."""
    if kind is DisplayKind.NUMBER:
        values = values.astype("float64").replace([np.inf, -np.inf], np.nan)
    bins = pd.cut(values, _HISTOGRAM_BINS)
    labels = []
    for interval in bins.cat.categories:
        if kind is DisplayKind.TIMESTAMP:
            labels.append(f"{interval.left:%Y-%m-%d %H:%M}")
        else:
            labels.append(f"{interval.left:,.4g} to {interval.right:,.4g}")
    distinct = []
    for number, label in enumerate(labels):
        distinct.append(label if labels.count(label) == 1 else f"{label} ({number})")
    return bins.cat.rename_categories(distinct)


def _describe_distribution(
    data: pd.DataFrame,
    column: str,
    group: str | None,
    missing_rows: int,
) -> str:
    """Describe the most frequent value, or where the groups differ most."""
    if data.empty:
        return f"{column} has no values."
    missing = f" {missing_rows:,} rows have no value." if missing_rows else ""
    if group is None or data["group"].nunique() < 2:
        top = data.iloc[int(data["share"].to_numpy().argmax())]
        share = format_percent(float(top["share"]))
        return (
            f"The most frequent value of {column} is {top['value']}, "
            f"in {share} of the rows that have a value.{missing}"
        )
    shares = data.pivot(index="value", columns="group", values="share")
    spread = shares.max(axis=1) - shares.min(axis=1)
    position = int(spread.to_numpy().argmax())
    ordered = shares.iloc[position].sort_values(kind="stable")
    return (
        f"The groups of {group} differ most at {column} = {shares.index[position]}: "
        f"{format_percent(float(ordered.iloc[-1]))} of {ordered.index[-1]}, "
        f"{format_percent(float(ordered.iloc[0]))} of {ordered.index[0]}.{missing}"
    )


def plot_distribution(
    frame: pd.DataFrame,
    column: str,
    group: str | None = None,
) -> Figure:
    """Plot the distribution of a column: bars of all rows, or a line per group."""
    table = summarize_distribution(frame, column, group)
    if group is None:
        return charts.plot_bars(table, x="value", y="share", titles={"value": column})
    return charts.plot_line(table, x="value", y="share", color="group", titles={"value": column})


class DistributionExplorer:
    """Menus of a column and a group above ``plot_distribution``; ``create_explorer`` makes it.

    It displays as a widget, and as its initial figure where no kernel answers.
    """

    title = "Explorer"

    def __init__(
        self,
        frame: pd.DataFrame,
        columns: list[str],
        group_columns: list[str],
    ) -> None:
        with import_from_extra("train"):
            import ipywidgets

        # A choice made before is not plotted again.
        self._plot_cached = cache(partial(plot_distribution, frame))
        self.column_menu = ipywidgets.Dropdown(
            options=columns,
            value=columns[0],
            description="Column",
        )
        self.group_menu = ipywidgets.Dropdown(
            options=[_ALL_ROWS, *group_columns],
            value=_ALL_ROWS,
            description="By group",
        )
        self.output = ipywidgets.HTML()
        menus = ipywidgets.HBox([self.column_menu, self.group_menu])
        self.box = ipywidgets.VBox([menus, self.output])
        self.initial_figure = self.update_figure()
        self.column_menu.observe(self._on_choice, "value")
        self.group_menu.observe(self._on_choice, "value")

    def update_figure(self) -> Figure:
        """Plot what the menus say, and show it."""
        column = self.column_menu.value
        group = self.group_menu.value
        if group in {_ALL_ROWS, column}:
            group = None
        self.current_figure: Figure = self._plot_cached(column, group)
        self.output.value = self.current_figure._repr_html_()
        self.sentence = self.current_figure.sentence
        return self.current_figure

    def _on_choice(self, _change: Any) -> None:
        self.update_figure()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        bundle = self.box._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        static = {
            "text/html": self.initial_figure._repr_html_(),
            "text/plain": self.initial_figure.sentence,
        }
        return {**data, **static}, metadata


def create_explorer(frame: pd.DataFrame, config: ProjectConfig) -> DistributionExplorer:
    """Create menus of a column and a group above the plot of the column's distribution.

    Parameters
    ----------
    frame : DataFrame
        Any table of the project.
    config : ProjectConfig
        Its target is first in the menu; ids are left out.

    Raises
    ------
    KitError
        If there is no column other than ids.
    """
    frame = to_pandas(frame)
    ids = {*config.id, ROW_ID}
    columns = [str(column) for column in frame.columns if column not in ids]
    if not columns:
        raise KitError(
            f"a table of {frame.shape[1]} columns has none to explore",
            "a column that is not an id",
            "check 'id' in mlops.yaml",
        )
    target = [config.target] if config.target in columns else []
    other_columns = [column for column in columns if column not in target]
    grouping = [name for name in select_grouping_columns(frame, config) if name not in target]
    group_columns = [
        name for name in [*target, *grouping] if make_hashable(frame[name]).nunique() > 1
    ]
    return DistributionExplorer(frame, [*target, *other_columns], group_columns)
