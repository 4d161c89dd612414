"""A hub on this machine: what timm and open_clip ask of huggingface.co, answered from a folder."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>[^/?]+)")


class _Answers(BaseHTTPRequestHandler):
    """HEAD and GET of `user/name/file` below a folder; anything else is not found."""

    def __init__(self, folder: Path, *arguments: object):
        self.folder = folder
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        """Size, digest and commit of a file."""
        self._answer()

    def do_GET(self) -> None:
        """The file itself."""
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        match = _FILE.match(self.path)
        file = self.folder / match["repository"] / match["file"] if match else self.folder / "none"
        if not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return b""
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a hub that serves a folder within the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answers, folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
