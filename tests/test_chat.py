"""The client of chat models against a real server that answers well, slowly, wrongly, in part, or not at all."""

import email.utils
import json
import time

import pytest
from servers import serving

from medalign_lite.editors.chat import BadReply, Budget, Chat, ChatError, Endpoint, parse_reply

SCHEMA = {
    "type": "object", "properties": {"side": {"type": "string", "enum": ["left", "right"]}}, "required": ["side"],
    "additionalProperties": False,
}
GOOD = '{"side": "left"}'


@pytest.fixture(autouse=True)
def allowed(monkeypatch):
    monkeypatch.setenv("ALLOW_NETWORK", "1")
    monkeypatch.delenv("LLM_API_KEY", raising=False)


def well(number, body, http):
    http.say(GOOD)


def chat_with(server, folder, *, requests=20, tokens=100_000, said=None, **settings):
    endpoint = Endpoint(server.url, "tester", **{"backoff": 0.01, "timeout": 5.0} | settings)
    say = (said if said is not None else []).append
    return Chat(endpoint, Budget(requests, tokens), cache=folder, leaves="text of 1 answer", say=say)


def ask(chat, text="Which side?"):
    return chat.ask("Say it.", text, name="side", schema=SCHEMA)


def test_a_good_server_is_asked_by_schema_and_once_only(tmp_path):
    said = []
    with serving(well) as server:
        chat = chat_with(server, tmp_path, said=said)
        assert ask(chat) == ask(chat) == {"side": "left"} and (chat.requests, chat.tokens, chat.kept) == (1, 100, 1)
        assert "1 of 20 requests, 100 of 100000 tokens; 1 replies" in chat.progress()
        assert ask(chat, "And there?") == {"side": "left"}
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions" and len(server.requests) == 2
    assert request["response_format"]["json_schema"] == {"name": "side", "strict": True, "schema": SCHEMA}
    assert [m["content"] for m in request["messages"]] == ["Say it.", "Which side?"]
    assert said == [f"sent to 127.0.0.1:{server.server_port}: text of 1 answer"]  # once, not for each request
    again = chat_with(server, tmp_path)  # another process, later: the server is gone
    assert ask(again) == {"side": "left"} and again.requests == 0


def test_nothing_is_sent_without_permission_but_what_is_here_is_read(tmp_path, monkeypatch):
    said = []
    with serving(well) as server:
        ask(chat_with(server, tmp_path))
        for value in ("", "0", "true"):
            monkeypatch.setenv("ALLOW_NETWORK", value)
            chat = chat_with(server, tmp_path, said=said)
            assert ask(chat) == {"side": "left"}
            with pytest.raises(ChatError, match="nothing was sent to 127.0.0.1.*ALLOW_NETWORK=1 to send text of 1"):
                ask(chat, "Something new?")
        assert len(server.requests) == 1 and said == []


def once(trouble):
    """The trouble first, then a good reply."""
    return lambda number, body, http: trouble(http) if number == 0 else http.say(GOOD)


@pytest.mark.parametrize(("trouble", "word"), [
    (lambda http: http.fail(429), "HTTP 429"),
    (lambda http: http.fail(500), "HTTP 500"),
    (lambda http: http.fail(503), "HTTP 503"),
    (lambda http: time.sleep(1.6), "within 1 s"),
    (lambda http: http.trickle(3.0), "within 1 s"),
    (lambda http: http.trickle(3.0, b"X-Slow: 1\r\n"), "within 1 s"),  # headers that never end
    (lambda http: http.raw(b'{"choices": [{"mess', promise=400), "no whole reply"),
    (lambda http: http.raw(b" " * 4_000_001), "more than 4000000 bytes"),
    (lambda http: http.raw(b'{"choices": [{"mess'), "not JSON"),
    (lambda http: http.raw(b"\xff\xfe<html>"), "not JSON"),
    (lambda http: http.raw(b""), "not JSON"),
    (lambda http: http.raw(b"[" * 200_000), "not JSON"),
    (lambda http: http.raw(b'{"choices": []}'), "without choices"),
    (lambda http: http.raw(b"[1]"), "without choices"),
    (lambda http: http.connection.close(), "no whole reply"),
])
def test_what_may_pass_is_tried_again(tmp_path, trouble, word):
    said = []
    with serving(once(trouble)) as server:
        chat = chat_with(server, tmp_path, timeout=1.0, said=said)
        assert ask(chat) == {"side": "left"} and len(server.requests) == chat.requests == 2
    assert word in said[1] and "again in" in said[1]


