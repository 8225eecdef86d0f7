"""The server of the dashboards: who may decide what about which version, and who is refused why."""

from __future__ import annotations

import asyncio
import html
import logging
import re
import threading
from contextlib import closing, suppress
from typing import Any, ClassVar

import httpx
import psutil
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.dashboards import request_handlers, server
from mlops_kit.db import approvals
from mlops_kit.db.tables import ApprovalOutcome
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.identity import hash_person_token
from mlops_kit.project.loader import Project
from tests.support import sample_runs
from tests.support.served_project import get_last_decision

SHOWN_FACTS = {
    "run": "20130701-061200-bbbb",
    "version": "2",
    "model_hash": "m2",
    "evidence_hash": "e2",
}
REASON = "</textarea><script>document.title = 'owned'</script>"


def remove_tags(page: str) -> str:
    """Return a page without its tags."""
    return re.sub("<[^>]*>", "", page)


def open_session(server_address: str, name: str) -> httpx.Client:
    """Open the session of a person's browser, which holds the cookie against forged requests."""
    client = httpx.Client(base_url=server_address, headers={"X-User": name}, timeout=60)
    client.get("/mlops/me")
    client.headers["X-XSRFToken"] = client.cookies["_xsrf"]
    return client


def make_decision(project: Project, **values: str) -> dict[str, str]:
    """Make what the page of version 2 sends when a person decides now."""
    known = [record.id for record in approvals.list_approvals(project) if record.version == "2"]
    return {
        **SHOWN_FACTS,
        "act": "reject",
        "reason": "too slow",
        "seen": str(max(known, default=0)),
        **values,
    }


@pytest.fixture(scope="module")
def ann_session(server_address: str) -> httpx.Client:
    return open_session(server_address, "ann")


def assert_refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert answer.json()["hint"]


def test_page_learns_who_looks_at_it_and_what_they_may_decide(ann_session: httpx.Client) -> None:
    me = ann_session.get("/mlops/me").json()
    assert me["name"] == "ann"
    assert (
        set(me["actions"])
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


def test_page_contains_its_numbers_before_any_script(ann_session: httpx.Client) -> None:
    page = ann_session.get("/review").text
    sentence = "Errors cost $0.19 less per flight with version 2 than with version 1"
    assert sentence in remove_tags(page)
    assert page.index("$4.12") < page.index("<script>(()")
    assert "http://" not in page
    assert "https://" not in page


def test_address_selects_any_two_versions(ann_session: httpx.Client) -> None:
    page = ann_session.get("/review", params={"version": "1", "against": "2"}).text
    assert "version=" not in page
    assert "were not evaluated on the same rows" in page
    assert (
        "No run has version &#39;9&#39;" in ann_session.get("/review", params={"version": "9"}).text
    )


def test_simultaneous_visitors_get_the_same_page(
    ann_session: httpx.Client, server_address: str
) -> None:
    pages: list[str] = []

    def look() -> None:
        with closing(open_session(server_address, "carl")) as client:
            pages.append(client.get("/review").text)

    threads = [threading.Thread(target=look) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pages) == 5
    assert all(
        page.endswith("</html>") and "$0.19 less per flight" in remove_tags(page) for page in pages
    )


def test_decision_without_the_matching_cookie_is_refused(
    server_address: str, registered_project: Project, ann_session: httpx.Client
) -> None:
    bare = {"X-XSRFToken": "forged"}
    assert (
        ann_session.post(
            "/mlops/decide", json=make_decision(registered_project), headers=bare
        ).status_code
        == 403
    )
    elsewhere = {"Origin": "http://elsewhere.example", "X-XSRFToken": ann_session.cookies["_xsrf"]}
    assert ann_session.post(
        "/mlops/decide", json=make_decision(registered_project), headers=elsewhere
    ).status_code in {
        403,
        404,
    }
    assert (
        httpx.post(
            f"{server_address}/mlops/decide", json=make_decision(registered_project)
        ).status_code
        == 403
    )
    assert approvals.list_approvals(registered_project)[0].version == "1"


def test_unknown_visitor_sees_no_page(server_address: str) -> None:
    assert httpx.get(f"{server_address}/review").status_code in {302, 403}
    assert httpx.get(f"{server_address}/mlops/me").status_code == 403


def test_other_host_name_is_refused_on_loopback(ann_session: httpx.Client) -> None:
    assert ann_session.get("/mlops/me", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"reason": "  "}, 400, "needs a reason"),
        ({"act": "marry"}, 400, "unknown action 'marry'"),
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
        ({"act": "rollback", "version": "1"}, 400, "no earlier version to roll back to"),
        ({"seen": "7000"}, 409, "has decided"),
    ],
)
def test_invalid_decision_is_refused_with_a_reason(
    registered_project: Project,
    ann_session: httpx.Client,
    values: dict[str, str],
    status: int,
    words: str,
) -> None:
    if values.get("seen"):
        approvals.record_approval(
            registered_project,
            sample_runs.make_facts("2"),
            ApprovalOutcome.CHANGES_REQUESTED,
            "carl",
            "name the owner",
        )
    before = len(approvals.list_approvals(registered_project))
    assert_refused(
        ann_session.post("/mlops/decide", json=make_decision(registered_project, **values)),
        status,
        words,
    )
    assert len(approvals.list_approvals(registered_project)) == before


