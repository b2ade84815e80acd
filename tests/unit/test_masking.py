"""Which values are credentials, and how they are taken out of a text, however it spells them."""

import base64
import html
import json
import logging
import re
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import k2_verifier_adapter
from k2_verifier_adapter.core.secrets import Masker, hide_secrets, is_secret_name, replace_secrets, secrets_in

KEY = "sk-marked-0123456789"
ODD = "a/b\"c\\d'e f+g=ü\U0001f511-0123"


def escaped(text):
    r"""Escape every character as `\uXXXX`."""
    units = text.encode("utf-16-be").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


SPELLINGS = {
    "as it is": lambda key: f"invalid key {key}!",
    "twice": lambda key: f"{key}{key} {key}",
    "JSON": lambda key: json.dumps({"key": key}),
    "JSON, not ASCII": lambda key: json.dumps({"key": key}, ensure_ascii=False),
    "JSON in JSON": lambda key: json.dumps(json.dumps({"key": key})),
    "JSON in JSON in JSON": lambda key: json.dumps(json.dumps(json.dumps({"key": key}))),
    "JSON of PHP": lambda key: json.dumps(key).replace("/", "\\/"),
    "needless escapes": lambda key: f'{{"key": "{escaped(key)}"}}',
    "one needless escape": lambda key: f'{{"key": "{escaped(key[:1])}{json.dumps(key[1:])[1:]}}}',
    "repr": lambda key: repr([key]),
    "URL": lambda key: f"https://h/v1?key={quote(key)}&x=1",
    "URL, every character": lambda key: f"https://h/v1?key={quote(key, safe='')}",
    "form": lambda key: f"key={quote_plus(key)}",
    "URL, needlessly": lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    "repr of bytes": lambda key: repr(key.encode()),
    "JSON in repr of bytes": lambda key: repr(json.dumps(key).encode()),
    "HTML": html.escape,
    "HTML, numbers": lambda key: "".join(f"&#{ord(letter)};" for letter in key),
    "HTML, hexadecimal": lambda key: "".join(f"&#x{ord(letter):X};" for letter in key),
}


def unspelled(text):
    """Undo what spells single ASCII characters, as a reader of a report would."""
    return re.sub(
        r"\\+u00([2-7][0-9a-fA-F])|\\+x([2-7][0-9a-fA-F])|%([2-7][0-9a-fA-F])|&#x([2-7][0-9a-fA-F]);",
        lambda match: chr(int(next(filter(None, match.groups())), 16)),
        text,
    )


