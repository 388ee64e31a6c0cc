"""Serves the page: on loopback unless told otherwise, to pages of its own address alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from nicegui import ui
from starlette.responses import PlainTextResponse

from bdc_pipeline.share.page.elements import CachePage

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from bdc_pipeline.share.database import SharedDatabase

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class OwnPagesOnly:
    """Refuses requests under another name or from another site's pages.

    The page has no login: what keeps others out is that it listens on loopback. A web site that is open in the same browser
    can reach loopback too, under a name of its own that points there or by a socket, and would find buttons that delete.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what is ours."""
        if scope["type"] in {"http", "websocket"} and not self._is_ours(scope):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            refusal = PlainTextResponse("This page is for its own address alone.", status_code=403)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        named = [f"//{headers.get('host', '')}", *([origin] if origin is not None else [])]
        return all(_host_of(one) in self._hosts for one in named)


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def application(database: SharedDatabase, host: str = LOOPBACK[0]) -> ASGIApp:
    """The page as an ASGI application. One a process, as NiceGUI has it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    def page() -> None:
        ui.page_title(f"{database.share.name} - shared database")
        CachePage(database).build()

    ui.run_with(app, root=page, title="Shared database", show_welcome_message=False)
    hosts = LOOPBACK if host in LOOPBACK else (*LOOPBACK, host)
    return OwnPagesOnly(app, hosts)


def serve(database: SharedDatabase, *, host: str = LOOPBACK[0], port: int = 8765, **options: Any) -> None:
    """Serves the page until Ctrl-C.

    Raises:
        SystemExit: the port is taken; uvicorn has said so.
    """
    uvicorn.run(application(database, host), host=host, port=port, log_level="warning", **options)
