"""The pages' server, as a process of its own: who may decide what, of which version exactly, and who is refused in which words."""

from __future__ import annotations

import html
import logging
import re
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.dashboards.served import last

from mlops_kit.core.errors import KitError
from mlops_kit.dashboards import request_handlers, server
from mlops_kit.db import approvals
from mlops_kit.project import loader

SEEN = {"run": "20130701-061200-bbbb", "version": "2", "model_hash": "m2", "evidence_hash": "e2"}
REASON = "</textarea><script>document.title = 'owned'</script>"


def plain(page: str) -> str:
    """A page without its tags."""
    return re.sub("<[^>]*>", "", page)


def visit(address: str, name: str) -> httpx.Client:
    """Somebody's browser, which has been told who is here and holds the cookie."""
    client = httpx.Client(base_url=address, headers={"X-User": name}, timeout=60)
    client.get("/mlops/me")
    client.headers["X-XSRFToken"] = client.cookies["_xsrf"]
    return client


def said(project: loader.Project, **values: str) -> dict[str, str]:
    """What the page of version 2 sends when somebody decides now."""
    known = [o.id for o in approvals.list_approvals(project) if o.version == "2"]
    return {
        **SEEN,
        "act": "reject",
        "reason": "too slow",
        "seen": str(max(known, default=0)),
        **values,
    }


@pytest.fixture(scope="module")
def ann(address: str) -> httpx.Client:
    return visit(address, "ann")


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert answer.json()["cure"]


def test_the_page_tells_who_is_here_and_what_they_may_not(ann: httpx.Client) -> None:
    me = ann.get("/mlops/me").json()
    assert me["name"] == "ann"
    assert (
        set(me["acts"])
        == set(me["refused"])
        >= {
            "approve",
            "ask",
            "reject",
            "rollback",
        }
    )
    assert me["refused"]["approve"] == ""
    assert "'ann' may not decide this" in me["refused"]["rollback"]


def test_a_page_is_html_with_its_numbers_before_any_script(ann: httpx.Client) -> None:
    page = ann.get("/review").text
    assert "Version 2 costs $0.19 a flight less than version 1, and nothing blocks it." in plain(
        page
    )
    assert page.index("$4.12") < page.index("<script>(()")
    assert "http://" not in page
    assert "https://" not in page


def test_any_two_versions_are_shown_as_the_address_asks(ann: httpx.Client) -> None:
    page = ann.get("/review", params={"version": "1", "against": "2"}).text
    assert "version=" not in page
    assert "were not judged on the same rows" in page
    assert "No run here has version &#39;9&#39;" in ann.get("/review", params={"version": "9"}).text


def test_viewers_at_once_are_told_the_same_page(ann: httpx.Client, address: str) -> None:
    pages: list[str] = []

    def look() -> None:
        with closing(visit(address, "carl")) as client:
            pages.append(client.get("/review").text)

    threads = [threading.Thread(target=look) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 5
    assert all(page.endswith("</html>") and "$0.19 a flight less" in plain(page) for page in pages)


def test_without_the_cookies_twin_a_decision_is_refused(
    address: str, registered: loader.Project, ann: httpx.Client
) -> None:
    bare = {"X-XSRFToken": "forged"}
    assert ann.post("/mlops/decide", json=said(registered), headers=bare).status_code == 403
    elsewhere = {"Origin": "http://elsewhere.example", "X-XSRFToken": ann.cookies["_xsrf"]}
    assert ann.post("/mlops/decide", json=said(registered), headers=elsewhere).status_code in {
        403,
        404,
    }
    assert httpx.post(f"{address}/mlops/decide", json=said(registered)).status_code == 403
    assert approvals.list_approvals(registered)[0].version == "1"


def test_nobody_known_sees_no_page_at_all(address: str) -> None:
    assert httpx.get(f"{address}/review").status_code in {302, 403}
    assert httpx.get(f"{address}/mlops/me").status_code == 403


def test_another_hosts_name_for_this_computer_is_refused(ann: httpx.Client) -> None:
    assert ann.get("/mlops/me", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"reason": "  "}, 400, "needs a reason"),
        ({"act": "marry"}, 400, "unknown act 'marry'"),
        ({"evidence_hash": ""}, 400, "did not send 'evidence_hash'"),
        ({"model_hash": "m1"}, 409, "the model of version 2 is not the one that the page shows"),
        ({"evidence_hash": "e1"}, 409, "the evidence of version 2 is not the one"),
        ({"version": "9"}, 409, "no version '9'"),
        (
            {"version": "1", "model_hash": "m1", "evidence_hash": "e1"},
            409,
            "version 1 is already in service",
        ),
        (
            {"act": "approve", "run": "../../etc"},
            409,
            "does not wait for an approval: it is missing",
        ),
        (
            {"act": "approve", "run": "20130601-040000-aaaa"},
            409,
            "does not wait for an approval: it is succeeded",
        ),
        ({"act": "rollback"}, 409, "version 1 is in service now, not 2"),
        ({"act": "rollback", "version": "1"}, 400, "no earlier version to go back to"),
        ({"seen": "7000"}, 409, "has decided"),
    ],
)
def test_what_cannot_be_decided_is_refused_in_words(
    registered: loader.Project, ann: httpx.Client, values: dict[str, str], status: int, words: str
) -> None:
    if values.get("seen"):
        approvals.record_approval(
            registered,
            {**SEEN, "review": "passed", "sample": "0", "author": "bob"},
            "changes",
            "carl",
            "name the owner",
        )
    before = len(approvals.list_approvals(registered))
    refused(ann.post("/mlops/decide", json=said(registered, **values)), status, words)
    assert len(approvals.list_approvals(registered)) == before