@pytest.mark.parametrize(
    "body", [[], "approve", 7, {"act": "approve", "reason": ["a"]}, {"act": {"a": 1}}]
)
def test_malformed_request_is_refused_with_a_reason(ann_session: httpx.Client, body: Any) -> None:
    assert_refused(ann_session.post("/mlops/decide", json=body), 400, "is not a decision")
    assert ann_session.post("/mlops/decide", content=b"{").status_code == 400


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("eve", "'eve' may not decide this"),
        ("bob", "'bob' made this version and may not approve it"),
    ],
)
def test_wrong_role_and_author_are_refused(
    server_address: str, registered_project: Project, name: str, words: str
) -> None:
    with closing(open_session(server_address, name)) as client:
        assert_refused(
            client.post("/mlops/decide", json=make_decision(registered_project, act="approve")),
            403,
            words,
        )
    assert get_last_decision(registered_project)[1] != name


def test_script_in_a_reason_is_stored_unchanged_and_shown_as_text(
    registered_project: Project, ann_session: httpx.Client
) -> None:
    answer = ann_session.post(
        "/mlops/decide", json=make_decision(registered_project, act="ask", reason=REASON)
    )
    assert answer.status_code == 200
    assert answer.json() == {
        "sentence": "You requested changes to version 2; version 1 stays in service."
    }
    assert get_last_decision(registered_project) == ("changes", "ann", REASON)
    page = ann_session.get("/review").text
    assert REASON not in page
    assert html.escape(REASON, quote=False).replace("'", "&#39;") in page
    assert "◆ Changes requested" in page
    assert "but ann requested changes." in page


def test_one_of_two_simultaneous_decisions_is_recorded(
    server_address: str, registered_project: Project
) -> None:
    body, answers = make_decision(registered_project), list[httpx.Response]()
    before = len(approvals.list_approvals(registered_project))

    def go(name: str) -> None:
        with closing(open_session(server_address, name)) as client:
            answers.append(client.post("/mlops/decide", json={**body, "reason": f"{name} says so"}))

    threads = [threading.Thread(target=go, args=(name,)) for name in ("ann", "carl")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a.status_code for a in answers) == [200, 409]
    decider = get_last_decision(registered_project)[1]
    assert_refused(
        next(a for a in answers if a.status_code == 409),
        409,
        f"{decider} has decided on version 2 in between (rejected:",
    )
    assert len(approvals.list_approvals(registered_project)) == before + 1


def test_reports_are_served_without_an_origin_and_other_files_are_not(
    registered_project: Project, ann_session: httpx.Client
) -> None:
    run = SHOWN_FACTS["run"]
    card = ann_session.get(f"/reports/{run}/artifacts/card.html")
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
        assert ann_session.get(path).status_code in {403, 404}, path


def test_pages_work_behind_a_path_prefix_that_a_proxy_keeps_or_removes(
    server_address: str, ann_session: httpx.Client
) -> None:
    assert server_address.endswith("/churn")
    kept = ann_session.get("/review").text
    links = re.findall(r"""(?:src|href)="(/[^"]*)""", kept)
    assert links
    assert all(link.startswith("/churn/") for link in links)
    assert 'data-base-url="/churn/voila/"' in kept
    removed = httpx.Client(
        base_url=server_address.removesuffix("/churn"), headers={"X-User": "ann"}, timeout=60
    )
    with closing(removed):
        assert 'data-base-url="/churn/voila/"' in removed.get("/review").text
        assert removed.get("/mlops/me").json()["name"] == "ann"
        assert removed.get("/").headers["location"] == "/churn/review"
    for path in ("", "/"):
        assert httpx.get(f"{server_address}{path}", headers={"X-User": "ann"}).is_redirect
    assert 'href="/churn/"' in ann_session.get("/nowhere").text


def find_kernels(project: Project) -> list[psutil.Process]:
    """Find the processes of the server's kernels."""
    kernels = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            is_kernel = "ipykernel_launcher" in (process.info["cmdline"] or [])
            if is_kernel and process.environ().get("MLOPS_PROJECT") == str(project.root):
                kernels.append(process)
    return kernels


def test_page_is_built_though_all_kernels_were_killed(
    ann_session: httpx.Client, registered_project: Project
) -> None:
    assert "Model review" in ann_session.get("/review").text
    kernels = find_kernels(registered_project)
    assert kernels
    for kernel in kernels:
        kernel.kill()
    psutil.wait_procs(kernels, timeout=30)
    page = ann_session.get("/review").text
    assert "<header class=top><b>Model review</b>" in page
    assert 'id="history"' in page