def test_a_server_says_how_long_to_wait(tmp_path):
    def limit(number, body, http):
        date = email.utils.formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 from now
        [lambda: http.fail(429, **{"Retry-After": "1"}), lambda: http.fail(503, **{"Retry-After": date}),
         lambda: http.fail(429, **{"Retry-After": "soon"}), lambda: http.say(GOOD)][number]()  # fmt: skip

    said = []
    with serving(limit) as server:
        started = time.monotonic()
        ask(chat_with(server, tmp_path, said=said))
        assert 1.9 < time.monotonic() - started < 6
    assert "again in 1.0 s" in said[1] and len(server.requests) == 4
    with serving(lambda number, body, http: http.fail(429, **{"Retry-After": "86400"})) as server:
        with pytest.raises(ChatError, match="asks to wait 86400 s"):
            ask(chat_with(server, tmp_path))
        assert len(server.requests) == 1


def test_the_back_off_doubles_and_ends(tmp_path):
    said = []
    with serving(lambda number, body, http: http.fail(500)) as server:
        with pytest.raises(ChatError, match="HTTP 500, 4 times; all replies so far are kept"):
            ask(chat_with(server, tmp_path, attempts=4, backoff=0.1, said=said))
    assert [line.split("again in ")[1] for line in said[1:]] == ["0.1 s", "0.2 s", "0.4 s"]
    assert len(server.requests) == 4 and not list(tmp_path.glob("*"))


@pytest.mark.parametrize(("status", "hint"), [(400, "json_schema"), (401, "LLM_API_KEY"), (404, "name"), (418, "log")])
def test_what_will_not_pass_ends_the_run_at_once(tmp_path, status, hint):
    with serving(lambda number, body, http: http.fail(status)) as server:
        with pytest.raises(ChatError, match=f"refused: HTTP {status}.*{hint}"):
            ask(chat_with(server, tmp_path))
        assert len(server.requests) == 1


def test_a_redirection_carries_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_API_KEY", "hush")
    with serving(well) as elsewhere:
        move = {"Location": f"{elsewhere.url}/chat/completions"}
        with serving(lambda number, body, http: http.fail(302, **move)) as server:
            with pytest.raises(ChatError, match="HTTP 302.*redirections are not followed"):
                ask(chat_with(server, tmp_path))
        assert server.headers[0]["Authorization"] == "Bearer hush" and not elsewhere.requests


WRONG = ['{"side": "up"}', '{"side": "left", "why": 1}', "{}", "[]", "left", '{"side": "le', "", None,
         '```json\n{"side": "left"}\n```',
         '{"side": "left", "side": "right"}', '{"side": NaN}', "[" * 200_000]  # fmt: skip


@pytest.mark.parametrize("content", WRONG)
def test_a_wrong_content_is_asked_for_again_then_refused_and_never_paid_twice(tmp_path, content):
    with serving(once(lambda http: http.say(content))) as server:
        assert ask(chat_with(server, tmp_path / "a")) == {"side": "left"}
        assert [request["seed"] for request in server.requests] == [0, 1]
    with serving(lambda number, body, http: http.say(content)) as server:
        for _ in range(2):
            with pytest.raises(BadReply):
                ask(chat_with(server, tmp_path / "b", attempts=3))
        assert len(server.requests) == 3


