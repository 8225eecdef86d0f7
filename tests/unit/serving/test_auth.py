"""Access control: loopback without a token, other addresses with one, no other sites or hosts."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from mlops_kit import cli
from mlops_kit.core.errors import KitError
from mlops_kit.project import loader
from mlops_kit.project.config.services import ServeConfig
from mlops_kit.serving import auth

TOKEN = "a-token-of-some-length"


def send_request(
    token_digest: bytes | None, path: str = "/predict", **headers: str
) -> tuple[int, dict[bytes, bytes]]:
    """Send a request through the middleware: status and headers; 200 if it was passed on."""
    sent: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    all_headers = {"host": "localhost:8000", **headers}
    scope = {
        "type": "http",
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in all_headers.items()],
    }
    middleware = auth.AuthMiddleware(application, token_digest, "127.0.0.1")
    asyncio.run(middleware(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_loopback_needs_no_token(host: str) -> None:
    assert auth.load_token_digest(ServeConfig(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "example.org", ""])
def test_reachable_address_needs_a_token(host: str) -> None:
    with pytest.raises(KitError, match="is reachable from other machines, but no token") as error:
        auth.load_token_digest(ServeConfig(host=host))
    assert error.value.exit_code == 2
    assert "serve.token_env" in error.value.hint


@pytest.mark.parametrize(
    ("value", "problem"), [(None, "is not set"), ("", "is not set"), ("brief!", "is too short")]
)
def test_missing_or_short_token_is_refused_without_naming_it(
    monkeypatch: pytest.MonkeyPatch, value: str | None, problem: str
) -> None:
    monkeypatch.delenv("MODEL_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("MODEL_TOKEN", value)
    with pytest.raises(KitError, match=f"'MODEL_TOKEN' {problem}") as error:
        auth.load_token_digest(ServeConfig(token_env="MODEL_TOKEN"))
    assert not value or value not in str(error.value)


def test_only_the_hash_of_a_token_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_TOKEN", TOKEN)
    digest = auth.load_token_digest(ServeConfig(host="0.0.0.0", token_env="MODEL_TOKEN"))
    assert digest is not None
    assert digest == auth.hash_token(TOKEN)
    assert TOKEN.encode() not in digest


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "LOCALHOST"]
)
def test_local_host_names_are_allowed(host: str) -> None:
    assert send_request(None, host=host)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "", "[", "192.168.0.7"]
)
def test_other_host_names_are_refused(host: str) -> None:
    assert send_request(None, host=host)[0] == 421
    assert send_request(None, path="/health/ready", host=host)[0] == 421


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8000", 200),
        ("http://localhost:8888", 403),
        ("https://evil.example", 403),
        ("null", 403),
    ],
)
def test_pages_of_other_sites_are_refused(origin: str, status: int) -> None:
    assert send_request(None, origin=origin)[0] == status


@pytest.mark.parametrize(
    ("authorization", "status"),
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
def test_configured_token_must_be_sent(authorization: str, status: int) -> None:
    digest = auth.hash_token(TOKEN)
    answered, headers = send_request(digest, host="models.example", authorization=authorization)
    assert answered == status
    if status == 401:
        assert headers[b"www-authenticate"] == b"Bearer"


def test_only_health_routes_need_no_token() -> None:
    paths = (
        "/health/live",
        "/health/ready",
        "/model",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/feedback",
        "/health",
    )
    digest = auth.hash_token(TOKEN)
    open_paths = {path for path in paths if send_request(digest, path=path)[0] == 200}
    assert open_paths == {"/health/live", "/health/ready"}


def test_serve_command_refuses_a_reachable_address_without_a_token(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["mlops", "serve", "--host", "0.0.0.0", "--project", str(served.root)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as exited:
        cli.main()
    output = capsys.readouterr()
    assert exited.value.code == 2
    assert output.out == ""
    assert output.err.startswith(
        "error: serve.host '0.0.0.0' is reachable from other machines, but no token is set"
    )
