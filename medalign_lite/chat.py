"""Ask a chat model for JSON: any server with /v1/chat/completions, within a budget, every reply kept on disk.

Nothing is sent unless ALLOW_NETWORK=1, not even to this machine, and never before a line has said what leaves and where
to. A reply is kept in one file named by the hash of its request, so a run that stopped goes on without paying twice.
"""

import email.utils
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)  # status codes after which the same request may succeed
LONGEST_WAIT = 300.0  # seconds; a server that asks for more ends the run
LARGEST_REPLY = 4_000_000  # bytes
BYTES_A_TOKEN = 3  # fewer than English has, so that an estimate is rather too high


class ChatError(RuntimeError):
    """The server cannot be used, or the budget is spent. Replies so far are kept: the same command goes on."""


class BadReply(ValueError):
    """The model answered, several times, something that is not what the schema asks for."""


class _Passing(Exception):
    """A failure that may pass. `wait`: the seconds that the server asks for."""

    def __init__(self, what: str, wait: float | None = None):
        super().__init__(what)
        self.wait = wait


@dataclass(frozen=True)
class Endpoint:
    """Where the model is and how patiently it is asked.

    `url` ends before /chat/completions ("http://127.0.0.1:11434/v1"). `timeout`: seconds for one whole reply.
    `backoff`: seconds before the second attempt, doubled each time. A key is read from LLM_API_KEY and kept nowhere.
    """

    url: str
    model: str
    timeout: float = 120.0
    attempts: int = 5
    backoff: float = 1.0
    max_reply_tokens: int = 1024


@dataclass(frozen=True)
class Budget:
    """What one run may send: requests, repeated ones included, and tokens, of prompts and replies together."""

    requests: int
    tokens: int