@pytest.mark.parametrize("key", [KEY, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_masked(spelling, key):
    """A secret is found as it is, as any JSON writes it, in JSON within JSON, and in a URL."""
    masked = Masker([key]).text(SPELLINGS[spelling](key))
    assert "***" in masked
    assert key not in masked
    assert key[-8:] not in masked
    for _ in range(3):
        masked = html.unescape(unquote(masked.encode("latin-1", "backslashreplace").decode("unicode_escape")))
        assert key not in masked
        assert key[-8:] not in masked


@pytest.mark.parametrize("length", range(4, len(KEY)))
def test_a_secret_that_an_excerpt_cuts_off_is_masked(length):
    """What an excerpt leaves of a secret at its end is masked from four characters on."""
    assert Masker([KEY]).text(f"no such key: {KEY[:length]}… (9 more)") == "no such key: ***… (9 more)"


@given(
    st.sampled_from([KEY, ODD]),
    st.sampled_from(sorted(SPELLINGS)),
    st.integers(0, 40),
    st.integers(1, 200),
    st.sampled_from(["…", "..."]),
)
def test_no_cut_leaves_a_part_of_a_secret(key, spelling, before, length, mark):
    """Wherever an excerpt cuts a secret, however it is spelled, less than four characters of it are left."""
    text = f"{'-' * before}{SPELLINGS[spelling](key)} and so on"
    masked = unspelled(Masker([key]).text(f"{text[:length]}{mark} (9 more)"))
    assert not [part for part in (key[start : start + 4] for start in range(len(key) - 3)) if part in masked]


def test_the_longest_secret_goes_first():
    """A secret that holds another one is masked as a whole."""
    assert Masker(["0123456789", f"Bearer {KEY}", KEY]).text(f"Bearer {KEY}, 0123456789") == "***, ***"


@pytest.mark.parametrize("text", ["", "a", "sk-marked-012345678", "…", "\\u0073", "a\\u003cb", KEY[1:]])
def test_a_text_without_the_secret_stays(text):
    """A text that holds no secret comes back as it is; so does any text where there is no secret."""
    assert Masker([KEY]).text(text) == text
    assert Masker([]).text(text + KEY) == text + KEY


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_without_the_secret_is_the_same_text(value):
    """Whatever JSON holds no secret is given back byte for byte."""
    text = json.dumps(value)
    assert Masker([KEY, ODD]).json_text(text) == text


@given(st.text(), st.text(), st.sampled_from([KEY, ODD]), st.booleans())
def test_masked_json_stays_json(before, after, key, ascii_only):
    """Of a JSON text only the secret is replaced, wherever it stands; the rest is equal as JSON."""
    value = {"content": f"{before}{key}{after}", key: [1.0, None, before]}
    masked = json.loads(Masker([key]).json_text(json.dumps(value, ensure_ascii=ascii_only)))
    assert masked == {"content": value["content"].replace(key, "***"), "***": [1.0, None, before]}


def test_a_secret_of_digits_does_not_break_json():
    """A secret that is a number leaves equal numbers alone, and the text JSON."""
    masked = json.loads(Masker(["12345678"]).json_text('{"created": 1712345678, "content": "key 12345678"}'))
    assert masked == {"created": 1712345678, "content": "key ***"}


# --- which values --------------------------------------------------------------------------------

CONFIG = {
    "model": "kimi",
    "api_url": "https://me:pass-word@host:8443/v1?key=url-key-012&version=7",
    "api_key": "api-key-0123",
    "model_args": {"timeout": 5, "default_headers": {"X-Def": "def-header-012"}, "http": {"password": "pw"}},
    "generation_config": {
        "max_tokens": 100,
        "stop_seqs": ["END"],
        "extra_headers": {"X-Team": "blue", "X-Number": 7, "X-None": None},
        "extra_query": {"sig": "query-012"},
        "extra_body": {"userToken": "body-0123", "prompt_cache_key": "k", "stop_token": "t"},
    },
    "judge": {"models": [{"generation_config": {"extra_headers": {"A": ["one", "two"]}}}]},
}
HIDDEN = {
    "model": "kimi",
    "api_url": "https://***:***@host:8443/v1?key=***&version=***",
    "api_key": "***",
    "model_args": {"timeout": 5, "default_headers": {"X-Def": "***"}, "http": {"password": "***"}},
    "generation_config": {
        "max_tokens": 100,
        "stop_seqs": ["END"],
        "extra_headers": {"X-Team": "***", "X-Number": "***", "X-None": None},
        "extra_query": {"sig": "***"},
        "extra_body": {"userToken": "***", "prompt_cache_key": "k", "stop_token": "t"},
    },
    "judge": {"models": [{"generation_config": {"extra_headers": {"A": ["***", "***"]}}}]},
}


def test_a_configuration_is_hidden_by_place():
    """Values of headers, query parameters, secret names and URLs are hidden, everything else is shown."""
    assert hide_secrets(CONFIG) == HIDDEN
    assert hide_secrets(HIDDEN) == HIDDEN
    assert replace_secrets(CONFIG, lambda _, value: value) == CONFIG


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/v1", "https://host/v1"),
        ("https://host:80/@team/v1", "https://host:80/@team/v1"),
        ("https://[::1]:80/v1?a=b", "https://[::1]:80/v1?a=***"),
        ("https://key-as-user@host/v1", "https://***@host/v1"),
        ("https://me:pa:ss@host/v1", "https://***:***@host/v1"),
        ("https://me:pa/ss@host/v1", "https://***:***@host/v1"),
        ("https://me:pa#ss?w@host/v1", "https://***:***@host/v1"),
        ("https://host/v1?flag&a=1&b=", "https://host/v1?***&a=***&b=***"),
        ("https://host/v1#part", "https://host/v1#***"),
        ("me:pw@host/v1", "***:***@host/v1"),
    ],
)
def test_a_url_is_shown_without_credentials(url, shown):
    """User, password, query values and fragment of a URL are hidden, however badly it is written."""
    assert hide_secrets({"api_url": url}) == {"api_url": shown}


SECRET_NAMES = ("api_key", "X-API-Key", "apikey", "accessToken", "client_secret", "token", "Password")
OTHER_NAMES = ("max_tokens", "tokenizer_path", "stop_token", "monkey", "prompt_cache_key", "keys")


@pytest.mark.parametrize("name", SECRET_NAMES + OTHER_NAMES)
def test_names_of_secrets(name):
    """A value is hidden where its name says that it is a credential, not where it only sounds like it."""
    assert is_secret_name(name) is (name in SECRET_NAMES)


