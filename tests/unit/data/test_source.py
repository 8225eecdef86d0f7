"""The source: nothing is visible before it was known, and unreadable sources are described."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import columns, source_times, timestamps
from mlops_kit.data.quarantine import check_source_rows
from mlops_kit.data.reading.summary import describe_reading, describe_rejected_rows
from mlops_kit.data.source import (
    SourceHistory,
    _is_sorted,
    check_configured_columns,
    draw_sample,
    list_source_columns,
    read_known_table,
    read_raw_source,
    read_source,
    resolve_cutoffs,
)
from mlops_kit.data.source_times import parse_time_columns
from mlops_kit.project import loader

YAML = """
name: tiny
source: t.csv
target: late
task: binary
id: nr
time: at
label_delay: 1d
known_later: {gate: closed, closed: closed, taxi: 2h}
"""
CSV = """nr,at,closed,gate,taxi,late
3,2013-01-03 00:00,2013-01-03 01:00,C,30,1
1,2013-01-01 00:00,2013-01-01 01:00,A,10,0
2,2013-01-02 00:00,2013-01-02 01:00,B,20,1
"""


def make_project(folder: Path, text: str = YAML, csv: str | None = CSV) -> loader.Project:
    (folder / "mlops.yaml").write_text(text)
    if csv is not None:
        (folder / "t.csv").write_text(csv)
    return loader.load_project(folder)


def parse_utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_complete_source_is_sorted_and_fully_known(tmp_path: Path) -> None:
    frame = read_source(make_project(tmp_path))
    assert frame["nr"].tolist() == [1, 2, 3]
    assert frame["late"].tolist() == [0, 1, 1]
    assert str(frame["at"].dtype) == "datetime64[us, UTC]"


def test_later_rows_are_dropped(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    assert read_source(made, parse_utc("2013-01-02T00:00"))["nr"].tolist() == [
        1
    ]  # a row of that very moment is later
    assert read_source(made, parse_utc("2013-01-02T00:00:01"))["nr"].tolist() == [1, 2]


def test_label_is_known_after_its_delay(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    before, after = (
        read_source(made, parse_utc(t))["late"].isna().tolist()
        for t in ("2013-01-02T23:59", "2013-01-03T00:00")
    )
    assert before == [False, True]
    assert after == [False, False]


def test_value_is_known_from_the_time_in_another_column(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    before, after = (
        read_source(made, parse_utc(t)) for t in ("2013-01-02T00:59", "2013-01-02T01:00")
    )
    assert before["gate"].isna().tolist() == before["closed"].isna().tolist() == [False, True]
    assert after["gate"].tolist() == ["A", "B"]


def test_value_is_known_after_its_delay(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    before, after = (
        read_source(made, parse_utc(t))["taxi"] for t in ("2013-01-02T01:59", "2013-01-02T02:00")
    )
    assert before.isna().tolist() == [False, True]
    assert after.tolist() == [10, 20]


def test_value_without_a_known_time_is_missing(tmp_path: Path) -> None:
    made = make_project(tmp_path, csv=CSV.replace("2013-01-01 01:00", ""))
    assert read_source(made, parse_utc("2014-01-01T00:00"))["gate"].isna().tolist() == [
        True,
        False,
        False,
    ]


def test_sorted_rows_are_detected_and_unsorted_ties_too(tmp_path: Path) -> None:
    tied = (
        "nr,at,closed,gate,taxi,late\n"
        "2,2013-01-01,2013-01-01,A,1,0\n"
        "1,2013-01-01,2013-01-01,A,1,0\n"
    )
    assert read_source(make_project(tmp_path, csv=tied))["nr"].tolist() == [1, 2]
    frame = pd.DataFrame({"at": pd.to_datetime(["2013-01-01", "2013-01-01"]), "nr": ["a", "b"]})
    assert _is_sorted(frame, ["at", "nr"])
    assert not _is_sorted(frame.iloc[::-1], ["at", "nr"])


def test_table_without_id_gets_its_row_number(tmp_path: Path) -> None:
    made = make_project(tmp_path, YAML.replace("id: nr\n", ""))
    assert columns.list_key_columns(made) == ["row_id"]
    assert read_source(made).set_index("row_id")["nr"].to_dict() == {0: 3, 1: 1, 2: 2}


def test_default_as_of_is_just_after_the_last_label(tmp_path: Path) -> None:
    made = resolve_cutoffs(make_project(tmp_path))
    assert (
        made.config.as_of
        == made.config.until
        == pd.Timestamp("2013-01-04 00:00:00.000001", tz="UTC")
    )
    assert read_source(made, made.config.as_of)["late"].notna().all()


def test_sample_with_time_is_spread_over_the_newest_period(tmp_path: Path) -> None:
    days = pd.date_range("2013-01-01", periods=1000, freq="h", tz="UTC")
    frame = pd.DataFrame({"at": days, "nr": range(1000)})
    given = make_project(tmp_path).with_values("test", validation={"test": "5d"})
    some = draw_sample(given, frame, 60)
    assert len(some) == 60
    assert some["nr"].is_monotonic_increasing
    assert some["nr"].iloc[-1] == 999
    assert some["at"].min() > days.max() - pd.Timedelta(days=15)
    assert some["nr"].diff().max() <= 7
    assert draw_sample(given, frame, 500)["nr"].tolist() == list(
        range(500, 1000)
    )  # the stretch has fewer
    share = draw_sample(
        make_project(tmp_path).with_values("test", validation={"test": 0.2}), frame, 50
    )
    assert len(share) == 50
    assert share["nr"].iloc[[0, -1]].tolist() == [0, 999]
    assert len(draw_sample(given, frame, 0)) == len(draw_sample(given, frame, 9999)) == 1000


def test_sample_without_time_keeps_the_class_shares(tmp_path: Path) -> None:
    rows = "".join(f"{i},{int(i % 4 == 0)}\n" for i in range(200))
    made = make_project(
        tmp_path, "name: a\nsource: t.csv\ntarget: late\ntask: binary\nid: nr\n", f"nr,late\n{rows}"
    )
    some = draw_sample(made, read_source(made), 40)
    assert len(some) == 40
    assert some["late"].sum() == 10
    assert some["nr"].is_monotonic_increasing
    assert some["nr"].max() > 100
    pd.testing.assert_frame_equal(some, draw_sample(made, read_source(made), 40))


@pytest.mark.parametrize(
    "source", ["t.csv", "t.parquet", "t.xlsx", "no*.csv", "no*.parquet", "folder"]
)
def test_missing_source_is_described(tmp_path: Path, source: str) -> None:
    with pytest.raises(KitError, match="does not exist") as error:
        read_source(make_project(tmp_path, YAML.replace("t.csv", f"'{source}'"), None))
    assert source in error.value.message
    assert error.value.hint


@pytest.mark.parametrize(
    "csv", ["nr,at,closed,gate,taxi,late\n", ""], ids=["header only", "no byte"]
)
def test_empty_source_is_described(tmp_path: Path, csv: str) -> None:
    with pytest.raises(KitError, match=r"has no rows|cannot be read") as error:
        read_source(make_project(tmp_path, csv=csv))
    assert "t.csv" in error.value.message
    assert error.value.hint


def test_source_without_a_known_row_is_described(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="no row of the source was known by 2012-01-01"):
        read_source(make_project(tmp_path), parse_utc("2012-01-01T00:00"))


def test_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="no column 'late'"):
        read_source(make_project(tmp_path, csv=CSV.replace("late", "latte")))


def test_time_column_without_timestamps_is_described(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="'at' does not hold timestamps: 'soon'"):
        read_source(
            make_project(
                tmp_path,
                csv="nr,at,closed,gate,taxi,late\n1,soon,2013-01-01,A,1,0\n2,later,2013-01-01,A,1,0\n",
            )
        )


def test_repeated_hour_is_read_as_the_later_one() -> None:
    read = timestamps.parse_timestamps(pd.Series(["2013-11-03 01:30"]), "at", "America/New_York")
    assert str(read[0]) == "2013-11-03 06:30:00+00:00"  # standard time, five hours behind


def test_skipped_hour_moves_forward() -> None:
    read = timestamps.parse_timestamps(pd.Series(["2013-03-10 02:30"]), "at", "America/New_York")
    assert str(read[0]) == "2013-03-10 07:00:00+00:00"


def test_timestamps_with_a_zone_are_converted_from_it() -> None:
    read = timestamps.parse_timestamps(
        pd.Series(["2013-07-01T00:00+02:00"]), "at", "America/New_York"
    )
    assert str(read[0]) == "2013-06-30 22:00:00+00:00"


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet", "xlsx"])
def test_every_file_format_gives_the_same_table(tmp_path: Path, ending: str) -> None:
    table = pd.read_csv(__import__("io").StringIO(CSV))
    file = tmp_path / f"u.{ending}"
    {
        "csv": table.to_csv,
        "csv.gz": table.to_csv,
        "parquet": table.to_parquet,
        "xlsx": table.to_excel,
    }[ending](file, index=False)
    made = make_project(tmp_path, YAML.replace("t.csv", file.name), None)
    assert read_source(made)["gate"].tolist() == ["A", "B", "C"]
    assert list_source_columns(made) == list(table.columns)


def test_query_url_is_read_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlalchemy

    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/t.db")
    pd.DataFrame({"nr": [1, 2], "late": [0, 1]}).to_sql("t", engine, index=False)
    engine.dispose()
    made = make_project(
        tmp_path,
        "name: a\n"
        "source: {sql: SELECT * FROM t;, url: 'sqlite:///${FOLDER}/t.db'}\n"
        "target: late\ntask: binary\nid: nr\n",
        None,
    )
    with pytest.raises(KitError, match="'FOLDER', which is not set"):
        read_source(made)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert read_source(made)["late"].tolist() == [0, 1]
    assert list_source_columns(made) == [
        "nr",
        "late",
    ]


def test_unknown_dataset_lists_the_existing_ones(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="unknown dataset 'flight'") as error:
        read_source(make_project(tmp_path, YAML.replace("t.csv", "dataset:flight"), None))
    assert "'flights'" in error.value.expected


def test_tsv_file_is_split_at_tabs(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("nr\tlate\n1\t0\n")
    made = make_project(
        tmp_path, "name: a\nsource: t.tsv\ntarget: late\ntask: binary\nid: nr\n", None
    )
    assert read_source(made).to_dict("records") == [{"nr": 1, "late": 0}]


@pytest.mark.parametrize(
    "csv", ["nr,at,late\n", "", "nr,at,late\n\n"], ids=["header only", "no byte", "a blank line"]
)
def test_empty_source_fails_the_column_check(tmp_path: Path, csv: str) -> None:
    with pytest.raises(KitError, match=r"has no rows|cannot be read"):
        check_configured_columns(make_project(tmp_path, csv=csv))


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffnr,late\n1,0\n",
        'nr,"late"\n1,0\n',
        "nr,nr,late\n1,2,0\n",
        ",late\n1,0\n",
        "nr;late\n1;0\n",
        "# a comment\nnr,late,\n1,0,\n",
    ],
    ids=["BOM", "quoted", "twice", "no name", "semicolons", "comment and trailing separator"],
)
def test_columns_are_listed_as_they_are_read(tmp_path: Path, text: str) -> None:
    made = make_project(tmp_path, csv=text)
    assert list_source_columns(made) == list(map(str, read_raw_source(made).columns))


def test_header_that_does_not_fit_the_rows_is_an_error(tmp_path: Path) -> None:
    made = make_project(tmp_path, csv="nr,late\n1,0,2\n")
    with pytest.raises(KitError, match="line 1 names 2 columns, but the rows have 3 fields"):
        list_source_columns(made)


@pytest.mark.parametrize(
    ("column", "told"), [("", "holds no timestamp at all"), ("20130101", "holds numbers: 20130101")]
)
def test_time_column_of_another_kind_is_described(tmp_path: Path, column: str, told: str) -> None:
    made = make_project(
        tmp_path, csv=f"nr,at,closed,gate,taxi,late\n1,{column},,A,1,0\n2,{column},,B,1,0\n"
    )
    with pytest.raises(RunFailedError, match=told) as error:
        resolve_cutoffs(made)
    assert "'at'" in error.value.message
    assert error.value.hint


def test_future_row_does_not_determine_the_default_as_of(tmp_path: Path) -> None:
    made = make_project(tmp_path, csv=CSV + "4,2913-01-04 00:00,2013-01-04 01:00,D,40,1\n")
    as_of = resolve_cutoffs(made).config.as_of
    assert as_of is not None
    assert str(as_of)[:16] == "2013-01-04 00:00"


def test_future_row_is_not_among_the_rows_of_the_source(tmp_path: Path) -> None:
    made = make_project(tmp_path, csv=CSV + "4,2913-01-04 00:00,2013-01-04 01:00,D,40,1\n")
    assert sorted(read_source(made)["nr"]) == [1, 2, 3]
    report = read_known_table(made).report
    assert (report.rows_in_file, report.rows_kept, report.rejected_count) == (4, 3, 1)
    assert "2913-01-04 00:00 UTC is later than the time of reading" in report.rejected[0].reason
    assert report.rejected[0].text.startswith("4, 2913-01-04")
    assert "1 row was rejected: at" in describe_rejected_rows(report)


def test_future_row_is_quarantined_by_the_contract_check(tmp_path: Path) -> None:
    made = make_project(
        tmp_path,
        YAML + "contract: {max_quarantined_share: 0.5}\n",
        csv=CSV + "4,2913-01-04 00:00,2013-01-04 01:00,D,40,1\n",
    )
    table = read_known_table(made)
    report, accepted, quarantined = check_source_rows(made, table.frame, table.report)
    assert (report.good_rows, report.quarantined_rows) == (3, 1)
    assert len(accepted) == 3
    assert "clock_skew (1d)" in quarantined["quarantine_reason"].iloc[0]


def test_future_row_is_used_when_its_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = datetime.now(UTC) + timedelta(days=5)
    csv = CSV + f"4,{soon:%Y-%m-%d %H:%M},,D,40,1\n"
    history = SourceHistory(make_project(tmp_path, csv=csv))
    later = soon + timedelta(days=1)
    assert history.read_until(later)["nr"].tolist() == [1, 2, 3]
    assert "is later than the time of reading" in history.take_rejected_rows()
    monkeypatch.setattr(source_times, "find_latest_time", lambda clock_skew: later)
    assert history.read_until(later)["nr"].tolist() == [1, 2, 3, 4]
    assert history.read_until(soon - timedelta(days=1))["nr"].tolist() == [1, 2, 3]
    assert history.take_rejected_rows() == ""


def test_report_as_of_a_time_says_which_rows_it_covers(tmp_path: Path) -> None:
    made = make_project(tmp_path)
    report = read_known_table(made, parse_utc("2013-01-02T12:00")).report
    assert (report.rows_in_file, report.rows_kept, report.rows_known) == (3, 3, 2)
    sentence = describe_reading(report)
    assert "2 of them were known by 2013-01-02 12:00 UTC" in sentence
    assert "all rows, later ones included" in sentence
    for known_by in (None, parse_utc("2013-02-01T00:00")):
        sentence = describe_reading(read_known_table(made, known_by).report)
        assert sentence == "All 3 rows of t.csv were read; it has 6 columns."


def test_rejected_row_counts_from_its_time_on(tmp_path: Path) -> None:
    rows = [f"{number},2013-02-{number:02d},,A,{number},1" for number in range(1, 25)]
    rows[20] = "21,2013-02-21,,A,oops,1"
    made = make_project(tmp_path, csv="nr,at,closed,gate,taxi,late\n" + "\n".join(rows) + "\n")
    counts = {}
    for day in (20, 21, 22):
        table = read_known_table(made, parse_utc(f"2013-02-{day}"))
        contract_report, _, _ = check_source_rows(made, table.frame, table.report)
        counts[day] = (table.report.rejected_count, contract_report.quarantined_rows)
    assert counts == {20: (0, 0), 21: (0, 0), 22: (1, 1)}
    report = read_known_table(made, parse_utc("2013-02-20")).report
    assert "1 row that was not read is later than 2013-02-20" in describe_reading(report)


def test_row_within_the_clock_skew_is_kept(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=12)
    csv = CSV + f"4,{soon:%Y-%m-%d %H:%M},2013-01-04 01:00,D,40,1\n"
    assert len(read_source(make_project(tmp_path, csv=csv))) == 4
    strict = make_project(tmp_path, YAML + "clock_skew: 1h\n", csv=csv)
    assert len(read_source(strict)) == 3


def test_only_future_rows_are_an_error_that_names_the_setting(tmp_path: Path) -> None:
    made = make_project(
        tmp_path, csv="nr,at,closed,gate,taxi,late\n1,2913-01-04,2913-01-04,A,1,0\n"
    )
    with pytest.raises(RunFailedError, match="2913-01-04") as error:
        resolve_cutoffs(made)
    assert "clock_skew" in error.value.hint


def test_clock_changes_are_counted_where_times_are_parsed(tmp_path: Path) -> None:
    made = make_project(tmp_path, YAML + "timezone: Europe/Berlin\n")
    rows = pd.DataFrame({"at": ["2024-10-27 02:30", "2024-03-31 02:30"], "closed": None})
    sentences = parse_time_columns(made.config, rows).sentences
    assert len(sentences) == 2
    assert "occur twice" in sentences[0]


def test_clock_changes_are_noted_in_the_report(tmp_path: Path) -> None:
    rows = "nr,at,closed,gate,taxi,late\n1,2013-11-03 01:30,2013-11-03 09:00,A,1,0\n"
    made = make_project(tmp_path, YAML + "timezone: America/New_York\n", csv=rows)
    assert "occur twice in America/New_York" in read_known_table(made).report.notes[-1]


def test_date_format_of_the_source_is_used_for_text_of_parquet_files(tmp_path: Path) -> None:
    columns = {"nr": [1, 2], "at": ["01/02/2024", "03/04/2024"], "late": [0, 1]}
    frame = pd.DataFrame(columns | {"closed": "2024-01-01", "gate": "A", "taxi": 1})
    frame.to_parquet(tmp_path / "t.parquet")
    settings = YAML.replace("t.csv", "{file: t.parquet, dates: {at: day-first}}")
    made = make_project(tmp_path, settings)
    assert read_source(made)["at"].dt.month.tolist() == [2, 4]
    made = make_project(tmp_path, YAML.replace("t.csv", "t.parquet"))
    with pytest.raises(KitError, match="two readings"):
        read_source(made)


def test_until_before_the_default_as_of_asks_for_as_of(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"until 2012-01-01 lies before as_of.*2013-01-04") as error:
        resolve_cutoffs(make_project(tmp_path, YAML + "until: 2012-01-01\n"))
    assert "set as_of" in error.value.hint


def test_report_names_files_from_the_project_folder(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    (name,) = read_known_table(project).report.files
    assert project.resolve_path(name).is_file()
    assert str(tmp_path) not in name
