"""Who may ask: loopback without a token, others only with it; no page of another site, no other host's name."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mlops_kit.cli import application
from mlops_kit.core.errors import KitError
from mlops_kit.project import loader
from mlops_kit.project.config.services import ServeConfig
from mlops_kit.serving import auth

TOKEN = "a-token-of-some-length"


def asked(
    expected: bytes | None, path: str = "/predict", **headers: str
) -> tuple[int, dict[bytes, bytes]]:
    """The status of a request with some headers, and the answer's; 200 comes from behind."""
    sent: list[Any] = []

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": "localhost:8000", **headers}
    scope = {
        "type": "http",
        "path": path,
        "headers": [(k.encode(), v.encode()) for k, v in given.items()],
    }
    asyncio.run(auth.AuthMiddleware(behind, expected, "127.0.0.1")(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    assert auth.load_token_digest(ServeConfig(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_an_address_that_others_reach_needs_a_token(host: str) -> None:
    with pytest.raises(KitError, match="is open to others and no token is set") as error:
        auth.load_token_digest(ServeConfig(host=host))
    assert error.value.exit_code == 2
    assert "serve.token_env" in error.value.hint


@pytest.mark.parametrize(
    ("value", "problem"), [(None, "is not set"), ("", "is not set"), ("brief!", "is too short")]
)
def test_a_token_that_is_none_is_refused_and_not_told(
    monkeypatch: pytest.MonkeyPatch, value: str | None, problem: str
) -> None:
    monkeypatch.delenv("ASK", raising=False)
    if value is not None:
        monkeypatch.setenv("ASK", value)
    with pytest.raises(KitError, match=f"'ASK' {problem}") as error:
        auth.load_token_digest(ServeConfig(token_env="ASK"))
    assert not value or value not in str(error.value)


def test_of_a_token_only_the_hash_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASK", TOKEN)
    kept = auth.load_token_digest(ServeConfig(host="0.0.0.0", token_env="ASK"))
    assert kept == auth.hash_token(TOKEN)
    assert TOKEN.encode() not in kept


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"]
)
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert asked(None, host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", "192.168.0.7"]
)
def test_another_name_for_this_machine_is_refused(host: str) -> None:
    assert asked(None, host=host)[0] == 421
    assert asked(None, path="/health/ready", host=host)[0] == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://localhost:8888", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_a_page_of_another_site_is_refused(origin: str, status: int) -> None:
    assert asked(None, origin=origin)[0] == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer", 401),
        ("", 401),
    ],
)
def test_with_a_token_only_who_has_it_is_answered(header: str, status: int) -> None:
    found, headers = asked(auth.hash_token(TOKEN), host="models.example", authorization=header)
    assert found == status
    assert status == 200 or headers[b"www-authenticate"] == b"Bearer"


def test_with_a_token_health_stays_open_and_nothing_else() -> None:
    found = {
        path: asked(auth.hash_token(TOKEN), path=path)[0]
        for path in (
            "/health/live",
            "/health/ready",
            "/model",
            "/metrics",
            "/docs",
            "/openapi.json",
            "/feedback",
            "/health",
        )
    }
    assert {p for p, status in found.items() if status == 200} == {"/health/live", "/health/ready"}


def test_the_command_line_refuses_to_open_without_a_token(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["mlops", "serve", "--host", "0.0.0.0", "--project", str(served.root)]
    )
    with pytest.raises(SystemExit) as ended:
        application.main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith("error: serve.host '0.0.0.0' is open to others and no token is set")
