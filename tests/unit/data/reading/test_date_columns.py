"""Dates: a column in any format is read as written, or rejected."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_kit.core.errors import KitError
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.column_types import ColumnDecision, ColumnSettings, decide_column
from mlops_kit.data.reading.date_problems import AmbiguousDates, MixedDates, build_date_error

NUMERIC_DATES = [
    order.replace("/", separator)
    for order in ("%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d")
    for separator in "-/. "
]
NAMED_DATES = [
    "%d-%b-%Y",
    "%d %b %Y",
    "%d %B %Y",
    "%d/%b/%Y",
    "%d%b%Y",
    "%d-%b-%y",
    "%d. %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%b-%d-%Y",
    "%Y-%b-%d",
    "%a, %d %b %Y",
    "%A, %B %d, %Y",
    "%a %b %d %Y",
]
TIMES = [
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S.%f",
    "T%H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    " %H:%M:%S%z",
    " %H:%M %z",
]
SPECIAL_FORMATS = [
    "%Y%m%dT%H%M%S",
    "%Y%m%d %H:%M:%S",
    "%a %b %d %H:%M:%S %Y",
    "%d/%b/%Y:%H:%M:%S %z",
    "%H:%M %d.%m.%Y",
    "%H:%M:%S, %d/%m/%Y",
    "%Y-%m-%dT%H:%M:%S.%f%z",
]
FORMATS_BY_DATE = {
    date: [date + time for time in TIMES] for date in NUMERIC_DATES + NAMED_DATES
} | {date: [date] for date in SPECIAL_FORMATS}
ALL_FORMATS = [date_format for formats in FORMATS_BY_DATE.values() for date_format in formats]


def decide(texts: list[str | None], **options: object) -> ColumnDecision:
    column = pa.chunked_array([pa.array(texts, pa.string())])
    return decide_column("created", column, ColumnSettings(**options))


def draw_timestamps(count: int, seed: int, has_offset: bool) -> list[datetime]:
    generator = random.Random(seed)
    zone = (
        timezone(timedelta(minutes=generator.choice([-330, 0, 60, 120, 345])))
        if has_offset
        else None
    )
    start = datetime(1995, 1, 1, tzinfo=zone)
    return [
        start + timedelta(microseconds=generator.randrange(30 * 365 * 86_400_000_000))
        for _ in range(count)
    ]


def parse_by_python(texts: list[str], date_format: str) -> pd.Series:
    parsed = [datetime.strptime(text, date_format) for text in texts]
    if "%z" in date_format:
        return pd.Series([value.astimezone(UTC) for value in parsed], dtype="datetime64[us, UTC]")
    return pd.Series(parsed, dtype="datetime64[us]")


def assert_equal_values(read: pd.Series, expected: pd.Series) -> None:
    assert read.dtype == expected.dtype
    assert np.array_equal(read.to_numpy(), expected.to_numpy())


@pytest.mark.parametrize("date", FORMATS_BY_DATE)
def test_column_of_many_days_is_read_as_python_reads_it(date: str) -> None:
    for date_format in FORMATS_BY_DATE[date]:
        timestamps = draw_timestamps(150, seed=1, has_offset="%z" in date_format)
        texts = [timestamp.strftime(date_format) for timestamp in timestamps]
        decision = decide(texts)
        assert decision.reading.type == ColumnKind.TIMESTAMP, date_format
        assert_equal_values(decision.values, parse_by_python(texts, date_format))


def test_at_least_forty_dates_are_known() -> None:
    assert len(FORMATS_BY_DATE) >= 40


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    date_format=st.sampled_from(ALL_FORMATS),
    days=st.lists(
        st.datetimes(datetime(1970, 1, 1), datetime(2068, 12, 31)), min_size=1, max_size=8
    ),
)
def test_column_in_any_format_is_read_as_written_or_rejected(
    date_format: str, days: list[datetime]
) -> None:
    if "%z" in date_format:
        days = [day.replace(tzinfo=UTC) for day in days]
    texts = [day.strftime(date_format) for day in days]
    decision = decide(texts)
    if decision.reading.type == ColumnKind.TIMESTAMP:
        assert not decision.unreadable
        assert_equal_values(decision.values, parse_by_python(texts, date_format))
    else:
        assert decision.values.tolist() == texts
        assert isinstance(decision.date_problem, AmbiguousDates)


@pytest.mark.parametrize("date", FORMATS_BY_DATE)
def test_format_that_is_set_is_obeyed(date: str) -> None:
    for date_format in FORMATS_BY_DATE[date]:
        timestamps = draw_timestamps(5, seed=2, has_offset="%z" in date_format)
        texts = [timestamp.strftime(date_format) for timestamp in timestamps]
        decision = decide(texts, date_format=date_format)
        assert_equal_values(decision.values, parse_by_python(texts, date_format))


@pytest.mark.parametrize("separator", ["/", ".", "-", " "])
def test_one_day_after_the_twelfth_decides_for_all(separator: str) -> None:
    texts = [f"0{day}/03/2024".replace("/", separator) for day in range(1, 9)]
    decision = decide([*texts, "27/02/2024".replace("/", separator)])
    assert decision.values.iloc[0] == pd.Timestamp(2024, 3, 1)
    assert any("decide" in note for note in decision.reading.notes)


def test_ambiguous_dates_show_both_readings_and_the_setting() -> None:
    decision = decide(["05/03/2024 10:15", "05/05/2024 10:15", "07/04/2024 10:15"])
    problem = decision.date_problem
    assert isinstance(problem, AmbiguousDates)
    assert [reading.timestamp for reading in problem.readings] == [
        "2024-03-05 10:15",
        "2024-05-03 10:15",
    ]
    message = str(build_date_error(problem))
    assert "dates: {created: '%d/%m/%Y %H:%M'}" in message
    assert "'05/03/2024 10:15' is 2024-03-05 10:15 (day, month, year)" in message


def test_dates_that_read_the_same_in_both_orders_are_not_ambiguous() -> None:
    decision = decide(["05/05/2024", "06/06/2024"])
    assert decision.reading.type == ColumnKind.TIMESTAMP


@pytest.mark.parametrize(
    ("order", "expected"), [("day-first", "2024-02-01"), ("month-first", "2024-01-02")]
)
def test_order_that_is_set_decides(order: str, expected: str) -> None:
    decision = decide(["01/02/2024", "03/04/2024"], date_format=order)
    assert str(decision.values.iloc[0].date()) == expected


def test_order_that_is_set_leaves_other_dates_alone() -> None:
    decision = decide(["2024-02-01", "2024-04-03"], date_format="day-first")
    assert str(decision.values.iloc[0].date()) == "2024-02-01"


def test_offsets_across_a_clock_change_are_read_to_utc() -> None:
    decision = decide(["2024-03-31T01:30:00+01:00", "2024-03-31T03:30:00+02:00"])
    expected = [
        pd.Timestamp("2024-03-31 00:30", tz="UTC"),
        pd.Timestamp("2024-03-31 01:30", tz="UTC"),
    ]
    assert decision.values.tolist() == expected


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-01-05 10:00:00+01:00", "2024-01-06 10:00:00"] * 5,
        ["2024-01-05 10:00:00", "27/01/2024 10:00"] * 5,
        ["27/01/2024 10:00", "01/27/2024 10:00"] * 5,
        ["27/01/2024 10:00", "27/01/2024 10:00 PM"] * 5,
        ["2024-01-05T10:00:00Z", "2024-01-05"] * 5,
        ["5 Jan 2024", "2024-01-05"] * 5,
    ],
)
def test_two_formats_in_a_column_are_a_problem(texts: list[str]) -> None:
    decision = decide(texts)
    assert decision.values.tolist() == texts
    assert isinstance(decision.date_problem, MixedDates)
    assert len(decision.date_problem.readings) == 2
    assert "several formats" in str(build_date_error(decision.date_problem))


def test_few_values_in_another_format_are_unreadable() -> None:
    texts = [f"{day:02d}.03.2024" for day in range(1, 31)] * 10
    texts[7] = "2024-03-08"
    texts[9] = "31.04.2024"
    decision = decide(texts)
    assert [(value.row, value.value) for value in decision.unreadable] == [
        (7, "2024-03-08"),
        (9, "31.04.2024"),
    ]


@pytest.mark.parametrize(
    "texts",
    [
        ["10:15", "11:30"],
        ["10:15:30", "11:30:00"],
        ["2024-01", "2024-02"],
        ["1.2.3", "1.10.2"],
        ["2024/25", "2023/24"],
        ["30/02/2024", "31/04/2024"],
        ["2024-01-05 25:00", "2024-01-06 24:00"],
        ["2024-01-05 10:60", "2024-01-06 10:61"],
        ["2024-13-01", "2024-14-01"],
        ["Mon, 06 Feb 2024", "Tue, 07 Feb 2024"],
        ["05 Abc 2024", "06 Xyz 2024"],
        ["2024-01-05 10:00 CET", "2024-01-06 10:00 CEST"],
        ["13/05/2024 13:05 PM", "14/05/2024 0:05 AM"],
        ["123-45-6789", "987-65-4321"],
        ["AB-12-2024", "AC-13-2024"],
    ],
)
def test_what_is_not_a_date_stays_text(texts: list[str]) -> None:
    decision = decide(texts)
    assert decision.reading.type == ColumnKind.TEXT
    assert decision.values.tolist() == texts


def test_compact_dates_are_whole_numbers_unless_a_format_is_set() -> None:
    assert decide(["20240131", "20240201"]).reading.type == ColumnKind.INTEGER
    decision = decide(["20240131", "20240201"], date_format="%Y%m%d")
    assert decision.values.tolist() == [pd.Timestamp(2024, 1, 31), pd.Timestamp(2024, 2, 1)]


@pytest.mark.parametrize("zone", ["Z", " Z", " UTC", " GMT", "UTC", "+00", "+0000", " +00:00"])
def test_every_notation_of_utc_is_read(zone: str) -> None:
    decision = decide([f"2024-01-31 10:00:00{zone}", f"2024-02-01 11:30:00{zone}"])
    assert decision.values.iloc[1] == pd.Timestamp("2024-02-01 11:30", tz="UTC")


def test_format_with_a_literal_z_is_utc() -> None:
    decision = decide(["2024-01-31T10:00:00Z"], date_format="%Y-%m-%dT%H:%M:%SZ")
    assert decision.values.iloc[0] == pd.Timestamp("2024-01-31 10:00", tz="UTC")


def test_format_with_literal_letters_needs_them() -> None:
    date_format = "week of %d.%m.%Y"
    decision = decide(
        ["week of 05.02.2024"] * 200 + ["year of 05.02.2024"], date_format=date_format
    )
    assert decision.values.iloc[0] == pd.Timestamp(2024, 2, 5)
    assert [value.row for value in decision.unreadable] == [200]


@pytest.mark.parametrize("date_format", ["%Y-%j", "%d/%m", "%Q", "year-first"])
def test_unusable_format_is_an_error(date_format: str) -> None:
    with pytest.raises(KitError, match="date format"):
        decide(["2024-01-05"], date_format=date_format)


def test_format_for_all_columns_leaves_numbers_alone() -> None:
    assert decide(["1", "2"], date_format="%d/%m/%Y").reading.type == ColumnKind.INTEGER
    assert decide(["true", "false"], date_format="%d/%m/%Y").reading.type == ColumnKind.BOOLEAN


def test_too_many_values_in_another_format_leave_text_with_a_note() -> None:
    texts = ["27/02/2024"] * 80 + ["soon"] * 20
    for date_format in (None, "%d/%m/%Y"):
        decision = decide(texts, date_format=date_format)
        assert decision.values.tolist() == texts
        assert "20 values do not have the format %d/%m/%Y" in decision.reading.notes[0]


def test_dates_without_time_of_day_are_midnight_and_reported() -> None:
    decision = decide(["27/02/2024 10:15", "28/02/2024"])
    assert decision.values.iloc[1] == pd.Timestamp(2024, 2, 28)
    assert decision.reading.conversions == ["1 value has no time of day, which is read as midnight"]


def test_fraction_may_be_absent() -> None:
    decision = decide(["2024-01-05T10:00:00.5", "2024-01-05T10:00:01"])
    assert decision.values.iloc[0] == pd.Timestamp("2024-01-05 10:00:00.5")
    assert decision.reading.format == "%Y-%m-%dT%H:%M:%S.%f"


def test_more_decimals_than_microseconds_are_reported() -> None:
    decision = decide(["2024-01-05 10:00:00.123456789", "2024-01-05 10:00:00.123456000"])
    assert decision.values.iloc[0] == pd.Timestamp("2024-01-05 10:00:00.123456")
    assert "1 value has more than six decimals" in decision.reading.conversions[0]


def test_surrounding_spaces_are_removed_and_counted() -> None:
    decision = decide([" 2024-01-05", "2024-01-06 "])
    assert decision.values.iloc[0] == pd.Timestamp(2024, 1, 5)
    assert decision.reading.conversions == ["2 values had spaces around them, which were removed"]


def test_missing_words_beside_dates_are_missing() -> None:
    decision = decide(["27/02/2024", "n/a", "", "-"])
    assert decision.reading.missing_words == {"": 1, "n/a": 1, "-": 1}
    assert decision.values.isna().tolist() == [False, True, True, True]


@pytest.mark.parametrize("sentinel", ["1900-01-01", "9999-12-31", "1970-01-01", "0001-01-01"])
def test_repeated_date_far_from_the_others_is_suspected(sentinel: str) -> None:
    texts = [f"2020-03-{day:02d}" for day in range(1, 29)] + [sentinel] * 4
    decision = decide(texts)
    assert decision.reading.sentinels == [f"{sentinel} in 4 rows"]
    assert decision.values.notna().all()


def test_improbable_years_are_noted() -> None:
    decision = decide(["2024-01-05", "0204-01-05"])
    assert decision.reading.notes == ["1 value is before 1900 or after 2100, such as '0204-01-05'"]


def test_two_digit_years_of_ordinary_dates_are_at_the_end() -> None:
    start = datetime(2024, 1, 1)
    texts = [(start + timedelta(days=day)).strftime("%d.%m.%y") for day in range(300)]
    decision = decide(texts)
    assert decision.values.iloc[-1] == pd.Timestamp(start + timedelta(days=299))
    assert any("same few days" in note for note in decision.reading.notes)


def test_two_digit_years_that_leave_three_readings_are_ambiguous() -> None:
    decision = decide(["01/02/03", "02/03/04"])
    assert isinstance(decision.date_problem, AmbiguousDates)
    assert len(decision.date_problem.readings) == 3


def test_long_column_is_read_in_blocks() -> None:
    start = datetime(2020, 1, 1)
    texts = [
        (start + timedelta(minutes=7 * row)).strftime("%d/%m/%Y %H:%M") for row in range(70_000)
    ]
    decision = decide(texts)
    assert_equal_values(decision.values, parse_by_python(texts, "%d/%m/%Y %H:%M"))


@pytest.mark.parametrize(
    ("texts", "date_format"),
    [
        (["27. Februar 2024", "3. März 2024"], "%d. %B %Y"),
        (["27-févr.-2024", "03-mars-2024"], "%d-%B-%Y"),
        (["27 de febrero de 2024", "3 DE MARZO DE 2024"], "%d de %B de %Y"),
        (["27 fevereiro 2024", "3 março 2024"], "%d %B %Y"),
        (["martedì, 27 febbraio 2024", "domenica, 3 marzo 2024"], "%A, %d %B %Y"),
        (["27 февраля 2024", "3 МАРТА 2024"], "%d %B %Y"),
        (["2024. február 27.", "2024. március 3."], "%Y. %B %d."),
        (["2024年2月27日", "2024年3月3日"], "%Y年%m月%d日"),
    ],
)
def test_names_of_months_may_be_in_another_language(texts: list[str], date_format: str) -> None:
    decision = decide(texts)
    assert decision.values.tolist() == [pd.Timestamp("2024-02-27"), pd.Timestamp("2024-03-03")]
    assert decision.reading.format == date_format
    set_by_hand = decide(texts, date_format=date_format)
    assert set_by_hand.values.tolist() == decision.values.tolist()


@pytest.mark.parametrize(
    "texts",
    [
        ["27 Smarch 2024", "3 Smarch 2024"],
        ["27 du février du 2024", "3 du mars du 2024"],
        ["lundi, 27 février 2024", "dimanche, 3 mars 2024"],
    ],
)
def test_unknown_month_wrong_word_or_wrong_weekday_is_not_a_date(texts: list[str]) -> None:
    decision = decide(texts)
    assert decision.values.tolist() == texts
