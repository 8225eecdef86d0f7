"""Names of months and weekdays are those of the Unicode CLDR, as Babel has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from babel.dates import get_day_names, get_month_names

from mlops_kit.data.reading.date_names import list_month_spellings, list_weekday_spellings

LANGUAGES = "cs da de en es fi fr hu it nb nl pl pt ro ru sv tr"
MIN_NAME_BYTES = 3


def list_babel_names(
    get_names: Callable[..., Mapping[int, str]], first_number: int
) -> dict[bytes, int]:
    """Return the names that Babel has, with their numbers from 1."""
    names = {}
    for language in LANGUAGES.split():
        for width in ("wide", "abbreviated"):
            for context in ("format", "stand-alone"):
                by_number = get_names(width, context, locale=language)
                for number in by_number:
                    name = by_number[number].lower().rstrip(".")
                    if name.isalpha() and len(name.encode()) >= MIN_NAME_BYTES:
                        assert names.setdefault(name.encode(), number - first_number + 1) == (
                            number - first_number + 1
                        )
    return names


@pytest.mark.parametrize(
    ("spellings", "get_names", "first_number"),
    [(list_month_spellings, get_month_names, 1), (list_weekday_spellings, get_day_names, 0)],
)
def test_names_are_those_of_babel(spellings: Any, get_names: Any, first_number: int) -> None:
    known: dict[bytes, int] = {}
    for length, group in spellings().items():
        for spelling, number in group:
            assert len(spelling) == length
            assert known.setdefault(spelling, number) == number
    babel_names = list_babel_names(get_names, first_number)
    assert babel_names.items() <= known.items()
    in_upper_case = {name.decode().upper() for name in babel_names}
    added = {name.decode().upper() for name in known} - in_upper_case
    assert added <= {"SEPT", "TUES", "THUR", "THURS"}
