"""Errors for users: what is wrong (with the value), what was expected, and what to do about it.

Exit codes: 2 for a mistake in the input, 1 for a failed run or check, 3 for a run that waits for
an approval.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MIN_NAME_SIMILARITY = 0.5  # of difflib: from 0 (nothing in common) to 1 (equal)


class KitError(Exception):
    """A mistake in the input, worded so that it can be fixed without reading the code.

    Parameters
    ----------
    message : str
        What is wrong, with the offending value.
    expected : str
        What was expected instead.
    hint : str
        The command, call or edit that fixes it.
    """

    exit_code = 2
    label = "error"  # how a message of the command line begins
    hint_label = "Hint"

    def __init__(
        self,
        message: str,
        expected: str = "",
        hint: str = "",
    ) -> None:
        self.message = message
        self.expected = expected
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.message]
        if self.expected:
            lines.append(f"Expected: {self.expected}")
        if self.hint:
            lines.append(f"{self.hint_label}: {self.hint}")
        return "\n  ".join(lines)


class RunFailedError(KitError):
    """A run or a check failed because of the data or the code, not because of the command line."""

    exit_code = 1


class NotAllowedError(KitError):
    """The person lacks the permission; another person may have it."""


class WaitingForApprovalError(KitError):
    """Nothing failed, but the run continues only after a person has decided."""

    exit_code = 3
    label = "waiting"
    hint_label = "To continue"


def suggest_names(name: str, known_names: Iterable[str]) -> str:
    """Describe the valid names for an error message, the most similar one first.

    >>> suggest_names("trian", ["train", "review"])
    "'train' (of: review, train)"
    >>> suggest_names("zzz", ["train", "review"])
    'one of: review, train'
    """
    names = sorted(str(known_name) for known_name in known_names)
    listed_names = ", ".join(names)
    close_names = get_close_matches(str(name), names, n=1, cutoff=_MIN_NAME_SIMILARITY)
    if not close_names:
        return f"one of: {listed_names}"
    return f"{close_names[0]!r} (of: {listed_names})"
