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
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema

from medalign_lite.files import write_text

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
class Price:
    """What a million tokens of prompts and of replies cost, in `currency`."""

    prompt: float
    reply: float
    currency: str

    def of(self, prompt: int, reply: int, unsplit: int = 0) -> float:
        """What so many tokens cost; those of which it is unknown which they were, at the dearer price."""
        dearer = max(self.prompt, self.reply)
        return (prompt * self.prompt + reply * self.reply + unsplit * dearer) / 1e6


@dataclass(frozen=True)
class Budget:
    """What one run may send: requests, repeated ones included, and tokens, of prompts and replies together."""

    requests: int
    tokens: int


class KeptReplies(ABC):
    """A model that is asked once only: each reply is a file of `cache`, named by the hash of its request.

    `requests`, `prompt_tokens`, `reply_tokens`, `unsplit_tokens` (spent by this run; the last where it is not known
    which of the two they were) and `kept` (replies read from disk) count.
    """

    def __init__(self, name: str, budget: Budget, *, cache: Path, price: Price | None):
        self.name, self.budget, self.cache, self.price = name, budget, Path(cache), price
        self.requests = self.prompt_tokens = self.reply_tokens = self.unsplit_tokens = self.kept = 0

    @property
    def tokens(self) -> int:
        """All that were spent."""
        return self.prompt_tokens + self.reply_tokens + self.unsplit_tokens

    def ask(self, system: str, text: str, *, name: str, schema: dict) -> dict:
        """The model's JSON, which fits `schema` (JSON Schema; `name` is its name in the request).

        Raises:
            BadReply: where no attempt gave such JSON; that is kept too, so a rerun raises it at no cost.
            ChatError: where the model cannot be asked, or the budget is spent.
        """
        request = self._request(system, text, name, schema)
        path = self.cache / f"{_digest([self._where(), request])}.json"
        content = _read_kept(path, request)
        if content is None:
            content = self._fetch(request, schema, path)
        else:
            self.kept += 1
        return parse_reply(content, schema)

    def cost(self) -> str:
        """What this run cost, or why that is not known."""
        if self.price is None:
            return self._unpriced()
        money = self.price.of(self.prompt_tokens, self.reply_tokens, self.unsplit_tokens)
        return f"{money:.4f} {self.price.currency}"

    def spent(self) -> str:
        """What was used and what that cost, in few words."""
        return f"{self.requests} requests, {self.tokens} tokens, {self.cost()}"

    def progress(self) -> str:
        """What was used of the budget, and what that cost, in a line."""
        asked = f"{self.requests} of {self.budget.requests} requests, {self.tokens} of {self.budget.tokens} tokens"
        return f"{asked}; {self.kept} replies were here already; {self.cost()}"

    def _permit(self, tokens: int) -> None:
        """Raise ChatError unless the budget holds one more request of at most so many tokens."""
        if self.requests >= self.budget.requests:
            raise ChatError(f"the budget of {self.budget.requests} requests is spent; {self._later()}")
        if self.tokens + tokens > self.budget.tokens:
            raise ChatError(
                f"{self.tokens} of {self.budget.tokens} tokens are spent, and the next request may take {tokens}; "
                f"{self._later()}"
            )

    def _later(self) -> str:
        return f"all replies so far are kept in {self.cache}: the same command goes on from there"

    def _unpriced(self) -> str:
        return "price unknown"

    @abstractmethod
    def _where(self) -> str:
        """Where the model is; replies of another are not taken for its own."""

    @abstractmethod
    def _request(self, system: str, text: str, name: str, schema: dict) -> dict:
        """All that the reply depends on."""

    @abstractmethod
    def _fetch(self, request: dict, schema: dict, path: Path) -> str:
        """The content of the first reply that fits, or of the last one; kept at `path`."""


class Chat(KeptReplies):
    """A model behind an endpoint. `leaves` says what the requests hold; it goes to `say` with the host before the first
    of them is sent."""

    def __init__(
        self, endpoint: Endpoint, budget: Budget, *, cache: Path, leaves: str, say: Callable[[str], None],
        price: Price | None = None,
    ):  # fmt: skip
        super().__init__(endpoint.model, budget, cache=cache, price=price)
        self.endpoint, self.leaves, self.say = endpoint, leaves, say
        self.host = _host(endpoint.url)
        self._told = False

    def _where(self) -> str:
        return self.endpoint.url

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
            if last or fits(content, schema):
                keep(path, {"request": request, "content": content, "attempt": attempt, "usage": reply.get("usage"),
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
            self.prompt_tokens += len(body) // BYTES_A_TOKEN
            raise _Passing(f"no whole reply ({error or type(error).__name__})") from error
        except (ValueError, RecursionError) as error:
            self._count(None, body, raw)
            raise _Passing("a reply that is not JSON") from error
        self._count(reply, body, raw)
        return reply

    def _count(self, reply: object, body: bytes, raw: bytes) -> None:
        """Add the tokens that the server says it used, else an estimate from the lengths."""
        prompt, answer, total = (_used(reply, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens"))
        if prompt and prompt + answer >= total:
            self.prompt_tokens += prompt
            self.reply_tokens += answer
        elif total:
            self.unsplit_tokens += total
        else:
            self.prompt_tokens += len(body) // BYTES_A_TOKEN
            self.reply_tokens += len(raw) // BYTES_A_TOKEN

    def _permit(self, tokens: int) -> None:
        """As for any model, and nothing without ALLOW_NETWORK=1; say once what leaves."""
        if os.environ.get("ALLOW_NETWORK") != "1":
            raise ChatError(f"nothing was sent to {self.host}: set ALLOW_NETWORK=1 to send {self.leaves}")
        super()._permit(tokens)
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


def _used(reply: object, name: str) -> int:
    usage = reply.get("usage") if isinstance(reply, dict) else None
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0


def fits(content: str, schema: dict) -> bool:
    """Whether `parse_reply` takes it."""
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


def keep(path: Path, entry: dict) -> None:
    """Write a reply's file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(entry, indent=1) + "\n")
