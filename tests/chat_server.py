"""A real HTTP server with /v1/chat/completions that answers as each test says: well, late, wrongly, or not at all."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatServer:
    """`answer(number, request)` acts on request `number` (from 0) by calling one method of the handler it gets."""

    def __init__(self, answer: Callable):
        self.answer, self.requests, self.headers = answer, [], []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            """One request."""

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.requests.append(body | {"path": self.path})
                owner.headers.append(dict(self.headers))
                owner.answer(len(owner.requests) - 1, body, self)

            def log_message(self, *_):
                pass

            def say(self, content, *, usage=True, finish="stop"):
                """A sound reply with this text."""
                reply = {"model": "served", "choices": [{"message": {"content": content}, "finish_reason": finish}]}
                self.raw(json.dumps(reply | ({"usage": {"total_tokens": 100}} if usage else {})).encode())

            def raw(self, body, *, promise=0, status=200, headers=()):
                """These bytes; the header promises `promise` more than come."""
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + promise))
                self.end_headers()
                self.wfile.write(body)

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

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):  # a client that gave up
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@contextmanager
def serving(answer: Callable) -> Iterator[ChatServer]:
    """A server for the time of a block."""
    server = ChatServer(answer)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        thread.join()
        server.http.server_close()
