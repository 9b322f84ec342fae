"""Real HTTP servers: a chat model's, which answers well, late, wrongly or not at all, and the hub's for one folder."""

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "0123456789abcdef0123456789abcdef01234567"
NAME = "acme/tiny-vlm"
REFUSALS = {"gated": (403, "GatedRepo"), "private": (401, "RepoNotFound"), "down": (503, "")}


class Server(ThreadingHTTPServer):
    """At `url`; its handler reads and writes what a test looks at."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):  # a client that gave up
        pass


@contextmanager
def listening(server: Server) -> Iterator[Server]:
    """The server for the time of a block."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    def log_message(self, *_):
        pass

    def raw(self, body, *, promise=0, status=200, headers=()):
        """These bytes; the header promises `promise` more than come."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) + promise))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Chat(Handler):
    """/v1/chat/completions."""

    def do_POST(self):
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.requests.append(body | {"path": self.path})
        server.headers.append(dict(self.headers))
        server.answer(len(server.requests) - 1, body, self)

    def say(self, content, *, usage=True):
        """A sound reply with this text."""
        reply = {"model": "served", "choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
        self.raw(json.dumps(reply | ({"usage": {"total_tokens": 100}} if usage else {})).encode())

    def fail(self, status, **headers):
        """A refusal."""
        self.raw(b'{"error": "refused"}', status=status, headers=headers.items())

    def trickle(self, seconds, header=b""):
        """A byte now and then, each in time, the whole too late; or a header now and then."""
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.flush_headers() if header else self.end_headers()
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            try:
                self.wfile.write(header or b" ")
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.05)


@contextmanager
def serving(answer: Callable) -> Iterator[Server]:
    """A chat model's server: `answer(number, request, handler)` acts on request `number` (from 0) by calling one method
    of the handler. `requests` and `headers` are those that came."""
    with listening(Server(Chat)) as server:
        server.answer, server.requests, server.headers, server.url = answer, [], [], f"{server.url}/v1"
        yield server


class Hub(Handler):
    """The hub's addresses of one repository."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Answer as the hub would."""
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(path)
        api = re.fullmatch(rf"/api/models/{NAME}(?:/(revision|tree)/([^/]+))?(?:/.*)?", path)
        resolve = re.fullmatch(rf"/{NAME}/resolve/([^/]+)/([\w.-]+)", path)
        if hub.state in REFUSALS:
            return self.refuse(*REFUSALS[hub.state])
        if not api and not (resolve and resolve[2] in hub.files):
            return self.refuse(404, "EntryNotFound" if resolve else "RepoNotFound")
        if (api and api[2] or resolve and resolve[1]) not in (None, "main", SHA):
            return self.refuse(404, "RevisionNotFound")
        if resolve:
            return self.file(hub.files[resolve[2]])
        listing = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                   for name, data in hub.files.items()]
        about = {"id": NAME, "sha": SHA, "tags": [], "siblings": [{"rfilename": name} for name in hub.files]}
        return self.raw(json.dumps(listing if api[1] == "tree" else about).encode())

    do_HEAD = do_GET

    def refuse(self, status, error):
        """The hub's own way to say why."""
        self.raw(b"{}", status=status, headers=[("X-Error-Code", error)] if error else ())

    def file(self, data):
        """Its bytes from where they are asked for; where the hub cuts, half of the largest file's."""
        hub, start = self.server, int((re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") or [0, 0])[1])
        part, largest = data[start:], max(map(len, hub.files.values()))
        stop = len(part) // 2 if hub.state == "cut" and len(data) == largest else len(part)
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": SHA}
        headers |= {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        if self.command == "GET":
            hub.ranges += [start] if start else []
            hub.served += stop
            self.close_connection = stop < len(part)
        self.raw(part[:stop], promise=len(part) - stop, status=206 if start else 200, headers=headers.items())


@contextmanager
def hub_server(folder: Path) -> Iterator[Server]:
    """The hub for this folder. `state` is "good", "gated" (403), "private" (401), "down" (503) or "cut": the largest
    file ends half way. `served` counts the bytes of files that were sent, `ranges` the starts that were asked for."""
    with listening(Server(Hub)) as hub:
        hub.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
        hub.files["evil.bin"] = b"a pickle"
        hub.state, hub.served, hub.ranges, hub.asked = "good", 0, [], []
        yield hub
