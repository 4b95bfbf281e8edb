"""What a credential looks like: each form, place and name is recognised, and ordinary recipes and texts are not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import credentials, secrets
from finetune.errors import BadRecipe

ROOT = Path(__file__).parents[2]

LETTERS = "aB3dE5gH7jK9mN2pQ4rS6tU8vW0xY1zA"

TOKENS = (
    f"hf_{LETTERS}", f"sk-proj-{LETTERS}", f"sk-ant-api03-{LETTERS}", f"ghp_{LETTERS}", f"ghs_{LETTERS}",
    f"github_pat_{LETTERS}", f"glpat-{LETTERS}", f"gldt-{LETTERS}", f"GR1348941{LETTERS}", "AKIAABCDEFGHIJ234567",
    "ASIAABCDEFGHIJ234567", f"AIza{LETTERS}abc", f"ya29.{LETTERS}", f"GOCSPX-{LETTERS}", f"xoxb-123456789012-{LETTERS}",
    f"https://hooks.slack.com/services/T000/B000/{LETTERS}", f"npm_{LETTERS}abcd", f"pypi-AgEIcHlwaS5vcmc{LETTERS * 2}",
    f"dckr_pat_{LETTERS}", f"sk_live_{LETTERS}", f"shpat_{'0a' * 16}", f"SG.{LETTERS}.{LETTERS}", f"dapi{'0a' * 16}",
    f"gsk_{LETTERS * 2}", f"r8_{LETTERS}abcde", f"hvs.{LETTERS * 3}",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmVk",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC==\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXk\\n",
)  # fmt: skip

IN_PLACES = (
    "Authorization: Bearer {}", "authorization: Basic {}", "{{'Authorization': 'Token {}'}}", "got Bearer {}.",
    "Proxy-Authorization: {}", "-H 'x-api-key: {}'", "https://h/x?token={}", "https://h/x?a=1&sig={}&b=2",
    "https://h/x?X-Amz-Signature={}", "https://h/?X-Amz-Security-Token={}#x", "?access_token={}", "https://h/x?key={}",
    "url=https://h/x?api_key={}", "api_key={}", "API-KEY = {}", '{{"apiKey": "{}"}}', '{{\\"api_key\\": \\"{}\\"}}',
    "{{'client_secret': '{}'}}", "pwd={};Server=h", "AccountKey={};EndpointSuffix=core", "hub_token='{}'",
    "https://me:{}@host/x", "https://me:p@{}@host/x", "https://me:it's{}@host", "https://{}@host",
    "postgres://me:{}@host:5432/db", "see 'https://me:{}@host', or not",
)  # fmt: skip

NAMES = (
    "token", "hf_token", "hfToken", "HF_TOKEN_READ", "token2", "use_auth_token", "password", "passwd", "pwd", "db_pass",
    "secret", "client-secret", "credentials", "auth", "Authorization", "x-api-key", "apikey", "apiKey", "APIKey",
    "account_key", "accountKey", "aws_secret_access_key", "private_key", "gh_pat", "Set-Cookie", "Proxy-Authorization",
)  # fmt: skip

NO_NAMES = (
    "pad_token", "eos_token", "image_token", "decoder_start_token", "max_tokens", "tokens", "token_type_ids",
    "tokenizer", "key", "primary_key", "author", "path", "pass", "first_pass", "eos_token_id", "null_token", "keys",
    "token_file", "patience", "authors", "secretary",
)  # fmt: skip

VARIABLES = (
    "MYSQL_PWD", "OPENAI_KEY", "HF_TOKEN", "HF_TOKEN_READ", "GH_PAT", "WANDB_KEY", "WANDB_API_KEY", "GITHUBTOKEN",
    "PGPASSWORD", "DB_PASS", "AWS_SECRET_ACCESS_KEY", "npm_config_authToken", "MY_SECRET_2", "AUTH",
)  # fmt: skip

NO_VARIABLES = (
    "PWD", "OLDPWD", "PATH", "HOME", "TOKENIZERS_PARALLELISM", "HF_TOKEN_PATH", "SSH_AUTH_SOCK", "AWS_TOKEN_FILE",
    "XAUTHORITY", "KEYBOARD", "LANG",
)  # fmt: skip

SECRET = "0f-Mine-4nd-n0b0dy"


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_is_recognised_by_its_form(token: str) -> None:
    for around in ("{}", "the token is {}, see", "out/{}", "x%3D{}", "a\\n{}", "'{}'"):
        shown = credentials.without(around.format(token))
        assert token.removeprefix("https://")[10:20] not in shown
        assert credentials.HIDDEN in shown
    with pytest.raises(BadRecipe, match=r"^card\.notes looks like a credential"):
        secrets.refuse({"card": {"notes": f"see {token}"}})


@pytest.mark.parametrize("text", IN_PLACES)
def test_a_credential_is_recognised_by_its_place(text: str) -> None:
    shown = credentials.without(text.format(SECRET))
    assert SECRET not in shown
    assert credentials.without(shown) == shown
    with pytest.raises(BadRecipe, match=r"^model\.options\.words\[0\] looks like a credential") as caught:
        secrets.refuse({"model": {"options": {"words": [text.format(SECRET)]}}})
    assert SECRET not in str(caught.value)


@settings(max_examples=30)
@given(secret=st.text("abcXYZ019-_.~!$*+@'", min_size=6, max_size=40))
def test_no_part_of_a_password_of_a_url_is_left(secret: str) -> None:
    assert credentials.without(f"cannot open https://me:{secret}1x@host/rows") == "cannot open https://***@host/rows"


@pytest.mark.parametrize("value", ["words", 12345678, ["words"], [{"x": [0.5]}]])
@pytest.mark.parametrize("name", NAMES)
def test_an_option_is_recognised_by_its_name(name: str, value: Any) -> None:
    for recipe in (
        {"options": {name: value}},
        {name: value},
        {"a": [{name: value}]},
        {"columns": {"x": {name: value}}},
    ):
        with pytest.raises(BadRecipe, match=f"{name}.* looks like a credential"):
            secrets.refuse(recipe)


@pytest.mark.parametrize("value", [None, True, "", "<pad>", "${HF_TOKEN}"])
def test_a_value_that_is_no_credential_is_allowed_under_every_name(value: Any) -> None:
    secrets.refuse({"options": dict.fromkeys(NAMES, value)})


@pytest.mark.parametrize("name", NO_NAMES)
def test_other_options_are_allowed(name: str) -> None:
    secrets.refuse({"options": {name: "words"}, "columns": {"token": "words"}, "constants": {"password": "x"}})
    secrets.refuse({"dataset": {"mixture": {"token": {"path": "rows.csv", "columns": {"auth": "text"}}}}})
    assert credentials.without(f"{name}=something {name}: 'something'") == f"{name}=something {name}: 'something'"


def test_a_token_that_is_a_key_is_refused_and_not_repeated() -> None:
    for section in ("options", "columns", "mixture"):
        with pytest.raises(BadRecipe, match=rf"^dataset\.{section}\.\*\*\* looks like") as caught:
            secrets.refuse({"dataset": {section: {TOKENS[0]: 1}}})
        assert TOKENS[0] not in str(caught.value)


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize("value", ["of-the-service", "/begins+with/a/slash", 'with "quotes" and \\ and é'])
def test_a_variable_is_recognised_by_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    for written in (value, repr(value), repr({"x": value})):
        assert credentials.HIDDEN in secrets.redacted(f"failed with {written}")
        assert value not in secrets.redacted(f"failed with {written}")
    with pytest.raises(BadRecipe, match=r"^card\.notes looks like"):
        secrets.refuse({"card": {"notes": value}})


@pytest.mark.parametrize("name", NO_VARIABLES)
def test_another_variable_is_not_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "of-the-service")
    assert secrets.redacted("see of-the-service") == "see of-the-service"


@pytest.mark.parametrize("name", ["DATABASE_URL", "PIP_INDEX_URL", "https_proxy", "ANYTHING"])
def test_the_password_of_a_url_in_any_variable_is_hidden(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "scheme+x://me:a%20pass%40word@host:5432/rows")
    for written in ("a%20pass%40word", "a pass@word"):
        assert secrets.redacted(f"wrong: {written}.") == "wrong: ***."


# --- no false alarms --------------------------------------------------------------------------------------------------


def recipes() -> Iterator[tuple[str, Any]]:
    """Yield every mapping in YAML of the documentation, the tests and the plugins, with its place."""
    for path in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]:
        for number, block in enumerate(re.findall(r"```ya?ml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)):
            yield f"{path.name}, block {number}", yaml.safe_load(block)
    for folder in ("finetune", "plugins", "tests", "docs"):
        for path in [*(ROOT / folder).rglob("*.yaml"), *(ROOT / folder).rglob("*.yml")]:
            yield path.name, yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_recipes_of_the_documentation_are_no_credentials() -> None:
    found = list(recipes())
    assert len(found) > 15
    for place, content in found:
        try:
            secrets.refuse(content if isinstance(content, dict) else {"content": content})
        except BadRecipe as error:
            raise AssertionError(f"{place}: {error}") from error


SHOWN_ON_PURPOSE = {"security.md", "credentials.py", "secrets.py"}


def test_the_documentation_and_our_own_messages_are_no_credentials() -> None:
    paths = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "finetune").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            constants = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
            text = "\n".join(each for each in constants if isinstance(each, str))
        if path.name not in SHOWN_ON_PURPOSE:
            assert credentials.without(text) == text, path


WORDS = st.text("abcdefghijklmnopqrstuvwxyzABC ,.:/_-'\"", max_size=60)
HASHES = st.binary(min_size=20, max_size=32).map(bytes.hex)
VALUES = st.one_of(WORDS, HASHES, st.integers(), st.floats(), st.booleans(), st.none())


@settings(max_examples=30)
@given(words=WORDS, number=HASHES)
def test_words_and_hashes_are_no_credentials(words: str, number: str) -> None:
    text = f"the revision {number} of {words.replace('://', '')}"
    assert credentials.without(text) == text or re.search(r"[=:]|bearer|eyJ", text)
    secrets.refuse({"model": {"path": "org/name", "revision": number}, "card": {"sha256": f"sha256:{number}"}})
    secrets.refuse({"dataset": {"columns": dict.fromkeys(("token", "key", "secret"), "text")}, "seed": 12345678})


@settings(max_examples=30)
@given(content=st.dictionaries(st.sampled_from(NO_NAMES), st.one_of(VALUES, st.lists(VALUES, max_size=3))))
def test_everything_that_is_refused_is_hidden_and_the_reverse(content: Any) -> None:
    is_shown = all(credentials.without(text) == text for text in map(str, content))
    is_shown = is_shown and all(
        credentials.without(str(each)) == str(each)
        for value in content.values()
        for each in (value if isinstance(value, list) else [value])
        if each is not None
    )
    try:
        secrets.refuse(content)
    except BadRecipe:
        assert not is_shown
    else:
        assert is_shown


@pytest.mark.parametrize("piece", ["a", "a.", "token=", "://a", "eyJaaaaaaaa-", "-sk-", "authorization:", "bearer "])
def test_the_time_grows_with_the_length_of_a_text_alone(piece: str) -> None:
    import time

    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        started = time.process_time()
        credentials.without(text)
        return time.process_time() - started

    seconds(1000)
    assert seconds(80_000) < 40 * seconds(8_000) + 0.2
