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
_FALLBACK_ENCODING = "latin-1"  # gives every byte a character
# Guesses that are excluded: they were tried before, or files in them are hardly found any more.
_UNLIKELY_ENCODINGS = ("ascii", "utf_8", "mac_", "cp1252", "latin_1", "cp037", "cp500", "hp_")
# Punctuation and symbols that Western text contains; others mean that the guess is wrong.
_WESTERN_SYMBOLS = set("€‚„…†•–—‘’“”«»‹›°²³§©®™£¥¢±µ·¿¡ºª´¨½¼¾×÷\xa0\xad")
_SYMBOL_IN_WORD = re.compile(r"[²³¹¼½¾£¥§©®±¢´¨](?=[^\W\d_])")
_WORD = re.compile(r"[^\W\d_]+")
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

    matches = from_bytes(relevant)
    names = [name for match in matches for name in match.could_be_from_charset]
    for name in names:
        if not name.startswith(_UNLIKELY_ENCODINGS):
            return name.replace("_", "-")
    return _FALLBACK_ENCODING


def _is_plausible_western_text(sample: bytes) -> bool:
    """Return whether text in Windows-1252 has the letters and symbols of Western languages.

    A text in another alphabet gives words of accented letters, or symbols inside words.
    """
    try:
        text = sample.decode(_WESTERN_ENCODING)
    except UnicodeDecodeError:
        return False
    for character in set(text):
        is_letter = unicodedata.category(character)[0] == "L" and character not in "ªº"
        is_control = "\x80" <= character <= "\x9f"
        is_known = character.isascii() or is_letter or character in _WESTERN_SYMBOLS
        if is_control or not is_known:
            return False
    if _SYMBOL_IN_WORD.search(text):
        return False
    accented_words = [word for word in _WORD.findall(text) if not word.isascii()]
    letters = "".join(accented_words)
    ascii_letters = sum(map(str.isascii, letters))
    return len(letters) - ascii_letters <= ascii_letters + len(accented_words) // 2
