"""What the server of the dashboards answers: pages, who is here, decisions, and the runs' reports.

A page is built by a kernel that knows no visitor, and sent to all who ask for it meanwhile. A
decision is checked here for its form and against forged requests only; whether it may be taken, the
action itself checks.

To add an answer: a handler here, and its address in ``server.DashboardServer.init_handlers``.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from mlops_kit.core.environment import get_user_name
from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.dashboards.page_base import PAGE_TITLES
from mlops_kit.db.approvals import check_permission
from mlops_kit.project.config.services import PeopleConfig
from mlops_kit.project.identity import describe_identity_weakness, find_token_owner

with import_from_extra("dashboards"):
    import tornado.web
    from jupyter_core.utils import ensure_async
    from jupyter_server.auth.identity import IdentityProvider, User
    from jupyter_server.base.handlers import APIHandler, JupyterHandler
    from jupyter_server.utils import url_path_join
    from tornado.ioloop import IOLoop
    from voila.tornado.handler import TornadoVoilaHandler

DecisionAction = Callable[[str, dict[str, str]], str]  # person, values of the page; the answer
LOCAL_USER_NOTE = "this computer's user"
CONTAINER_USER_NOTE = "shared by all who reach this container"
_KERNEL_ID = re.compile(r'"kernelId": "([\w-]+)"')  # our template writes it before the first cell
_LIVE_WIDGET_MIME_TYPE = "widget-view+json"
_BAD_REQUEST = 400
_STATUS_CODES: dict[type[KitError], int] = {NotAllowedError: 403, RunFailedError: 409}
# The others are taken by approvers.
_OPERATOR_ACTIONS = {"rollback", "acknowledge", "retrain", "enable_promotion", "accept_reference"}
_NO_NAME_REASON = (
    "A shared token identifies nobody, so this page is read-only. Set dashboard.identity_provider "
    "in mlops.yaml to identify people."
)
_PAGE_HEAD = "<header class=top>"  # with which our pages begin
_FAILED_PAGE = (
    "<section class=card><h2 class=act>▲ The rest of this page could not be built</h2>"
    "<p>Load it again; the output of the server says why.</p></section>"
)


class LocalIdentityProvider(IdentityProvider):
    """Identifies whoever reaches this computer's loopback as its user.

    A token is required before that, if there is one. From elsewhere a token identifies nobody.
    """

    is_local = True

    def get_user(self, handler: Any) -> Any:
        """Let everybody in, or whoever has the token."""
        return super().get_user(handler) if self.token else User(get_user_name())

    def process_login_form(self, handler: Any) -> User | None:
        """Let in whoever types the token; the base class calls a method that it does not have."""
        typed = handler.get_argument("password", default="")
        if self.token and hmac.compare_digest(typed.encode(), self.token.encode()):
            return self.generate_anonymous_user(handler)
        return None


class TokenIdentityProvider(IdentityProvider):
    """Identifies people by their own tokens (``people.tokens`` in ``mlops.yaml``)."""

    people = PeopleConfig()

    async def get_user_token(self, handler: Any) -> User | None:
        """Identify whoever presents a token with the request."""
        return self._find_user(self.get_token(handler) or "")

    def process_login_form(self, handler: Any) -> User | None:
        """Identify whoever types a token."""
        return self._find_user(handler.get_argument("password", default=""))

    def user_from_cookie(self, cookie_value: str) -> User | None:
        """Identify whoever signed in before, as long as they are listed."""
        user = super().user_from_cookie(cookie_value)
        return user if user is not None and user.username in self.people.tokens else None

    def _find_user(self, token: str) -> User | None:
        """Return the person who has a token."""
        name = find_token_owner(self.people, token)
        return User(name) if name else None


class Person(NamedTuple):
    """Who sent a request; ``name`` is empty if that is not known, ``note`` says how it is known."""

    name: str
    note: str = ""


def identify_person(handler: Any) -> Person:
    """Identify who sent a request."""
    provider = handler.identity_provider
    if not isinstance(provider, LocalIdentityProvider):
        return Person(handler.current_user.username)
    if provider.is_local:
        is_shared = describe_identity_weakness(handler.settings["people"])
        return Person(get_user_name(), CONTAINER_USER_NOTE if is_shared else LOCAL_USER_NOTE)
    return Person("")


class PersonHandler(APIHandler):
    """Tells a page who looks at it and what they may decide."""

    @tornado.web.authenticated
    def get(self) -> None:
        """Answer with the name, and why the person may not take which decision."""
        _ = self.xsrf_token  # sets the cookie that a decision has to present
        person = identify_person(self)
        refusals = {}
        for action in sorted(self.settings["actions"]):
            refusals[action] = explain_refusal(self.settings["people"], person.name, action)
        self.finish(
            {
                "name": person.name,
                "note": person.note,
                "reason": "" if person.name else _NO_NAME_REASON,
                "actions": list(refusals),
                "refused": refusals,
            }
        )


class DecisionHandler(APIHandler):
    """Takes a decision; who decides, the server knows, not the page."""

    @tornado.web.authenticated
    async def post(self) -> None:
        """Record a decision, or answer why not."""
        person = identify_person(self)
        try:
            action, values = self._read_decision(person)
            answer = await IOLoop.current().run_in_executor(None, action, person.name, values)
        except KitError as error:
            self.set_status(_get_status_code(error))
            self.finish({"error": error.message, "expected": error.expected, "hint": error.hint})
        else:
            self.settings["decision_count"] += 1
            self.finish({"sentence": answer})

    def _read_decision(self, person: Person) -> tuple[DecisionAction, dict[str, str]]:
        """Read what is to be done, and the values that the page sent.

        Raises
        ------
        KitError
            If the person is not known, or the request is not a decision.
        """
        values: Any = self.get_json_body()
        if not person.name:
            raise NotAllowedError(
                "it is not known who decides",
                "a person",
                "set dashboard.identity_provider in mlops.yaml",
            )
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise KitError(
                f"a {type(values).__name__} is not a decision",
                "a JSON object of texts: act, version, reason and the two hashes",
                "load the page again",
            )
        actions: dict[str, DecisionAction] = self.settings["actions"]
        name = values.get("act", "")
        if name not in actions:
            raise KitError(
                f"unknown action {name!r}",
                f"one of: {', '.join(sorted(actions))}",
                "load the page again",
            )
        if not values.get("reason", "").strip():
            raise KitError(
                "a decision needs a reason",
                "a sentence that others can read later",
                "enter a reason",
            )
        return actions[name], values


def _get_status_code(error: KitError) -> int:
    """Return the HTTP status code of an error."""
    for error_type, status_code in _STATUS_CODES.items():
        if isinstance(error, error_type):
            return status_code
    return _BAD_REQUEST


class NoteHandler(APIHandler):
    """Tells a page what its kernel cannot know: that MLflow differs from the database."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Answer with a sentence, or nothing."""
        note = await IOLoop.current().run_in_executor(None, self.settings["get_note"])
        self.finish({"note": note})


