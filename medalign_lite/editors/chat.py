"""Ask a chat model for JSON: any server with /v1/chat/completions, within a budget, every reply kept on disk.

Nothing is sent unless ALLOW_NETWORK=1, not even to this machine, and never before a line has said what leaves and where
to. A reply is kept in one file named by the hash of its request, so a run that stopped goes on without paying twice.
"""

import asyncio
import email.utils
import hashlib
import json
import os
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jsonschema
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from medalign_lite.files import write_text

LOOPBACK = ("localhost", "127.0.0.1", "::1")
PASSING = (408, 409, 425, 429, 500, 502, 503, 504)  # status codes after which the same request may succeed
HINTS = {
    400: "does the server know response_format json_schema, and the model this many tokens?",
    401: "set LLM_API_KEY", 403: "set LLM_API_KEY", 404: "are URL= and the model's name right?",
}  # fmt: skip
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

    `url` ends before /chat/completions ("http://127.0.0.1:11434/v1"). `timeout`: seconds for one whole reply, from the
    first byte sent to the last one read. `backoff`: seconds before the second attempt, doubled each time. A key is read
    from LLM_API_KEY and kept nowhere."""

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
    """A model behind an endpoint that is asked once only: each reply is a file of `cache`, named by its request's hash.
    `leaves` says what the requests hold; it goes to `say` with the host before the first of them is sent. `requests`
    and `tokens` were spent by this run, `kept` replies were read from disk."""

    def __init__(self, endpoint: Endpoint, budget: Budget, *, cache: Path, leaves: str, say: Callable[[str], None]):
        self.endpoint, self.budget, self.cache, self.leaves, self.say = endpoint, budget, Path(cache), leaves, say
        self.name, self.host = endpoint.model, _host(endpoint.url)
        self.requests = self.tokens = self.kept = 0

    def ask(self, system: str, text: str, *, name: str, schema: dict) -> dict:
        """The model's JSON, which fits `schema` (JSON Schema; `name` is its name in the request). Raises BadReply where
        no attempt gave such JSON (that is kept too, so a rerun raises it at no cost), and ChatError where the model
        cannot be asked, or the budget is spent."""
        request = {
            "model": self.endpoint.model,
            "messages": [{"role": "system", "content": system}, {"role": "user", "content": text}], "temperature": 0,
            "max_tokens": self.endpoint.max_reply_tokens,
            "response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}},
        }  # fmt: skip
        named = json.dumps([self.endpoint.url, request], sort_keys=True)
        path = self.cache / f"{hashlib.sha256(named.encode()).hexdigest()}.json"
        content = _read_kept(path, request)
        if content is None:
            content = self._fetch(request, schema, path)
        else:
            self.kept += 1
        return parse_reply(content, schema)

    def progress(self) -> str:
        """What was used of the budget, in a line."""
        asked = f"{self.requests} of {self.budget.requests} requests, {self.tokens} of {self.budget.tokens} tokens"
        return f"{asked}; {self.kept} replies were here already"

    def _fetch(self, request: dict, schema: dict, path: Path) -> str:
        """The content of the first reply that fits, or of the last one; kept at `path`, the key struck out."""
        attempts, backoff = self.endpoint.attempts, self.endpoint.backoff

        def pause(state: RetryCallState) -> float:
            asked = state.outcome.exception().wait
            return backoff * 2 ** (state.attempt_number - 1) if asked is None else asked

        def tell(state: RetryCallState) -> None:
            self.say(f"{self.host}: {state.outcome.exception()}; again in {state.next_action.sleep:.1f} s")

        tries = Retrying(retry=retry_if_exception_type(_Passing), stop=stop_after_attempt(attempts), wait=pause,
                         before_sleep=tell, reraise=True)
        try:
            for one in tries:
                with one:
                    seed = one.retry_state.attempt_number - 1
                    content = self._send(request | {"seed": seed})
                    try:
                        parse_reply(content, schema)
                    except BadReply as error:
                        if seed + 1 < attempts:
                            raise _Passing("a reply that does not fit the schema", wait=0) from error
        except _Passing as trouble:
            raise ChatError(f"{self.host}: {trouble}, {attempts} times; {self._later()}") from trouble
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = {"request": request, "content": content, "host": self.host}
        write_text(path, _struck(json.dumps(kept, indent=1)) + "\n")
        return _struck(content)

    def _send(self, request: dict) -> str:
        """The text of one request's reply. Raises _Passing for what may pass, ChatError for what will not."""
        body = json.dumps(request, ensure_ascii=False).encode()
        self._permit(len(body) // BYTES_A_TOKEN + self.endpoint.max_reply_tokens)
        self.requests += 1
        url = f"{self.endpoint.url.rstrip('/')}/chat/completions"
        with ThreadPoolExecutor(1) as apart:  # a notebook's thread has an event loop of its own
            try:
                status, wait, raw = apart.submit(asyncio.run, _post(url, body, self.endpoint.timeout)).result()
            except (TimeoutError, httpx.HTTPError) as error:
                self.tokens += len(body) // BYTES_A_TOKEN
                late, other = f"within {self.endpoint.timeout:g} s", f"({_struck(str(error)) or type(error).__name__})"
                raise _Passing(f"no whole reply {late if isinstance(error, TimeoutError) else other}") from error
        if status != 200:
            raise self._refused(status, wait, raw)
        guess = (len(body) + len(raw)) // BYTES_A_TOKEN  # where the server does not say
        try:
            reply = json.loads(raw)
        except (ValueError, RecursionError) as error:
            self.tokens += guess
            raise _Passing("a reply that is not JSON") from error
        usage = reply.get("usage") if isinstance(reply, dict) else None
        used = usage.get("total_tokens") if isinstance(usage, dict) else None
        self.tokens += used if isinstance(used, int) and used > 0 else guess
        try:
            content = reply["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise _Passing("a reply without choices[0].message.content") from error
        return content if isinstance(content, str) else ""

    def _permit(self, tokens: int) -> None:
        """Raise ChatError unless this may be sent and the budget holds it; say once what leaves."""
        if os.environ.get("ALLOW_NETWORK") != "1":
            raise ChatError(f"nothing was sent to {self.host}: set ALLOW_NETWORK=1 to send {self.leaves}")
        if self.requests >= self.budget.requests:
            raise ChatError(f"the budget of {self.budget.requests} requests is spent; {self._later()}")
        if self.tokens + tokens > self.budget.tokens:
            raise ChatError(f"{self.tokens} of {self.budget.tokens} tokens are spent, and the next request may take "
                            f"{tokens}; {self._later()}")
        if not self.requests:
            self.say(f"sent to {self.host}: {self.leaves}")

    def _refused(self, status: int, wait: float | None, raw: bytes) -> Exception:
        if status in PASSING:
            if wait is None or wait <= LONGEST_WAIT:
                return _Passing(f"HTTP {status}", wait)
            return ChatError(f"{self.host} asks to wait {wait:.0f} s (HTTP {status}); {self._later()}")
        hint = HINTS.get(status, "redirections are not followed" if status < 400 else "see the server's log")
        said = _struck(raw[:300].decode(errors="replace").strip())
        return ChatError(f"{self.host} refused: HTTP {status} {said!r}; {hint}")

    def _later(self) -> str:
        return f"all replies so far are kept in {self.cache}: the same command goes on from there"


async def _post(url: str, body: bytes, seconds: float) -> tuple[int, float | None, bytes]:
    """(status, seconds to wait if it names some, body). Redirections would carry text and key elsewhere: not followed.
    Raises TimeoutError where the whole takes longer than `seconds`, and httpx.HTTPError, of which a body above
    LARGEST_REPLY is one."""
    headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
    if key := os.environ.get("LLM_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    proxies = urlsplit(url).hostname not in LOOPBACK
    async with (
        httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=proxies) as client, asyncio.timeout(seconds),
        client.stream("POST", url, content=body, headers=headers) as response,
    ):
        raw = b""
        async for part in response.aiter_raw():
            raw += part
            if len(raw) > LARGEST_REPLY:
                raise httpx.ReadError(f"a reply of more than {LARGEST_REPLY} bytes")
        return response.status_code, _retry_after(response.headers.get("Retry-After")), raw


def parse_reply(content: str, schema: dict) -> dict:
    """The JSON of a reply. Raises BadReply where it is not JSON or text, names a key twice, does not fit, or holds
    characters that nobody sees (control, direction and joining marks)."""
    try:
        value = json.loads(content, object_pairs_hook=_unique)
        jsonschema.Draft202012Validator(schema).validate(value)
        text = json.dumps(value, ensure_ascii=False)
        text.encode()  # half a surrogate pair could not be written later
    except (ValueError, RecursionError, jsonschema.ValidationError) as error:
        raise BadReply(str(error).splitlines()[0]) from error
    if unseen := {f"U+{ord(c):04X}" for c in _texts(value) if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"}:
        raise BadReply(f"it holds {', '.join(sorted(unseen))}, which nobody sees")
    return value


def _texts(value: object) -> str:
    """All text in a JSON value."""
    if isinstance(value, str):
        return value
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return "".join(map(_texts, inner))


def _host(url: str) -> str:
    """Host and port, and whether what goes there can be read on the way. Raises ChatError for what is no endpoint."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, or none that there is
        sound = False
    if not sound or parts.username or parts.query:
        raise ChatError("this is no endpoint; give one such as http://127.0.0.1:11434/v1, and a key in LLM_API_KEY")
    open_way = parts.scheme == "http" and parts.hostname not in LOOPBACK
    return parts.netloc + (" (not encrypted)" if open_way else "")


def _struck(text: str) -> str:
    """The text without the key, which a server may send back."""
    key = os.environ.get("LLM_API_KEY")
    return text.replace(key, "***") if key else text


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


def _read_kept(path: Path, request: dict) -> str | None:
    """The content of a kept reply; None where there is none, or its file is damaged."""
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
        return entry["content"] if entry["request"] == request else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
