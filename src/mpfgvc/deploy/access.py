"""Who may ask: those with the token, if the server has one, and only under a name of the server.

A page of another site can make a browser send requests to a server on this machine. If the server listens on
this machine only, it answers nobody who calls it by another name: such a page cannot read its answers.
"""

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from mpfgvc.deploy.refusals import RefusedError

Check = Callable[..., Coroutine[Any, Any, None]]
_BEARER = HTTPBearer(auto_error=False, description="Needed if the server was started with a token.")


def token_check(token: str | None) -> Check:
    """A dependency that raises RefusedError (401) for a request without the token, if there is one."""
    wanted = None if token is None else token.encode()

    async def check(sent: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if wanted is None:
            return
        if sent is None:
            raise RefusedError(401, "this server needs a token: send Authorization: Bearer TOKEN")
        if not hmac.compare_digest(sent.credentials.encode(), wanted):
            raise RefusedError(401, "the token is wrong")

    return check


def answer_only_to(app: FastAPI, names: tuple[str, ...]) -> None:
    """Refuse, with 421, requests that call the server by another name."""
    app.add_middleware(_KnownNames, names=names)


class _KnownNames:
    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self._app, self._names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host_name(Headers(scope=scope).get("host", "")) not in self._names:
            line = "this server answers only as 127.0.0.1 or localhost; start it with --host for others"
            await RefusedError(421, line).response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
