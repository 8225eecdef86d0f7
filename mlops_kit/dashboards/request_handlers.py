"""What the pages' server answers: pages, who is here, decisions, the runs' own pages.

A page is made by a kernel and told to whoever asks for it meanwhile; it knows no visitor. A decision
is checked here for form and forgery only: whether it may be taken is for the act itself to say.

To add an answer: a handler here, and its address in ``server.Dashboards.init_handlers``.
"""

from __future__ import annotations

import asyncio
import getpass
import hmac
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import tornado.web
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado.ioloop import IOLoop
from voila.tornado.handler import TornadoVoilaHandler

from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError
from mlops_kit.dashboards import PAGES
from mlops_kit.db import approvals
from mlops_kit.project.config.services import PeopleConfig

Act = Callable[[str, dict[str, str]], str]  # who, what the page said; the sentence that answers
HERE = "this computer's user"
KERNEL = re.compile(r'"kernelId": "([\w-]+)"')  # our template tells it before the first cell
STATUS: dict[type[KitError], int] = {NotAllowedError: 403, RunFailedError: 409}
OPERATE = {"rollback", "acknowledge", "retrain"}  # taken by operators; the other acts by approvers
BROKEN = "<section class=card><h2 class=act>▲ The rest of this page could not be made</h2><p>Load it again; what the server printed says why.</p></section>"


class Here(IdentityProvider):
    """Whoever reaches this computer's loopback is its user; a token is a gate before that. From elsewhere a token names nobody."""

    local = True

    def get_user(self, handler: Any) -> Any:
        """Let everybody in, or whoever has the token."""
        return super().get_user(handler) if self.token else User(getpass.getuser())

    def process_login_form(self, handler: Any) -> User | None:
        """Whoever types the token; the base class asks for a method that it lacks."""
        typed = handler.get_argument("password", default="")
        return (
            self.generate_anonymous_user(handler)
            if self.token and hmac.compare_digest(typed.encode(), self.token.encode())
            else None
        )


def person(handler: Any) -> tuple[str, str]:
    """Who is here and how that is known; the name is empty where it is not."""
    provider = handler.identity_provider
    if not isinstance(provider, Here):
        return handler.current_user.username, ""
    return (getpass.getuser(), HERE) if provider.local else ("", "")


class Me(APIHandler):
    """Tells a page who looks at it and what they may decide."""

    @tornado.web.authenticated
    def get(self) -> None:
        """Answer with the name, and why it may not take which decision."""
        _ = self.xsrf_token  # sets the cookie that a decision has to show
        name, how = person(self)
        why = (
            ""
            if name
            else "A shared token names nobody, so this page is to read only; dashboard.identity in mlops.yaml says who is here."
        )
        refused = {
            act: refusal(self.settings["people"], name, act) for act in self.settings["acts"]
        }
        self.finish(
            {"name": name, "how": how, "why": why, "acts": sorted(refused), "refused": refused}
        )


class Decide(APIHandler):
    """Takes a decision: who says it is the server's to know, what it is about the registry's."""

    @tornado.web.authenticated
    async def post(self) -> None:
        """Record a decision, or say in words why not."""
        name, _ = person(self)
        try:
            act, said = self.act(name)
            sentence = await IOLoop.current().run_in_executor(None, act, name, said)
        except KitError as error:
            self.set_status(
                next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
            )
            self.finish({"error": error.message, "expected": error.expected, "cure": error.hint})
        else:
            self.settings["decided"] += 1
            self.finish({"sentence": sentence})

    def act(self, name: str) -> tuple[Act, dict[str, str]]:
        """What is to be done, and what the page said of it.

        Raises
        ------
        KitError
            If nobody is known to be here, or what came is no decision.
        """
        said: Any = self.get_json_body()
        if not name:
            raise NotAllowedError(
                "nobody is known to be here", "a person", "set dashboard.identity in mlops.yaml"
            )
        if not isinstance(said, dict) or not all(isinstance(v, str) for v in said.values()):
            raise KitError(
                f"{type(said).__name__} is no decision",
                "a JSON object of texts: act, version, reason and the two hashes",
                "load the page again",
            )
        acts: dict[str, Act] = self.settings["acts"]
        if said.get("act") not in acts:
            raise KitError(
                f"unknown act {said.get('act', '')!r}",
                f"one of: {', '.join(sorted(acts))}",
                "load the page again",
            )
        if not said.get("reason", "").strip():
            raise KitError(
                "a decision needs a reason", "a sentence that others can read later", "say why"
            )
        return acts[said["act"]], said


