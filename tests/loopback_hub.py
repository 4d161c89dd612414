"""A hub on this machine: what timm, open_clip and mpfgvc ask of huggingface.co, answered from a folder.

A repository is a folder `user/name`. Anyone may read it; `me` may write it with TOKEN. All files are sent
within the commit, where the true hub would take large ones beforehand.
"""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub
import pytest

TOKEN = "hf_loopback"  # noqa: S105
OWNER = "me"
_NAME = r"(?P<repository>[^/]+/[^/]+)"
_FILE = re.compile(rf"/{_NAME}/resolve/[^/]+/(?P<file>[^/?]+)")
_ABOUT = re.compile(rf"/api/models/{_NAME}(?P<tree>/tree/[^/?]+)?(?:/revision/[^/?]+)?(?:\?.*)?")
_WRITTEN = re.compile(rf"/api/models/{_NAME}/(?P<action>preupload|commit)/[^/?]+")
_PRIVATE = ".private"


def commit_of(repository: Path) -> str:
    """The name of what a repository holds now."""
    digests = "".join(f"{file.name} {_sha256(file)}\n" for file in _files(repository))
    return hashlib.sha1(digests.encode(), usedforsecurity=False).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    """The requests of the clients; anything else is not found."""

    def __init__(self, folder: Path, on_push: Callable[[], None], *arguments: object):
        self.folder, self.on_push = folder, on_push
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        """Size, digest and commit of a file."""
        self._file()

    def do_GET(self) -> None:
        """A file; or what is known about a repository, or its files."""
        if (file := self._file()) is not None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, self.wfile)

    def do_POST(self) -> None:
        """A step of a push."""
        body = self._body()
        match = _WRITTEN.match(self.path)
        if self.path == "/api/validate-yaml":
            self._json({"errors": [], "warnings": []})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "Invalid credentials")
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif match and match["action"] == "preupload":
            self.on_push()
            repository = self.folder / match["repository"]
            self._json({"files": [_mode(repository / file["path"]) for file in json.loads(body)["files"]]})
        elif match:
            self._commit(match["repository"], [json.loads(line) for line in body.splitlines()])
        else:
            self._refuse(404, "no such route")

    def _file(self) -> Path | None:
        """Answer all but the content of a file; the file itself, if it is one that was asked for."""
        match = _FILE.match(self.path)
        file = self.folder / match["repository"] / match["file"] if match else self.folder / "none"
        if match and file.is_file():
            etag = f'"{_sha256(file)}"'
            self._head(200, file.stat().st_size, {"ETag": etag, "X-Repo-Commit": commit_of(file.parent)})
            return file
        about = _ABOUT.fullmatch(self.path)
        if about and (self.folder / about["repository"]).is_dir():
            self._about(self.folder / about["repository"], tree=about["tree"] is not None)
        else:
            self._refuse(404, "not found", {"X-Error-Code": "EntryNotFound" if match else "RepoNotFound"})
        return None

    def _about(self, repository: Path, *, tree: bool) -> None:
        files = _files(repository)
        if tree:
            sizes = [(file.name, file.stat().st_size, _sha256(file)) for file in files]
            self._json([{"type": "file", "path": name, "size": size, "oid": oid} for name, size, oid in sizes])
            return
        private = (repository / _PRIVATE).exists()
        siblings = [{"rfilename": file.name} for file in files]
        name = repository.relative_to(self.folder).as_posix()
        self._json({"id": name, "sha": commit_of(repository), "private": private, "siblings": siblings})

    def _create(self, wanted: dict[str, Any]) -> None:
        repository = self.folder / wanted["organization"] / wanted["name"]
        if wanted["organization"] != OWNER:
            self._refuse(403, "You don't have the rights to create a model under this namespace")
        elif repository.is_dir():
            self._json({"url": f"{self._address}/{OWNER}/{repository.name}"}, status=409)
        else:
            repository.mkdir(parents=True)
            if wanted.get("visibility") == "private" or wanted.get("private"):
                (repository / _PRIVATE).touch()
            self._json({"url": f"{self._address}/{OWNER}/{repository.name}"})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.folder / name
        for line in lines:
            if line["key"] == "file":
                (repository / line["value"]["path"]).write_bytes(base64.b64decode(line["value"]["content"]))
        commit = commit_of(repository)
        self._json({"commitUrl": f"{self._address}/{name}/commit/{commit}", "commitOid": commit, "hookOutput": ""})

    @property
    def _address(self) -> str:
        return f"http://{self.headers['Host']}"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _json(self, document: object, *, status: int = 200) -> None:
        content = json.dumps(document).encode()
        self._head(status, len(content), {"Content-Type": "application/json"})
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._head(status, 0, {"X-Error-Message": message, **(headers or {})})

    def _head(self, status: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def environment(address: str, cache: Path) -> dict[str, str]:
    """What a process needs to ask the hub at this address, and to keep what it gets in `cache`."""
    return {
        "HF_ENDPOINT": address,
        "HF_HOME": str(cache),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }


def ask(monkeypatch: pytest.MonkeyPatch, address: str, cache: Path) -> None:
    """Let this process ask the hub at this address."""
    constants = huggingface_hub.constants
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


@contextmanager
def serving(folder: Path, *, on_push: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The address of a hub that serves a folder within the block; `on_push` is called before a push."""
    folder.mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, folder, on_push))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _mode(file: Path) -> dict[str, Any]:
    """How a file is to be sent, and git's name of the content that is there already."""
    oid = None
    if file.is_file():
        content = file.read_bytes()
        oid = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return {"path": file.name, "uploadMode": "regular", "shouldIgnore": False, "oid": oid}


def _files(repository: Path) -> list[Path]:
    return sorted(file for file in repository.iterdir() if file.is_file() and file.name != _PRIVATE)


def _sha256(file: Path) -> str:
    state = file.stat()
    return _digest(file, state.st_mtime_ns, state.st_size)


@cache
def _digest(file: Path, _changed: int, _size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
