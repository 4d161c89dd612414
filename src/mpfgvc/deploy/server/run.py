"""Run an application on a socket until it is told to stop.

SIGTERM and Ctrl-C stop it gracefully: what clients have sent by then is taken in and answered, new
connections are refused, then the process ends. A client that is slow with the head of a request is
disconnected; uvicorn itself would wait for it for ever.
"""

import asyncio
import signal
import socket
from contextlib import suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from mpfgvc.errors import ConfigError

HEAD_SECONDS = 10
"""For the head of a request; a connection that does not send it is closed, at the latest after twice as long."""
DRAIN_SECONDS = 0.2
"""For the heads of requests that were on their way when the server was told to stop."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; port 0 takes a free one. Raises ConfigError."""
    if not 0 <= port < 1 << 16:
        raise ConfigError(f"--port must be 0 to 65535, got {port}")
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
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
            backlog=1024,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=max(1, round(stop_seconds)),
            h11_max_incomplete_event_size=64 * 1024,
        )
    )


def run(app: FastAPI, bound: socket.socket, *, stop_seconds: float) -> None:
    """Serve until SIGTERM, which returns, or Ctrl-C, which raises KeyboardInterrupt."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has stopped
    try:
        server_of(app, stop_seconds=stop_seconds).run(sockets=[bound])
    finally:
        signal.signal(signal.SIGTERM, before)


class _DrainingServer(uvicorn.Server):
    """Takes in what clients have sent before it stops; uvicorn would close on them unread."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what waits in the kernel, refuse what comes later, read for a moment, then stop."""
        listeners, waiting = [listener.dup() for listener in sockets or []], []
        for server in self.servers:
            server.close()
        for listener in listeners:
            with listener, suppress(BlockingIOError):
                while True:
                    waiting.append(listener.accept()[0])
        state = self.lifespan.state
        protocol = partial(_ImpatientProtocol, config=self.config, server_state=self.server_state, app_state=state)
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)
        await asyncio.sleep(DRAIN_SECONDS)
        await super().shutdown(sockets)


class _ImpatientProtocol(H11Protocol):
    """Closes a connection that goes without a request for too long, whatever it sends meanwhile."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._look, None)

    def _look(self, before: RequestResponseCycle | None) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is before and (before is None or before.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(HEAD_SECONDS, self._look, self.cycle)