def test_the_budget_of_requests_counts_every_attempt_and_loses_nothing(tmp_path):
    with serving(lambda number, body, http: http.fail(500) if number == 1 else http.say(GOOD)) as server:
        chat = chat_with(server, tmp_path, requests=3)
        ask(chat, "1"), ask(chat, "2")
        with pytest.raises(ChatError, match="budget of 3 requests is spent; all replies so far are kept in"):
            ask(chat, "3")
        assert len(server.requests) == 3
        chat = chat_with(server, tmp_path, requests=1)
        assert [ask(chat, text)["side"] for text in "123"] == ["left"] * 3
        assert len(server.requests) == 4 and chat.kept == 2


def test_the_budget_of_tokens_is_never_overrun_also_where_a_server_does_not_count(tmp_path):
    with serving(well) as server:
        chat = chat_with(server, tmp_path, tokens=600, max_reply_tokens=100)
        with pytest.raises(ChatError, match=r"\d+ of 600 tokens are spent, and the next request may take \d+"):
            for n in range(20):
                ask(chat, str(n))
        assert 0 < chat.tokens <= 600 and chat.tokens == 100 * len(server.requests)
    with serving(lambda number, body, http: http.say(GOOD, usage=False)) as server:
        chat = chat_with(server, tmp_path)
        ask(chat)
    sent = {name: value for name, value in server.requests[0].items() if name != "path"}
    assert chat.tokens > len(json.dumps(sent)) // 3


def test_a_kept_reply_is_whole_or_not_there(tmp_path):
    with serving(well) as server:
        ask(chat_with(server, tmp_path))
        [path] = tmp_path.iterdir()
        entry = json.loads(path.read_text())
        assert entry["content"] == GOOD and "hush" not in path.read_text()
        for damage in (path.read_text()[:40], "", "[]", json.dumps(entry | {"request": {}})):
            path.write_text(damage)
            chat = chat_with(server, tmp_path)
            assert ask(chat) == {"side": "left"} and chat.requests == 1
        assert list(tmp_path.iterdir()) == [path] and json.loads(path.read_text())["request"] == entry["request"]


def test_other_models_and_prompts_have_replies_of_their_own(tmp_path):
    with serving(well) as server:
        ask(chat_with(server, tmp_path))
        other = chat_with(server, tmp_path)
        other.ask("Say it otherwise.", "Which side?", name="side", schema=SCHEMA)
        assert other.requests == 1
        endpoint = Endpoint(server.url, "another")
        ask(Chat(endpoint, Budget(1, 10_000), cache=tmp_path, leaves="", say=print))
    assert len(server.requests) == len(list(tmp_path.iterdir())) == 3


def test_addresses(tmp_path):
    def host(url):
        return Chat(Endpoint(url, "m"), Budget(1, 1), cache=tmp_path, leaves="", say=print).host

    assert host("https://example.org/v1") == "example.org"
    assert host("http://gpu7:8000/v1") == "gpu7:8000 (not encrypted)"
    for bad in ("", "localhost:8000", "file:///etc/passwd", "https://me:key@example.org/v1", "https://h/v1?key=1",
                "http://h:port/v1", "http://h:99999/v1", "http://[::1/v1"):
        with pytest.raises(ChatError, match="no endpoint"):
            host(bad)


@pytest.mark.parametrize("text", ["up\x1b[2J", "a\x00", "\u202eleft", "le\u200dft", "\ud800"])
def test_what_nobody_sees_is_no_reply(text):
    with pytest.raises(BadReply, match="surrogates" if text == "\ud800" else "nobody sees"):
        parse_reply(json.dumps({"text": text}), {"type": "object"})


def test_a_key_that_the_server_sends_back_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM_API_KEY", "hush-hush")
    with serving(lambda number, body, http: http.raw(b"your key hush-hush", status=401)) as server:
        with pytest.raises(ChatError) as raised:
            ask(chat_with(server, tmp_path))
    assert "hush" not in str(raised.value)
    with serving(lambda number, body, http: http.say('{"side": "hush-hush"}')) as server:
        with pytest.raises(BadReply) as raised:
            ask(chat_with(server, tmp_path, attempts=1))
    assert "hush" not in str(raised.value) and not any("hush" in path.read_text() for path in tmp_path.iterdir())