class Note(APIHandler):
    """Tells a page what its kernel does not ask for: that the registry says something else than the database."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Answer with a sentence, or nothing."""
        self.finish({"note": await IOLoop.current().run_in_executor(None, self.settings["note"])})


class Telling:
    """A page in the making: whoever asks for the same meanwhile is told it too, so that five at once cost one kernel."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.ended, self.more = False, asyncio.Condition()

    async def add(self, part: str = "", ended: bool = False) -> None:
        """Tell all who listen a part more, or that it was the last."""
        async with self.more:
            self.parts += [part] if part else []
            self.ended = self.ended or ended
            self.more.notify_all()

    async def __aiter__(self) -> AsyncIterator[str]:
        told = 0
        while told < len(self.parts) or not self.ended:
            async with self.more:
                await self.more.wait_for(lambda: told < len(self.parts) or self.ended)
            for part in self.parts[told:]:
                told += 1
                yield part


class Page(TornadoVoilaHandler):  # type: ignore[misc]
    """A dashboard; its kernel goes when the page is told, unless it has a live widget."""

    @tornado.web.authenticated
    async def get(self, name: str) -> None:
        """Tell the page as it is made; one of ours, which knows no visitor, to all who ask for it at once."""
        making, key = self.settings["making"], (self.request.uri, self.settings["decided"])
        telling = making.get(key) or Telling()
        if key not in making:
            making.update({key: telling} if name in PAGES else {})
            self.settings["tasks"].add(task := asyncio.ensure_future(self.make(name, telling)))
            task.add_done_callback(
                lambda done: (making.pop(key, None), self.settings["tasks"].discard(done))
            )
        self.set_header("Content-Type", "text/html")
        self.set_header("Cache-Control", "no-store")
        async for part in telling:
            self.write(part)
            await self.flush()

    async def make(self, name: str, telling: Telling) -> None:
        """Let a kernel make the page, whether or not who asked first is still there."""
        kernel, live = "", False
        try:
            async for html in self.get_generator(path=f"{name}.ipynb"):
                kernel = kernel or next(iter(KERNEL.findall(html)), "")
                live = live or "widget-view+json" in html
                await telling.add(html)
        except Exception:
            self.log.exception("the page %s could not be made", name)
            await telling.add(BROKEN)
        finally:
            await telling.add(ended=True)
            if kernel and not live:
                await self.kernel_manager.shutdown_kernel(kernel, now=True)


class Reports(JupyterHandler, tornado.web.StaticFileHandler):
    """The pages of the runs. What stands in them may not act on behalf of who reads them: they are of no origin."""

    @tornado.web.authenticated
    async def get(self, path: str, include_body: bool = True) -> None:  # type: ignore[override]
        """Serve a page of a run."""
        await tornado.web.StaticFileHandler.get(self, path, include_body)

    @property
    def content_security_policy(self) -> str:
        """Scripts of a page run, but have no cookie and reach no handler."""
        return "sandbox allow-scripts allow-popups; frame-ancestors 'self'"


class Start(JupyterHandler):
    """Leads to the first page."""

    @tornado.web.authenticated
    def get(self) -> None:
        """Go there."""
        self.redirect(url_path_join(self.base_url, self.settings["pages"][0]))


def refusal(people: PeopleConfig, name: str, act: str) -> str:
    """Why somebody may not take a decision at all; nothing if they may."""
    try:
        approvals.check_permission(people, name, approves=act not in OPERATE)
    except NotAllowedError as error:
        return f"{error.message}, only {error.expected.removeprefix('one of: ')}: {error.hint}."
    return ""