class PageStream:
    """A page that is being built, sent to all who ask for it meanwhile.

    Five visitors at once cost one kernel.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.is_finished = False
        self._changed = asyncio.Condition()

    async def add(self, part: str) -> None:
        """Send another part to all visitors."""
        async with self._changed:
            self.parts.append(part)
            self._changed.notify_all()

    async def finish(self) -> None:
        """Say that there are no more parts."""
        async with self._changed:
            self.is_finished = True
            self._changed.notify_all()

    async def __aiter__(self) -> AsyncIterator[str]:
        sent_count = 0
        while sent_count < len(self.parts) or not self.is_finished:
            async with self._changed:
                while sent_count == len(self.parts) and not self.is_finished:
                    await self._changed.wait()
            for part in self.parts[sent_count:]:
                sent_count += 1
                yield part


class PageHandler(TornadoVoilaHandler):  # type: ignore[misc]
    """A dashboard; its kernel ends when the page is sent, unless the page has a live widget."""

    @tornado.web.authenticated
    async def get(self, name: str) -> None:
        """Send the page as it is built; one of ours, which knows no visitor, to all at once."""
        streams: dict[Any, PageStream] = self.settings["page_streams"]
        # A page that was built before a decision is not sent after it.
        key = (self.request.uri, self.settings["decision_count"])
        stream = streams.get(key)
        if stream is None:
            stream = PageStream()
            if name in PAGE_TITLES:
                streams[key] = stream
            self._start_building(name, stream, key)
        self.set_header("Content-Type", "text/html")
        self.set_header("Cache-Control", "no-store")
        async for part in stream:
            self.write(part)
            await self.flush()

    def _start_building(self, name: str, stream: PageStream, key: Any) -> None:
        """Start to build the page, whether or not the first visitor stays."""
        tasks: set[asyncio.Task[None]] = self.settings["tasks"]
        task = asyncio.ensure_future(self._build(name, stream))
        tasks.add(task)

        def forget(finished: asyncio.Task[None]) -> None:
            self.settings["page_streams"].pop(key, None)
            tasks.discard(finished)

        task.add_done_callback(forget)

    async def _build(self, name: str, stream: PageStream) -> None:
        """Build the page in a kernel."""
        kernel_id = ""
        has_live_widget = False
        has_content = name not in PAGE_TITLES  # of a project's own page nothing is expected
        try:
            await self._replace_dead_kernels(name)
            async for html in self.get_generator(path=f"{name}.ipynb"):
                match = _KERNEL_ID.search(html)
                if match and not kernel_id:
                    kernel_id = match.group(1)
                has_live_widget = has_live_widget or _LIVE_WIDGET_MIME_TYPE in html
                has_content = has_content or _PAGE_HEAD in html
                await stream.add(html)
            if not has_content:
                self.log.error("the kernel of the page %s ended while it built the page", name)
                await stream.add(_FAILED_PAGE)
        except Exception:
            self.log.exception("the page %s could not be built", name)
            await stream.add(_FAILED_PAGE)
        finally:
            await stream.finish()
            if kernel_id and not has_live_widget:
                await self.kernel_manager.shutdown_kernel(kernel_id, now=True)

    async def _replace_dead_kernels(self, name: str) -> None:
        """Replace the kernels that wait for a visitor of this page, but whose process has ended."""
        notebook = f"{name}.ipynb"
        kernels = self.kernel_manager
        is_own_page = name in PAGE_TITLES
        for future in list(kernels._pools.get(notebook, [])):
            if not future.done() or future.cancelled() or future.exception() is not None:
                continue
            kernel = future.result()
            is_alive = await ensure_async(kernels.is_alive(kernel["kernel_id"]))
            # Our pages wait for a visitor: a kernel that has finished one of them has failed.
            has_failed = is_own_page and kernel["task"].done()
            if is_alive and not has_failed:
                continue
            self.log.error("a kernel of the page %s has ended; another is started", name)
            await kernels.shutdown_kernel(kernel["kernel_id"], now=True)
        kernels.fill_if_needed(notebook_name=notebook)


class ReportHandler(JupyterHandler, tornado.web.StaticFileHandler):
    """The reports of the runs; they have no origin, so they cannot act for whoever reads them."""

    @tornado.web.authenticated
    async def get(self, path: str, include_body: bool = True) -> None:  # type: ignore[override]
        """Send a report of a run."""
        await tornado.web.StaticFileHandler.get(self, path, include_body)

    @property
    def content_security_policy(self) -> str:
        """Scripts of a report run, but have no cookie and reach no handler."""
        return "sandbox allow-scripts allow-popups; frame-ancestors 'self'"


class StartHandler(JupyterHandler):
    """Leads to the first page."""

    @tornado.web.authenticated
    def get(self) -> None:
        """Redirect to the first page."""
        self.redirect(url_path_join(self.base_url, self.settings["pages"][0]))


def explain_refusal(people: PeopleConfig, name: str, action: str) -> str:
    """Explain why a person may not take a decision at all; empty if they may."""
    try:
        check_permission(people, name, approves=action not in _OPERATOR_ACTIONS)
    except NotAllowedError as error:
        return f"{error.message}. Expected: {error.expected}. Hint: {error.hint}."
    return ""