def test_what_a_text_is_searched_for():
    """Values are searched for as a whole and in parts: the scheme's word is no secret, what is behind it is."""
    basic = base64.b64encode(b"me:secret-word").decode()
    headers = {
        "Authorization": f"Bearer {KEY}",
        "X-Basic": f"Basic {basic}",
        "Cookie": "session=abcdef123; x=1; region=us-east-1",
        "X-Pass": "hunterhunter",
    }
    found = secrets_in({"extra_headers": headers})
    assert {
        KEY,
        f"Bearer {KEY}",
        basic,
        "me:secret-word",
        "secret-word",
        "abcdef123",
        "hunterhunter",
    } <= found
    assert not {"Bearer", "Basic", "session", "x=1", "us-east-1"} & found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTP-Referer", "https://example.com/verifier"),
        ("X-Title", "K2 verification run"),
        ("Accept", "application/json"),
        ("api-version", "2024-10-21"),
        ("X-Team", "engineering"),
        ("X-Team", "a1"),
        ("X-Model", "kimi-k2-thinking"),
        ("X-Benchmark", "tool_calls"),
        ("X-Region", "us-east-1"),
        ("X-Deployment", "kimi-k2-0905-preview-2"),
        ("X-Keyboard-Layout", "function_call"),
        ("X-Author", "finish_reason_length"),
    ],
)
def test_what_a_text_is_not_searched_for(name, value):
    """Titles, versions, plain words, short values and the model's name may stand in an answer."""
    assert secrets_in({"extra_headers": {name: value}}, public=["kimi-k2-thinking"]) == frozenset()
    assert Masker(secrets_in({"extra_headers": {name: value}})).text("tool_calls us-east-1") == (
        "tool_calls us-east-1"
    )


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("X-Gateway", "sk-0123456789abcdef", "sk-0123456789abcdef"),
        ("X-Client", "AbCdEfGhIjKlMnOpQrStUv", "AbCdEfGhIjKlMnOpQrStUv"),
        ("X-Upstream", "https://me:hunter22x@host/v1?sig=abcdefgh", "hunter22x"),
        ("X-Upstream", "https://me:hunter22x@host/v1?sig=abcdefgh", "abcdefgh"),
        ("xApiKey", "tool_calls", "tool_calls"),
        ("X-Session", "us-east-1", "us-east-1"),
        ("Authorization", 'Signature keyId="abcdefgh",signature="0123456/8="', "0123456/8="),
    ],
)
def test_a_credential_by_name_or_by_form(name, value, secret):
    """Whatever a name calls a credential is one, from eight characters on; without, what looks like a key."""
    assert secret in secrets_in({"extra_headers": {name: value}})


# --- logs ----------------------------------------------------------------------------------------


@pytest.fixture
def records():
    """Hide the key in all logs, and give what a logger of another package writes."""
    from k2_verifier_adapter.evalscope_plugin.masking import mask_logs

    before = logging.getLogRecordFactory()
    mask_logs([KEY])
    written = []
    handler = logging.Handler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.emit = lambda record: written.append(handler.format(record))
    logger = logging.getLogger("some.client")
    logger.addHandler(handler)
    yield logger, written
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


def test_logs_of_any_logger_are_masked(records):
    """Whichever logger writes a secret, as text, argument, object or traceback, no handler gets it."""
    logger, written = records
    logger.warning(f"key {KEY}")
    logger.warning("url %s, %d", f"/v1?key={KEY}", 5)
    logger.warning(ValueError(KEY))
    logger.warning("%(key)s", {"key": KEY})
    try:
        int(KEY)
    except ValueError:
        logger.exception("it failed")
    logger.warning("plain %s", "text")
    assert KEY not in "\n".join(written)
    assert written[:4] == ["key ***", "url /v1?key=***, 5", "***", "***"]
    assert written[4].startswith("it failed\nTraceback")
    assert written[4].endswith("ValueError: invalid literal for int() with base 10: '***'")
    assert written[5] == "plain text"


@pytest.mark.usefixtures("records")
def test_a_broken_log_call_is_loggings_to_report():
    """Whatever a third party's arguments raise, it is not raised through this package into its caller."""

    class Broken:
        def __str__(self):
            raise RuntimeError("no text")

    make = logging.getLogRecordFactory()
    for message, arguments in (("%(key)s", ({"other": 1},)), ("%s", (Broken(),)), ("%d %d", (1,))):
        assert make("client", logging.INFO, "client.py", 1, message, arguments, None).msg == message


def test_hiding_again_adds_up(records):
    """Secrets of several runs in one process are all hidden, by one record factory."""
    from k2_verifier_adapter.evalscope_plugin.masking import mask_logs

    factory = logging.getLogRecordFactory()
    mask_logs(["another-secret"])
    assert logging.getLogRecordFactory() is factory
    logger, written = records
    logger.warning(f"{KEY} another-secret")
    assert written == ["*** ***"]


def test_only_the_simulator_listens():
    """No module but the one that refuses other hosts than loopback opens a listening socket."""
    listening = re.compile(
        r"TCPSite|UnixSite|SockSite|start_server|create_server|HTTPServer|\.bind\(|\.listen\(|run_app"
    )
    package = Path(k2_verifier_adapter.__file__).parent
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if listening.search(path.read_text("utf-8"))
    }
    assert found == {"simulator/server.py"}
