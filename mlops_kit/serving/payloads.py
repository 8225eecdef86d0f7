"""Parsing of request bodies: JSON objects with a list of rows or labels.

The errors list everything that is wrong with a request at once, by row and field.
"""

from __future__ import annotations

import json
import re
from itertools import repeat
from typing import Any, NoReturn

import orjson

from mlops_kit.data.contract_rules import ViolationCode
from mlops_kit.serving.request_fields import (
    ID_KIND,
    RequestField,
    RequestProblem,
    create_problem,
)
from mlops_kit.serving.requests import JsonObject, RequestRefusedError

_MAX_LISTED_PROBLEMS = 1000
_MAX_NESTING_LEVELS = 100
_MAX_QUOTED_CHARACTERS = 100  # of a key in an error message
_KEY_PATTERN = re.compile(rb'"\s*:')  # the end of a key; it may also occur within a text
_REQUEST_ID_FIELD = RequestField("request_id", ID_KIND, required=True)
_IDEMPOTENCY_KEY_FIELD = RequestField("Idempotency-Key", ID_KIND, required=True)


def parse_payload(
    body: bytes,
    list_field: str,
    other_fields: frozenset[str],
    max_items: int,
) -> JsonObject:
    """Parse a request's body.

    Parameters
    ----------
    body : bytes
        The body.
    list_field : str
        The required field, a list of rows or labels.
    other_fields : frozenset of str
        The optional fields.
    max_items : int
        Largest length of the list.

    Raises
    ------
    RequestRefusedError
        If the body is not JSON, repeats a key or is nested too deeply (400), is not such an object
        (422) or is too long (413).
    """
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestRefusedError(400, f"the body is not valid JSON: {error}") from error
    _refuse_repeated_keys(body, payload)
    if not isinstance(payload, dict):
        expected = f'an object {{"{list_field}": [...]}}'
        _refuse_body(
            create_problem(
                None,
                "",
                ViolationCode.TYPE,
                payload,
                expected,
            )
        )
    _refuse_unknown_fields(payload, [list_field, *other_fields])
    items = payload.get(list_field)
    if not isinstance(items, list) or not items:
        code = ViolationCode.TYPE if list_field in payload else ViolationCode.MISSING
        _refuse_body(
            create_problem(
                None,
                list_field,
                code,
                items,
                "a list with at least one item",
            )
        )
    if len(items) > max_items:
        raise RequestRefusedError(
            413, f"{len(items):,} {list_field} in one request; expected at most {max_items:,}"
        )
    return payload


def _refuse_repeated_keys(body: bytes, payload: Any) -> None:
    """Raise an error if an object has a key twice, of which the parser keeps the last.

    What looks like a key is counted first: in a body without repeated keys there are as many as the
    parser has found. Only where there are more, in a text or repeated, every object is examined.
    """
    if len(_KEY_PATTERN.findall(body)) == _count_keys(payload):
        return
    json.loads(body, object_pairs_hook=_make_object)


def _count_keys(value: Any, depth: int = 0) -> int:
    """Count the keys of all objects in a parsed value.

    Raises
    ------
    RequestRefusedError
        If objects and lists are nested more than ``_MAX_NESTING_LEVELS`` deep.
    """
    if depth > _MAX_NESTING_LEVELS:
        raise RequestRefusedError(
            400,
            f"the body has objects and lists in more than {_MAX_NESTING_LEVELS} levels; "
            "expected a list of flat objects",
        )
    if isinstance(value, dict):
        return len(value) + sum(map(_count_keys, value.values(), repeat(depth + 1)))
    if isinstance(value, list):
        return sum(map(_count_keys, value, repeat(depth + 1)))
    return 0


def _make_object(pairs: list[tuple[str, Any]]) -> JsonObject:
    """Make an object of its keys and values, each key once."""
    result: JsonObject = {}
    for key, value in pairs:
        if key in result:
            raise RequestRefusedError(
                400, f"the body repeats the key {key[:_MAX_QUOTED_CHARACTERS]!r} in an object"
            )
        result[key] = value
    return result


def _refuse_unknown_fields(payload: JsonObject, known_fields: list[str]) -> None:
    """Raise an error that lists the unknown fields of a body, if there are any."""
    expected = f"one of {', '.join(known_fields)}"
    problems = [
        create_problem(
            None,
            name,
            ViolationCode.UNKNOWN_FIELD,
            value,
            expected,
        )
        for name, value in payload.items()
        if name not in known_fields
    ]
    if problems:
        _refuse_body(*problems)


def resolve_request_id(payload: JsonObject, idempotency_key: str | None) -> str:
    """Return the client's id of a request: from the body, else the header ``Idempotency-Key``.

    Returns an empty string if the client gave none.

    Raises
    ------
    RequestRefusedError
        If an id has a character that is not allowed, or is too long.
    """
    request_id = payload.get("request_id")
    _check_id_field(_REQUEST_ID_FIELD, request_id)
    _check_id_field(_IDEMPOTENCY_KEY_FIELD, idempotency_key)
    return request_id or idempotency_key or ""


def _check_id_field(field: RequestField, value: Any) -> None:
    """Raise an error if an id was given that is not valid."""
    if value is None:
        return
    code = field.find_fault(value)
    if code is not None:
        _refuse_body(
            create_problem(
                None,
                field.name,
                code,
                value,
                field.expected,
            )
        )


def _refuse_body(*problems: RequestProblem) -> NoReturn:
    """Raise an error about the body as a whole."""
    summary = f"{_format_count(len(problems), 'problem')} with the body"
    raise _create_refusal(summary, list(problems))


def refuse_invalid_items(problems: list[RequestProblem], item_name: str) -> None:
    """Raise an error that lists the problems of rows or labels, if there are any.

    Raises
    ------
    RequestRefusedError
        If there are problems (422).
    """
    if not problems:
        return
    item_count = len({problem.row for problem in problems})
    items = _format_count(item_count, item_name)
    summary = f"{_format_count(len(problems), 'problem')} in {items}"
    raise _create_refusal(summary, problems)


def _format_count(count: int, noun: str) -> str:
    """Return a number of things, such as ``2 problems``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _create_refusal(summary: str, problems: list[RequestProblem]) -> RequestRefusedError:
    """Return the error of an invalid request; beyond a limit problems are only counted."""
    details: JsonObject = {"problems": problems[:_MAX_LISTED_PROBLEMS]}
    unlisted_count = len(problems) - _MAX_LISTED_PROBLEMS
    if unlisted_count > 0:
        details["more"] = unlisted_count
    return RequestRefusedError(422, summary, **details)
