"""Errors for users: the exit code and the wording."""

from __future__ import annotations

import pytest

from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names


@pytest.mark.parametrize(
    ("error_type", "exit_code"), [(KitError, 2), (RunFailedError, 1), (WaitingForApprovalError, 3)]
)
def test_exit_code_by_kind_of_error(error_type: type[KitError], exit_code: int) -> None:
    assert error_type("message").exit_code == exit_code
    assert issubclass(error_type, KitError)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (("seed: 'x'",), "seed: 'x'"),
        (("seed: 'x'", "a number"), "seed: 'x'\n  Expected: a number"),
        (("seed: 'x'", "", "edit it"), "seed: 'x'\n  Hint: edit it"),
        (
            ("seed: 'x'", "a number", "edit it"),
            "seed: 'x'\n  Expected: a number\n  Hint: edit it",
        ),
    ],
)
def test_error_text_has_only_the_parts_given(parts: tuple[str, ...], text: str) -> None:
    error = KitError(*parts)
    assert str(error) == text
    assert error.message == parts[0]


def test_waiting_run_says_how_to_continue() -> None:
    error = WaitingForApprovalError("version 2 waits", hint="mlops approve")
    assert str(error) == "version 2 waits\n  To continue: mlops approve"


def test_suggestion_without_known_names() -> None:
    assert suggest_names("a", []) == "one of: "


def test_known_names_that_are_not_strings_are_compared_as_text() -> None:
    assert suggest_names("12", [1, 123]) == "'123' (of: 1, 123)"  # type: ignore[list-item]
