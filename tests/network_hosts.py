"""Hosts on one machine: network namespaces on a bridge, which see each other only through their cables."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Host:
    """A namespace with one address; `cable` is the end of its cable at the bridge."""

    name: str
    address: str
    cable: str

    def start(self, *command: object, **environment: str) -> "subprocess.Popen[str]":
        """Start a command on this host."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(str, command)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "eth0"} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def unplug(self) -> None:
        """Cut the host off: nothing arrives any more, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def plug_in(self) -> None:
        """Bring it back."""
        _ip("link", "set", self.cable, "up")


def why_no_hosts() -> str | None:
    """Why this machine cannot make namespaces, for a skip; None if it can."""
    name = f"mpfgvc-try-{os.getpid()}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespaces here (root and iproute2 are needed): {error}"
    return None


@contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts on one bridge, 10.77.0.1 the first; they are gone at the end, with what runs on them."""
    number = os.getpid() % 100_000
    bridge = f"br{number}"
    made = [
        Host(name=f"mpfgvc-{number}-{index}", address=f"10.77.0.{index + 1}", cable=f"c{number}-{index}")
        for index in range(count)
    ]
    try:
        _ip("link", "add", bridge, "type", "bridge")
        _ip("link", "set", bridge, "up")
        for host in made:
            _connect(host, bridge)
        yield made
    finally:
        for host in made:
            _kill_all_on(host)
            subprocess.run(["ip", "netns", "delete", host.name], check=False)
        subprocess.run(["ip", "link", "delete", bridge], check=False)


def _connect(host: Host, bridge: str) -> None:
    _ip("netns", "add", host.name)
    _ip("link", "add", host.cable, "type", "veth", "peer", "name", "eth0", "netns", host.name)
    _ip("link", "set", host.cable, "master", bridge, "up")
    _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", "eth0")
    _ip("-n", host.name, "link", "set", "eth0", "up")
    _ip("-n", host.name, "link", "set", "lo", "up")


def _kill_all_on(host: Host) -> None:
    found = subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True, check=False)
    for process in found.stdout.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
