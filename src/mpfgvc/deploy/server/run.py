"""Run an application on a socket until it is told to stop.

SIGTERM and Ctrl-C stop it gracefully: what clients have sent by then is taken in and answered, new
connections are refused, then the process ends. A client that is slow with the head of a request is
disconnected; uvicorn itself would wait for it for ever.
"""

import asyncio
import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from mpfgvc.errors import ConfigError

HEAD_SECONDS = 10
"""For the head of a request, from the connection or the first byte on."""
IDLE_SECONDS = 15
"""How long a connection without a request is kept."""
DRAIN_SECONDS = 0.2
"""For the heads of requests that were on their way when the server was told to stop."""
_MOST_HEAD = 64 * 1024
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; port 0 takes a free one. Raises ConfigError."""
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port must be 0 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or "it is not a name of this machine"
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; choose another --host or --port") from None
    return bound


def address(bound: socket.socket) -> str:
    """What a browser opens."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: FastAPI, *, stop_seconds: float) -> uvicorn.Server:
    """A server that waits at most `stop_seconds` for what it has accepted when it is stopped."""
    return _DrainingServer(
        uvicorn.Config(
            app,
            http=_ImpatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=max(1, round(stop_seconds)),
            h11_max_incomplete_event_size=_MOST_HEAD,
        )
    )


def run(app: FastAPI, bound: socket.socket, *, stop_seconds: float) -> None:
    """Serve until SIGTERM, which returns, or Ctrl-C, which raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, _stopped)  # what uvicorn raises again at its end
    try:
        server_of(app, stop_seconds=stop_seconds).run(sockets=[bound])
    finally:
        signal.signal(signal.SIGTERM, before)


def _stopped(_signal: int, _frame: FrameType | None) -> None:
    """Nothing: the server has stopped already."""


class _DrainingServer(uvicorn.Server):
    """Takes in what clients have sent before it stops; uvicorn would close on them unread."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what waits in the kernel, refuse what comes later, read for a moment, then stop."""
        listeners = [listener.dup() for listener in sockets or []]
        for server in self.servers:
            server.close()
        for listener in listeners:
            for connection in _waiting_at(listener):
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(DRAIN_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> "_ImpatientProtocol":
        state = self.lifespan.state
        return _ImpatientProtocol(config=self.config, server_state=self.server_state, app_state=state)


def _waiting_at(listener: socket.socket) -> list[socket.socket]:
    """The connections that nobody has accepted yet; the listener is closed."""
    found = []
    with listener, suppress(OSError):
        listener.setblocking(False)
        while True:
            found.append(listener.accept()[0])
    return found


class _ImpatientProtocol(H11Protocol):
    """Closes a connection whose next request does not come whole, up to its body, in time."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._set_deadline()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._clear_deadline()
        elif self._deadline is None:
            self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clear_deadline()
        super().connection_lost(exc)

    def _set_deadline(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
