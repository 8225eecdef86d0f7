"""Splitting one record of a delimited text file into its fields, strictly.

A quote opens a field only at its beginning, and closes it only before a separator or at the end.
What does not follow this rule is not repaired: the record is reported with the reason.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

UNQUOTED_SEPARATOR = "\x1f"  # stands for the separator of a file with one column


class RecordProblem(StrEnum):
    """Why a text is not a record."""

    OPEN_QUOTE = "a quote is opened and not closed"
    TEXT_AFTER_QUOTE = "text follows a closing quote"


class ParsedRecord(NamedTuple):
    """The fields of a record, or the problem.

    ``is_rewritten`` says that the fields differ from what a plain parser would read, because of
    spaces around quotes or of escape characters.
    """

    fields: list[str]
    problem: RecordProblem | None = None
    is_rewritten: bool = False


class LineParser:
    """A parser for the records of one dialect.

    Parameters
    ----------
    separator : str
        The character between fields; empty for a file with one column.
    quote : str
        The character around fields that contain separators or line ends; empty: none.
    escape : str
        The character before a quote inside a quoted field; empty: quotes are doubled.

    Examples
    --------
    >>> LineParser(";").parse('1;"a;b";"2"" pipe"').fields
    ['1', 'a;b', '2" pipe']
    >>> str(LineParser(";").parse('1;"a;b').problem)
    'a quote is opened and not closed'
    """

    def __init__(
        self,
        separator: str,
        quote: str = '"',
        escape: str = "",
    ) -> None:
        self.separator = separator or UNQUOTED_SEPARATOR
        self.quote = quote
        self.escape = escape
        if not quote:
            return
        quote_pattern = re.escape(quote)
        separator_pattern = re.escape(self.separator)
        content = rf"(?:[^{quote_pattern}]|{quote_pattern}{quote_pattern})*+"
        if escape:
            escape_pattern = re.escape(escape)
            content = (
                rf"(?:[^{quote_pattern}{escape_pattern}]|{escape_pattern}.|"
                rf"{quote_pattern}{quote_pattern})*+"
            )
        self._field = re.compile(
            rf"(?:( *){quote_pattern}({content}){quote_pattern}( *)"
            rf"|((?! *{quote_pattern})[^{separator_pattern}]*))(?={separator_pattern}|\Z)",
            re.DOTALL,
        )
        self._open_field = re.compile(rf" *{quote_pattern}{content}\Z", re.DOTALL)

    def parse(self, text: str) -> ParsedRecord:
        """Split the text of a record, without its line end."""
        if not self.quote or self.quote not in text:
            return ParsedRecord(text.split(self.separator))
        fields: list[str] = []
        is_rewritten = False
        position = 0
        while True:
            match = self._field.match(text, position)
            if match is None:
                is_open = self._open_field.match(text, position) is not None
                problem = RecordProblem.TEXT_AFTER_QUOTE
                if is_open:
                    problem = RecordProblem.OPEN_QUOTE
                return ParsedRecord(fields, problem)
            before, quoted, after, plain = match.groups()
            if quoted is None:
                fields.append(plain)
            else:
                value = self._unescape(quoted)
                is_rewritten |= bool(before or after) or bool(self.escape)
                fields.append(value)
            position = match.end() + 1
            if position > len(text):
                return ParsedRecord(fields, None, is_rewritten)

    def _unescape(self, quoted: str) -> str:
        """Return the value of a quoted field."""
        value = quoted.replace(self.quote * 2, self.quote)
        if self.escape and self.escape in value:
            escape = re.escape(self.escape)
            value = re.sub(rf"{escape}([{escape}{re.escape(self.quote)}])", r"\1", value)
        return value