@pytest.mark.parametrize(
    "body", [[], "approve", 7, {"act": "approve", "reason": ["a"]}, {"act": {"a": 1}}]
)
def test_what_is_no_decision_is_refused_in_words(ann: httpx.Client, body: Any) -> None:
    refused(ann.post("/mlops/decide", json=body), 400, "no decision")
    assert ann.post("/mlops/decide", content=b"{").status_code == 400


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eve", "'eve' may not decide this"),
        ("bob", "'bob' made this version and may not approve it"),
    ],
)
def test_a_wrong_role_and_the_author_are_refused(
    address: str, registered: loader.Project, name: str, words: str
) -> None:
    with closing(visit(address, name)) as client:
        refused(client.post("/mlops/decide", json=said(registered, act="approve")), 403, words)
    assert last(registered)[1] != name


def test_a_script_in_a_reason_is_kept_as_it_is_and_shown_as_text(
    registered: loader.Project, ann: httpx.Client
) -> None:
    answer = ann.post("/mlops/decide", json=said(registered, act="ask", reason=REASON))
    assert answer.status_code == 200
    assert answer.json() == {
        "sentence": "You requested changes to version 2; the champion stays in service."
    }
    assert last(registered) == ("changes", "ann", REASON)
    page = ann.get("/review").text
    assert REASON not in page
    assert html.escape(REASON, quote=False).replace("'", "&#39;") in page
    assert "◆ Changes asked for" in page
    assert "but ann asked for changes." in page


def test_of_two_at_once_one_is_recorded(address: str, registered: loader.Project) -> None:
    body, answers = said(registered), list[httpx.Response]()
    before = len(approvals.list_approvals(registered))

    def go(name: str) -> None:
        with closing(visit(address, name)) as client:
            answers.append(client.post("/mlops/decide", json={**body, "reason": f"{name} says so"}))

    threads = [threading.Thread(target=go, args=(name,)) for name in ("ann", "carl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status_code for a in answers) == [200, 409]
    refused(
        next(a for a in answers if a.status_code == 409),
        409,
        f"{last(registered)[1]} has decided on version 2 in between (rejected:",
    )
    assert len(approvals.list_approvals(registered)) == before + 1


def test_a_runs_pages_are_served_without_an_origin_and_nothing_else(
    registered: loader.Project, ann: httpx.Client
) -> None:
    run = SEEN["run"]
    card = ann.get(f"/reports/{run}/artifacts/card.html")
    assert card.status_code == 200
    assert "sandbox" in card.headers["Content-Security-Policy"]
    assert "allow-same-origin" not in card.headers["Content-Security-Policy"]
    for path in (
        f"/reports/{run}/manifest.json",
        "/reports/../mlops.yaml",
        "/voila/tree",
        "/voila/render/review.ipynb",
        "/voila/files/review.ipynb",
        "/voila/api/contents",
    ):
        assert ann.get(path).status_code in {403, 404}, path


def test_others_are_not_answered_without_a_token_or_an_identity(
    told: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KitError, match="would answer others on 0.0.0.0") as refusal:
        server.start(told, {}, port=0, ip="0.0.0.0")
    assert refusal.value.exit_code == 2
    gated = told.with_values("test", dashboard={"token": "PAGES"})
    with pytest.raises(KitError, match="the environment has no 'PAGES'"):
        server.start(gated, {}, port=0, ip="0.0.0.0")
    monkeypatch.setenv("PAGES", "sesame")
    assert server.secret("PAGES") == "sesame"
    assert server.secret("") == ""
    with pytest.raises(KitError, match="no 'PAGES'"):
        server.secret("PAGES")  # taken out of the environment, so that no kernel inherits it


@pytest.mark.parametrize(
    "name",
    ["nothing", "nowhere.Class", "mlops_kit.project.config.root.ProjectConfig", "json.dumps"],
)
def test_an_identity_that_is_none_is_worded(name: str) -> None:
    with pytest.raises(KitError, match="the identity"):
        server.provider(name)


def test_a_port_that_is_taken_is_worded() -> None:
    held = server.taken(0, "127.0.0.1")
    with pytest.raises(KitError, match="cannot be listened on"):
        server.taken(held[0].getsockname()[1], "127.0.0.1")
    held[0].close()


def test_a_shared_token_from_elsewhere_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler:
        identity_provider = request_handlers.Here(token="sesame")

    assert request_handlers.person(Handler())[1] == request_handlers.HERE
    monkeypatch.setattr(request_handlers.Here, "local", False)
    assert request_handlers.person(Handler()) == ("", "")


@pytest.mark.parametrize(("typed", "let_in"), [("sesame", True), ("Sesame", False), ("", False)])
def test_only_the_token_opens_the_gate(typed: str, let_in: bool) -> None:
    class Handler:
        log = logging.getLogger("test")

        def get_argument(self, name: str, default: str) -> str:
            return typed

    assert (
        request_handlers.Here(token="sesame").process_login_form(Handler()) is not None
    ) == let_in
    assert request_handlers.Here(token="").process_login_form(Handler()) is None


def test_a_page_that_there_is_not_is_told_in_our_own_words(ann: httpx.Client) -> None:
    answer = ann.get("/nothing")
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert "http" not in answer.text


def test_a_project_without_pages_of_its_own_has_those_of_the_package(
    told: loader.Project, tmp_path: Path
) -> None:
    assert (server.pages(told) / "review.ipynb").is_file()
    (told.root / "notebooks" / "dashboards").mkdir(parents=True)
    assert server.pages(told) == told.root / "notebooks" / "dashboards"
