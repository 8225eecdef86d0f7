"""The encoding of a text file: byte order mark, UTF-8 if all bytes agree, else a guess.

Only files that are not UTF-8 load ``charset-normalizer``, which guesses from the characters.
"""

from __future__ import annotations

import codecs
import re
import unicodedata

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Of a text in UTF-16 that is mostly ASCII, every second byte is zero.
_MIN_ZERO_SHARE = 0.7
_MIN_UTF16_BYTES = 8
_WESTERN_ENCODING = "cp1252"
# Punctuation and symbols that Western text contains; others mean that the guess is wrong.
_WESTERN_SYMBOLS = set("€‚„…†•–—‘’“”«»‹›°²³§©®™£¥¢±µ·¿¡ºª´¨½¼¾×÷\xa0\xad")
_LINE_WITH_OTHER_BYTES = re.compile(rb"[^\r\n]*[\x80-\xff][^\r\n]*")
_MAX_GUESSED_BYTES = 100_000


def find_byte_order_mark(sample: bytes) -> str:
    """Return the encoding that a byte order mark states; empty if there is none."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    return ""


def detect_encoding(sample: bytes, is_complete: bool) -> str:
    """Detect the encoding of the beginning of a file.

    Parameters
    ----------
    sample : bytes
        The beginning of the file.
    is_complete : bool
        Whether it is the whole file; otherwise a character may be cut off at its end.

    Returns
    -------
    str
        The name of a Python codec.
    """
    marked = find_byte_order_mark(sample)
    if marked:
        return marked
    unmarked = _detect_unmarked_utf16(sample)
    if unmarked:
        return unmarked
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(sample, final=is_complete)
    except UnicodeDecodeError:
        return guess_encoding(sample)
    return "utf-8"


def _detect_unmarked_utf16(sample: bytes) -> str:
    """Return UTF-16 with its byte order if every second byte is zero; else an empty text."""
    if len(sample) < _MIN_UTF16_BYTES:
        return ""
    half = len(sample) // 2
    if sample[1::2].count(0) > _MIN_ZERO_SHARE * half:
        return "utf-16-le"
    if sample[0::2].count(0) > _MIN_ZERO_SHARE * half:
        return "utf-16-be"
    return ""


def guess_encoding(sample: bytes) -> str:
    """Guess the encoding of text that is not UTF-8.

    Windows-1252 is preferred where it gives plausible text, since other encodings of Western
    languages differ from it in few characters, and short texts do not tell them apart.
    """
    relevant = b"\n".join(_LINE_WITH_OTHER_BYTES.findall(sample))[:_MAX_GUESSED_BYTES]
    if _is_plausible_western_text(relevant):
        return _WESTERN_ENCODING
    from charset_normalizer import from_bytes

    best = from_bytes(relevant).best()
    if best is None or best.encoding in {"ascii", "utf_8"}:
        return "latin-1"
    return str(best.encoding).replace("_", "-")


def _is_plausible_western_text(sample: bytes) -> bool:
    """Return whether text in Windows-1252 has the letters and symbols of Western languages.

    A text in another alphabet gives words of accented letters only, or symbols inside words.
    """
    try:
        text = sample.decode(_WESTERN_ENCODING)
    except UnicodeDecodeError:
        return False
    other_letters = 0
    ascii_letters = 0
    for position, character in enumerate(text):
        if character.isascii():
            ascii_letters += character.isalpha()
            continue
        if unicodedata.category(character)[0] == "L" and character not in "ªº":
            other_letters += 1
            continue
        if character not in _WESTERN_SYMBOLS:
            return False
        neighbors = text[max(0, position - 1) : position + 2].replace(character, "")
        is_inside_word = len(neighbors) == 2 and neighbors.isalpha()
        if is_inside_word and character not in "’·\xad":
            return False
    return other_letters <= ascii_letters