class Chat:
    """A model behind an endpoint. `requests`, `tokens` (spent by this run) and `kept` (replies read from disk) count.

    `leaves` says what the requests hold; it goes to `say` with the host before the first of them is sent.
    """

    def __init__(self, endpoint: Endpoint, budget: Budget, *, cache: Path, leaves: str, say: Callable[[str], None]):
        self.endpoint, self.budget, self.cache, self.leaves, self.say = endpoint, budget, Path(cache), leaves, say
        self.host = _host(endpoint.url)
        self.requests = self.tokens = self.kept = 0
        self._told = False

    def ask(self, system: str, text: str, *, name: str, schema: dict) -> dict:
        """The model's JSON, which fits `schema` (JSON Schema; `name` is its name in the request).

        Raises:
            BadReply: where no attempt gave such JSON; that is kept too, so a rerun raises it at no cost.
            ChatError: where the server cannot be reached or refuses, or the budget is spent.
        """
        request = self._request(system, text, name, schema)
        path = self.cache / f"{_digest([self.endpoint.url, request])}.json"
        content = _read_kept(path, request)
        if content is None:
            content = self._fetch(request, schema, path)
        else:
            self.kept += 1
        return parse_reply(content, schema)

    def progress(self) -> str:
        """What was used, in a line."""
        asked = f"{self.requests} of {self.budget.requests} requests, {self.tokens} of {self.budget.tokens} tokens"
        return f"{asked}; {self.kept} replies were here already"

    def _request(self, system: str, text: str, name: str, schema: dict) -> dict:
        return {
            "model": self.endpoint.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}],
            "temperature": 0,
            "max_tokens": self.endpoint.max_reply_tokens,
            "response_format": {
                "type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema},
            },
        }  # fmt: skip

    def _fetch(self, request: dict, schema: dict, path: Path) -> str:
        """The content of the first reply that fits, or of the last one; kept at `path`."""
        for attempt in range(self.endpoint.attempts):
            last = attempt + 1 == self.endpoint.attempts
            try:
                reply = self._send(request | {"seed": attempt})
                content = _content(reply)
            except _Passing as trouble:
                if last:
                    raise ChatError(f"{self.host}: {trouble}, {attempt + 1} times; {self._later()}") from trouble
                self._wait(trouble, attempt)
                continue
            if last or _fits(content, schema):
                _keep(path, {"request": request, "content": content, "attempt": attempt, "usage": reply.get("usage"),
                             "model": reply.get("model"), "host": self.host})  # fmt: skip
                return content
        raise ValueError("attempts must be at least 1")

    def _send(self, request: dict) -> dict:
        """One request. Raises _Passing for what may pass, ChatError for what will not."""
        body = json.dumps(request, ensure_ascii=False).encode()
        self._permit(len(body) // BYTES_A_TOKEN + self.endpoint.max_reply_tokens)
        self.requests += 1
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get("LLM_API_KEY"):
            headers["Authorization"] = f"Bearer {key}"
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        raw = b""
        try:
            opened = _opener(url).open(urllib.request.Request(url, body, headers), timeout=self.endpoint.timeout)
            with opened as response:
                raw = _read(response, self.endpoint.timeout)
            reply = json.loads(raw)
        except urllib.error.HTTPError as error:
            raise self._refused(error) from error
        except (OSError, http.client.HTTPException) as error:  # URLError and TimeoutError are OSErrors
            self.tokens += len(body) // BYTES_A_TOKEN
            raise _Passing(f"no whole reply ({error or type(error).__name__})") from error
        except (ValueError, RecursionError) as error:
            self.tokens += (len(body) + len(raw)) // BYTES_A_TOKEN
            raise _Passing("a reply that is not JSON") from error
        self.tokens += _used(reply) or (len(body) + len(raw)) // BYTES_A_TOKEN
        return reply

    def _permit(self, tokens: int) -> None:
        """Raise ChatError unless one more request of at most so many tokens may be sent; say once what leaves."""
        if os.environ.get("ALLOW_NETWORK") != "1":
            raise ChatError(f"nothing was sent to {self.host}: set ALLOW_NETWORK=1 to send {self.leaves}")
        if self.requests >= self.budget.requests:
            raise ChatError(f"the budget of {self.budget.requests} requests is spent; {self._later()}")
        if self.tokens + tokens > self.budget.tokens:
            raise ChatError(
                f"{self.tokens} of {self.budget.tokens} tokens are spent, and the next request may take {tokens}; "
                f"{self._later()}"
            )
        if not self._told:
            self.say(f"sent to {self.host}: {self.leaves}")
            self._told = True

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        with error:
            said = error.read(300).decode(errors="replace").strip()
        if error.code in PASSING:
            wait = _retry_after(error.headers.get("Retry-After"))
            if wait is None or wait <= LONGEST_WAIT:
                return _Passing(f"HTTP {error.code}", wait)
            return ChatError(f"{self.host} asks to wait {wait:.0f} s (HTTP {error.code}); {self._later()}")
        hint = {
            400: "does the server know response_format json_schema, and the model this many tokens?",
            401: "set LLM_API_KEY", 403: "set LLM_API_KEY", 404: f"is {self.endpoint.url} right, and the model's name?",
        }.get(error.code, "redirections are not followed" if error.code < 400 else "see the server's log")  # fmt: skip
        return ChatError(f"{self.host} refused: HTTP {error.code} {said!r}; {hint}")

    def _wait(self, trouble: _Passing, attempt: int) -> None:
        wait = self.endpoint.backoff * 2**attempt if trouble.wait is None else trouble.wait
        self.say(f"{self.host}: {trouble}; again in {wait:.1f} s")
        time.sleep(wait)

    def _later(self) -> str:
        return f"all replies so far are kept in {self.cache}: the same command goes on from there"


def parse_reply(content: str, schema: dict) -> dict:
    """The JSON of a reply. Raises BadReply where it is not JSON or text, names a key twice, or does not fit."""
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        jsonschema.Draft202012Validator(schema).validate(value)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be written later
    except (ValueError, RecursionError, jsonschema.ValidationError) as error:
        raise BadReply(str(error).splitlines()[0]) from error
    return value


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirection would carry text and key to a host that nobody was told of."""

    def redirect_request(self, *_):
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    direct = [urllib.request.ProxyHandler({})] if urlsplit(url).hostname in LOOPBACK else []
    return urllib.request.build_opener(_NoRedirect, *direct)


def _host(url: str) -> str:
    """Host and port, and whether what goes there can be read on the way. Raises ChatError for what is no endpoint."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ChatError("this is no endpoint; give one such as http://127.0.0.1:11434/v1, and a key in LLM_API_KEY")
    open_way = parts.scheme == "http" and parts.hostname not in LOOPBACK
    return parts.netloc + (" (not encrypted)" if open_way else "")


def _read(response: http.client.HTTPResponse, timeout: float) -> bytes:
    """The whole body within `timeout` seconds. Raises TimeoutError, IncompleteRead, or ValueError where too long."""
    stop, parts, length = time.monotonic() + timeout, [], 0
    while part := response.read1(65536):
        parts.append(part)
        length += len(part)
        if time.monotonic() > stop:
            raise TimeoutError(f"longer than {timeout:g} s")
        if length > LARGEST_REPLY:
            raise ValueError("too long")
    promised = response.headers.get("Content-Length")
    if promised and promised.isdigit() and length < int(promised):
        raise http.client.IncompleteRead(b"".join(parts), int(promised) - length)
    return b"".join(parts)


def _content(reply: object) -> str:
    """The text of the first choice. Raises _Passing where there is none."""
    try:
        content = reply["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise _Passing("a reply without choices[0].message.content") from error
    return content if isinstance(content, str) else ""


def _used(reply: object) -> int:
    usage = reply.get("usage") if isinstance(reply, dict) else None
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    return total if isinstance(total, int) and total > 0 else 0


def _fits(content: str, schema: dict) -> bool:
    try:
        parse_reply(content, schema)
    except BadReply:
        return False
    return True


def _unique(pairs: list[tuple[str, object]]) -> dict:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait: the header holds seconds or a date."""
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _read_kept(path: Path, request: dict) -> str | None:
    """The content of a kept reply; None where there is none, or its file is damaged."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        return entry["content"] if entry["request"] == request else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, entry: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
