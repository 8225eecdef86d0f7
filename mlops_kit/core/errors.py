"""The errors a user meets: what was wrong (with the value), what was expected, what to do.

Exit codes: 2 for the user's mistake, 1 for a failed run or check, 3 for waiting on a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class KitError(Exception):
    """A mistake of the user's, worded so that it can be mended without reading code.

    Parameters
    ----------
    message : str
        What was wrong, with the offending value.
    expected : str
        What would have been right.
    hint : str
        The command, call or edit that mends it.
    """

    exit_code = 2
    label = "error"  # how the command line begins
    hint_label = "to mend it"  # how the hint is introduced

    def __init__(self, message: str, expected: str = "", hint: str = "") -> None:
        self.message, self.expected, self.hint = message, expected, hint
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.message]
        if self.expected:
            parts.append(f"expected: {self.expected}")
        if self.hint:
            parts.append(f"{self.hint_label}: {self.hint}")
        return "\n  ".join(parts)


class RunFailedError(KitError):
    """A run or a check failed: the data or the code, not the command line."""

    exit_code = 1


class NotAllowedError(KitError):
    """The person may not do this; another one may."""


class WaitingForApprovalError(KitError):
    """Nothing failed; a person has to decide before it goes on."""

    exit_code = 3
    label = "waiting"
    hint_label = "to go on"


def suggest_names(name: str, known: Iterable[str]) -> str:
    """Word the choice among known names, the nearest first.

    >>> nearest("trian", ["train", "review"])
    "'train' (of: review, train)"
    >>> nearest("zzz", ["train", "review"])
    'one of: review, train'
    """
    names = sorted(str(k) for k in known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.5)
    listed = ", ".join(names)
    return f"{close[0]!r} (of: {listed})" if close else f"one of: {listed}"
