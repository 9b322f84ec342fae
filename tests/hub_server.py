"""A real HTTP server that acts as the hub for one folder: whole, gated, cut off in the middle of a file, or broken."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "acme/tiny-vlm"


class HubServer:
    """`state`: "good", "gated" (403), "private" (401), "down" (503) or "cut": the largest file ends half way.

    `served` counts the bytes of files that were sent, `ranges` the starts that were asked for.
    """

    def __init__(self, folder: Path):
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        self.files["evil.bin"] = b"a pickle"
        self.state, self.served, self.ranges, self.asked = "good", 0, [], []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                owner.handle(self, body=False)

            def do_GET(self):
                owner.handle(self, body=True)

            def log_message(self, *_):
                pass

        self.handler = Handler

    def handle(self, request, *, body: bool) -> None:
        """Answer one request as the hub would."""
        path = request.path.partition("?")[0]
        self.asked.append(path)
        api = re.fullmatch(rf"/api/models/{NAME}(?:/(revision|tree)/([^/]+))?(?:/.*)?", path)
        resolve = re.fullmatch(rf"/{NAME}/resolve/([^/]+)/([\w.-]+)", path)
        refusals = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"), "down": (503, "")}
        if self.state in refusals:
            return _say(request, refusals[self.state][0], b"{}", body, error=refusals[self.state][1])
        if not api and not (resolve and resolve[2] in self.files):
            return _say(request, 404, b"{}", body, error="EntryNotFound" if resolve else "RepoNotFound")
        if (api and api[2] or resolve and resolve[1]) not in (None, "main", SHA):
            return _say(request, 404, b"{}", body, error="RevisionNotFound")
        if resolve:
            return self._file(request, self.files[resolve[2]], body)
        listing = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                   for name, data in self.files.items()]
        about = {"id": NAME, "sha": SHA, "tags": [], "siblings": [{"rfilename": name} for name in self.files]}
        return _say(request, 200, json.dumps(listing if api[1] == "tree" else about).encode(), body)

    def _file(self, request, data: bytes, body: bool) -> None:
        start = int((re.match(r"bytes=(\d+)-", request.headers.get("Range") or "") or [0, 0])[1])
        if body and start:
            self.ranges.append(start)
        part, status = data[start:], 206 if start else 200
        stop = len(part) // 2 if self.state == "cut" and len(data) == max(map(len, self.files.values())) else len(part)
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.served += stop if body else 0
        _say(request, status, part[:stop], body, length=len(part), **headers)


def _say(request, status: int, data: bytes, body: bool, *, error: str = "", length: int | None = None, **headers):
    """Headers, then the data where a body is wanted; the connection ends where less comes than was promised."""
    request.send_response(status)
    for name, value in {**headers, **({"X-Error-Code": error} if error else {})}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(data) if length is None else length))
    request.end_headers()
    if body:
        request.wfile.write(data)
        request.close_connection = length is not None and len(data) < length


@contextmanager
def hub_server(folder: Path) -> Iterator[tuple[HubServer, str]]:
    """The server and its address."""
    hub = HubServer(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub.handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