def test_public_address_needs_a_token_or_an_identity_provider(sample_project: Project) -> None:
    public = sample_project.with_values("test", dashboard={"base_url": "https://host.example/p"})
    assert public.config.dashboard.base_url == "https://host.example/p/"
    with pytest.raises(KitError, match=r"open to everybody who reaches host\.example"):
        server.start_server(public, server.ServerCallbacks({}), port=0)


def test_other_machines_need_a_token_or_an_identity_provider(
    sample_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks = server.ServerCallbacks({})
    with pytest.raises(KitError, match=r"open to everybody who reaches 0\.0\.0\.0") as refusal:
        server.start_server(sample_project, callbacks, port=0, host="0.0.0.0")
    assert refusal.value.exit_code == 2
    gated = sample_project.with_values("test", dashboard={"token_env": "PAGES"})
    with pytest.raises(KitError, match="environment variable 'PAGES' is not set"):
        server.start_server(gated, callbacks, port=0, host="0.0.0.0")
    monkeypatch.setenv("PAGES", "sesame")
    assert server.take_token("PAGES") == "sesame"
    assert server.take_token("") == ""
    with pytest.raises(KitError, match="'PAGES' is not set"):
        server.take_token("PAGES")  # taken out of the environment, so that no kernel inherits it


@pytest.mark.parametrize(
    "name",
    ["nothing", "nowhere.Class", "mlops_kit.project.config.root.ProjectConfig", "json.dumps"],
)
def test_invalid_identity_provider_is_an_error(name: str) -> None:
    with pytest.raises(KitError, match="the identity provider"):
        server.load_identity_provider(name, PeopleConfig())


def test_taken_port_is_an_error() -> None:
    held = server.bind_port(0, "127.0.0.1")
    with pytest.raises(KitError, match="cannot listen on"):
        server.bind_port(held[0].getsockname()[1], "127.0.0.1")
    held[0].close()


def test_shared_token_from_elsewhere_identifies_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler:
        identity_provider = request_handlers.LocalIdentityProvider(token="sesame")
        settings: ClassVar = {"people": PeopleConfig()}

    assert request_handlers.identify_person(Handler()).note == request_handlers.LOCAL_USER_NOTE
    monkeypatch.setattr(request_handlers.LocalIdentityProvider, "is_local", False)
    assert request_handlers.identify_person(Handler()) == ("", "")


@pytest.mark.parametrize(("typed", "let_in"), [("sesame", True), ("Sesame", False), ("", False)])
def test_only_the_token_lets_in(typed: str, let_in: bool) -> None:
    class Handler:
        log = logging.getLogger("test")

        def get_argument(self, name: str, default: str) -> str:
            return typed

    assert (
        request_handlers.LocalIdentityProvider(token="sesame").process_login_form(Handler())
        is not None
    ) == let_in
    assert request_handlers.LocalIdentityProvider(token="").process_login_form(Handler()) is None


@pytest.mark.parametrize(("presented", "person"), [("anna-token", "anna"), ("other", None)])
def test_token_identifies_a_person(presented: str, person: str | None) -> None:
    class Handler:
        def get_argument(self, name: str, default: str) -> str:
            return presented

    people = PeopleConfig(identity="token", tokens={"anna": hash_person_token("anna-token")})
    provider = server.load_identity_provider("", people)()
    typed = provider.process_login_form(Handler())
    sent = asyncio.run(provider.get_user_token(Handler()))
    assert (typed and typed.username) == (sent and sent.username) == person


def test_session_of_a_removed_person_ends() -> None:
    people = PeopleConfig(identity="token", tokens={"anna": hash_person_token("anna-token")})
    provider = server.load_identity_provider("", people)()
    known = provider.user_to_cookie(request_handlers.User("anna"))
    removed = provider.user_to_cookie(request_handlers.User("ben"))
    assert provider.user_from_cookie(known) == request_handlers.User("anna")
    assert provider.user_from_cookie(removed) is None


def test_user_of_a_container_is_shown_as_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler:
        identity_provider = request_handlers.LocalIdentityProvider(token="")
        settings: ClassVar = {"people": PeopleConfig(four_eyes=True)}

    monkeypatch.setattr(request_handlers.LocalIdentityProvider, "is_local", True)
    monkeypatch.setenv("container", "podman")
    person = request_handlers.identify_person(Handler())
    assert person.note == request_handlers.CONTAINER_USER_NOTE


def test_unknown_page_has_our_own_error_page(ann_session: httpx.Client) -> None:
    answer = ann_session.get("/nothing")
    assert answer.status_code == 404
    assert "There is no such page." in answer.text
    assert "http" not in answer.text


def test_project_without_own_pages_has_those_of_the_package(sample_project: Project) -> None:
    packaged_folder = sample_project.package_notebooks_folder / "dashboards"
    assert server.find_notebook_folder(sample_project) == packaged_folder
    (sample_project.root / "notebooks" / "dashboards").mkdir(parents=True)
    assert server.find_notebook_folder(sample_project) == packaged_folder
