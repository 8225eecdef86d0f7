"""The errors a user meets: whose mistake it is, and how it is worded."""

from __future__ import annotations

import pytest

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names


@pytest.mark.parametrize(
    ("kind", "code"), [(KitError, 2), (RunFailedError, 1), (WaitingForApprovalError, 3)]
)
def test_the_exit_code_says_whose_turn_it_is(kind: type[KitError], code: int) -> None:
    assert kind("what").exit_code == code
    assert issubclass(kind, KitError)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("seed: 'x'",), "seed: 'x'"),
        (("seed: 'x'", "a number"), "seed: 'x'\n  expected: a number"),
        (("seed: 'x'", "", "edit it"), "seed: 'x'\n  to mend it: edit it"),
        (
            ("seed: 'x'", "a number", "edit it"),
            "seed: 'x'\n  expected: a number\n  to mend it: edit it",
        ),
    ],
)
def test_an_error_says_only_what_it_knows(parts: tuple[str, ...], text: str) -> None:
    error = KitError(*parts)
    assert str(error) == text
    assert error.message == parts[0]


def test_nothing_known_is_still_worded() -> None:
    assert suggest_names("a", []) == "one of: "


def test_names_that_are_no_text_are_compared_as_text() -> None:
    assert suggest_names("12", [1, 123]) == "'123' (of: 1, 123)"  # type: ignore[list-item]
