r"""What a credential looks like: by its form, by its place in a text, and by the name of an option or a variable.

The forms of tokens follow the rules of gitleaks (``config/gitleaks.toml``) and of Yelp's detect-secrets
(``detect_secrets/plugins``), with shorter least lengths; the names follow the keyword lists of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

HIDDEN = "***"
"""What is shown instead of a credential."""

# --- forms ------------------------------------------------------------------------------------------------------------

_FORMS = (
    ("hf_", r"[A-Za-z0-9]{20,}"), ("api_org_", r"[A-Za-z]{20,}"),  # Hugging Face
    # OpenAI, Anthropic, and services with the same interface
    ("sk-", r"(?=[\w-]{0,40}\d|[A-Za-z0-9]{20})[\w-]{20,}"),
    ("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\w{20,}"),  # GitHub
    ("glpat- gldt- glft- glsoat- glrt- glptt- glcbt- glimt- glagent- gloas- glffct-", r"[\w.-]{20,}"),
    ("GR1348941", r"[\w-]{20,}"),  # GitLab
    ("AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}"), ("A3T", r"[A-Z0-9]{17}"), ("ABSK", r"[A-Za-z0-9+/]{100,}={0,2}"),  # AWS
    ("bedrock-api-key-", r"[A-Za-z0-9+/=]{20,}"),
    ("AIza", r"[\w-]{30,}"), ("ya29. GOCSPX-", r"[\w-]{20,}"),  # Google
    ("xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-", r"[\w-]{10,}"),  # Slack
    ("hooks.slack.com/", r"(?:services|workflows|triggers)/[\w+/]{20,}"),
    ("npm_", r"[A-Za-z0-9]{20,}"), ("pypi-Ag", r"[\w-]{20,}"), ("rubygems_", r"[a-f0-9]{40,}"),  # packages
    ("dckr_pat_", r"[\w-]{20,}"),
    ("sk_test_ sk_live_ sk_prod_ rk_test_ rk_live_ rk_prod_", r"[A-Za-z0-9]{10,}"),  # Stripe
    ("sq0atp- sq0csp-", r"[\w-]{20,}"), ("shpat_ shpca_ shppa_ shpss_", r"[A-Fa-f0-9]{32}"),  # Square, Shopify
    ("SG.", r"[\w-]{20,}\.[\w-]{20,}"), ("PMAK-", r"[A-Fa-f0-9]{24}-[A-Fa-f0-9]{34}"),  # SendGrid, Postman
    ("dapi", r"[a-f0-9]{32}"), ("doo_v1_ dop_v1_ dor_v1_", r"[a-f0-9]{40,}"),  # Databricks, DigitalOcean
    ("gsk_ pplx- nvapi-", r"[\w-]{40,}"), ("r8_", r"[A-Za-z0-9]{37}"),  # Groq, Perplexity, NVIDIA, Replicate
    ("lin_api_", r"[A-Za-z0-9]{40}"), ("hvs. hvb.", r"[\w-]{80,}"),  # Linear, Vault
    ("sntryu_ sntrys_", r"[\w+/=]{20,}"), ("glsa_ glc_", r"[\w+/=]{32,}"), ("ops_eyJ", r"[\w+/=]{40,}"),
    ("pul-", r"[a-f0-9]{40}"), ("AGE-SECRET-KEY-1", r"[A-Z0-9]{58}"),
    ("eyJ", r"(?<![_-]eyJ)[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*"),  # JSON web tokens
)  # fmt: skip
"""The beginnings of tokens, and what follows them."""

_RESTS = {beginning: rest for beginnings, rest in _FORMS for beginning in beginnings.split()}

PRIVATE_KEY = re.compile(
    r"-----BEGIN[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?!-----)[\s\S])*(?:-----END[ A-Z0-9_-]{0,100}PRIVATE KEY(?: BLOCK)?-----)?"
)
"""A private key of a PEM file, also one without its end."""

IN_URL = re.compile(r"(://)((?:[^/\s?#'\"<>]|['\"](?![\s,;:)\]}]|$))+)@")
"""The beginning of a URL with a name and a password, or a token, up to the last ``@`` of its authority."""

_HEADER = re.compile(
    r"(?i)(?<![\w-])((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)"
    r"(?:(?:bearer|basic|digest|token|apikey|negotiate|aws4-hmac-sha256)\s+[^\s\"',;]{4,}|(?=\S{0,60}\d)[^\s\"',;]{8,}|[^\s\"',;]{16,})"
)
"""A header with a credential; the scheme is optional."""

_BEARER = re.compile(r"(?i)(?<![\w-])(bearer\s+)(?:(?=[^\s\"',;]*\d)[^\s\"',;]{8,}|[^\s\"',;]{16,})")
"""What follows the scheme of a header, without its name."""

_NAME = re.compile(
    r"(?<![\w-])(?<!columns\.)(?<!constants\.)(?P<name>[A-Za-z_][\w-]{0,79})"
    r"(?:\\?[\"'])?(?P<sign>\s?=\s?|\s?:(?=[\s\"'\\])\s{0,9})(?:\\?[\"'])?"
)
"""A name before its value: ``api_key=``, ``"token": "``, ``?sig=``."""

_VALUE = re.compile(r"(?<=')[^'\n]+|(?<=\")[^\"\n\\]+|[^\s\"'&,;)}\]]+")
"""The value after a name."""

_PLACEHOLDER = re.compile(r"(?i)\*+|<.*>|\[[A-Z_]+\]|\{[^}]*\}?|\$\{?[A-Z_]+\}?|true|false|none|null|\.+|…")
"""A value that stands for a credential, or a special token of a tokenizer."""

_SECRET_LIKE = re.compile(r"(?=\S*\d)(?=\S*[^\W\d])\S{8,}|\S{16,}")
"""A value that is no word of a sentence."""

_CALL = re.compile(r"[A-Za-z_][\w.]*[(\[]")
"""Python code after a name, such as in a traceback: ``token = tokenizer.decode(…``."""

_QUERY_NAMES = {"sig", "signature", "key"}
"""Further names of parameters of a URL."""

# --- names ------------------------------------------------------------------------------------------------------------

_IN_NAMES = ("token", "pass", "pwd", "secret", "cred", "auth", "key", "cookie", "jwt", "pat", "bearer", "sig")
"""Every name of a credential holds one of these."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")

_CREDENTIAL = re.compile(
    r".*(?:passwords?|passwd|passphrase|passcode|secrets?|apikeys?|(?:auth|access|api)tokens?|credentials?)"
    r"|.*token|pwd|auth|authorization|bearer|cookies?|creds?|jwt|pat|(?:access|private|account)keys?"
)
"""The last word of a name of a credential."""

_KINDS_OF_KEY = {
    "access", "account", "admin", "anthropic", "api", "app", "auth", "aws", "azure", "client", "comet", "consumer",
    "database", "db", "deploy", "encryption", "gcp", "google", "gpg", "hf", "hmac", "hub", "master", "openai", "pgp",
    "priv", "private", "rsa", "secret", "service", "session", "shared", "signing", "ssh", "ssl", "storage",
    "subscription", "tls", "wandb",
}  # fmt: skip
"""The words before `key` that make it a credential: a `primary_key` is none."""

_KINDS_OF_PASS = {"database", "db", "ftp", "http", "imap", "key", "ldap", "mysql", "proxy", "smtp", "ssh", "user"}
_KINDS_OF_TOKENS = {"access", "api", "auth", "bearer", "hf", "hub"}

_QUALIFIERS = {
    "b64", "base", "default", "dev", "live", "main", "new", "old", "primary", "prod", "production", "read", "ro", "rw",
    "secondary", "staging", "test", "value", "write",
}  # fmt: skip
"""Words after the name of a credential that do not change what it is: ``HF_TOKEN_READ``."""

_SPECIAL_TOKENS = {
    "audio", "bos", "bot", "box", "boi", "boa", "cls", "decoder", "end", "eoa", "eoi", "eos", "eot", "first", "fake",
    "image", "last", "mask", "next", "null", "pad", "per", "prefix", "sep", "special", "start", "suffix", "unk",
    "video", "vision",
}  # fmt: skip
"""The words before `token` that make it a special token of a tokenizer."""

_NOT_IN_VARIABLES = {
    "agent", "alg", "algorithm", "backend", "binding", "bindings", "cache", "count", "dir", "directory", "disabled",
    "domain", "enabled", "endpoint", "expiration", "expires", "expiry", "file", "folder", "format", "header", "home",
    "host", "id", "kind", "length", "limit", "method", "mode", "name", "path", "port", "prefix", "provider", "realm",
    "region", "ring", "scope", "server", "size", "sock", "socket", "store", "timeout", "ttl", "type", "uri", "url",
    "user", "username", "version",
}  # fmt: skip
"""Last words of variables that say something about a credential, and do not hold it."""


def names_credential(name: str) -> bool:
    """Return whether an option, a header or a parameter of this name holds a credential.

    >>> [names_credential(name) for name in ("hfToken", "x-api-key", "pwd", "pad_token", "max_tokens", "key")]
    [True, True, True, False, False, False]
    """
    words = _words(name)
    while len(words) > 1 and words[-1] in _QUALIFIERS:
        words.pop()
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in ("key", "keys"):
        return before in _KINDS_OF_KEY
    if last == "pass":
        return before in _KINDS_OF_PASS
    if last == "tokens":
        return before in _KINDS_OF_TOKENS
    if last == "token" and before in _SPECIAL_TOKENS:
        return False
    return _CREDENTIAL.fullmatch(last) is not None


def variable_holds_credential(name: str) -> bool:
    """Return whether an environment variable of this name holds a credential; more names do than for options.

    >>> [variable_holds_credential(name) for name in ("GH_PAT", "OPENAI_KEY", "HF_TOKEN_PATH", "PWD", "PATH")]
    [True, True, False, False, False]
    """
    words = _words(name)
    if name == "PWD" or not words or words[-1] in _NOT_IN_VARIABLES:  # PWD: the current folder
        return False
    return any(word in ("key", "keys", "pass") or _CREDENTIAL.fullmatch(word) for word in words)


def is_placeholder(value: str) -> bool:
    """Return whether a value only stands for a credential, or is a special token: ``${TOKEN}``, ``<pad>``."""
    return _PLACEHOLDER.fullmatch(value) is not None


def _words(name: str) -> list[str]:
    """Return the words of a name, written with capitals or with any separators; digits are no words."""
    return [word.lower() for word in _WORD.findall(name)]


# --- texts ------------------------------------------------------------------------------------------------------------


def without(text: str) -> str:
    """Return a text with `HIDDEN` in the place of everything that looks like a credential.

    >>> without("401 for https://me:secret@example.org/x?token=abc")
    '401 for https://***@example.org/x?token=***'
    """
    if "PRIVATE KEY" in text:
        text = PRIVATE_KEY.sub(HIDDEN, text)
    if "://" in text:
        text = IN_URL.sub(rf"\1{HIDDEN}@", text)
    for beginning in _RESTS:
        if beginning in text:
            text = _token(beginning).sub(HIDDEN, text)
    lower = text.lower()
    if "authorization" in lower:
        text = _HEADER.sub(rf"\1{HIDDEN}", text)
    if "bearer" in lower:
        text = _BEARER.sub(rf"\1{HIDDEN}", text)
    return _without_values(text) if any(word in lower for word in _IN_NAMES) else text


@cache
def _token(beginning: str) -> re.Pattern[str]:
    """Return the pattern of the tokens with a beginning that stands after no letter or digit, except an escaped one."""
    first = re.escape(beginning)  # at the front of the pattern: `re` searches for it quickly
    at_start = rf"(?:(?<![A-Za-z0-9]{first})|(?<=%[0-9A-Fa-f]{{2}}{first})|(?<=\\[nrt]{first}))"
    return re.compile(first + at_start + _RESTS[beginning])


def _without_values(text: str) -> str:
    """Return a text without the values that follow names of credentials."""
    pieces, end = [], 0
    for found in _NAME.finditer(text):
        value = _VALUE.match(text, found.end()) if found.start() >= end and _is_named(found) else None
        if value is not None and _is_value(value.group(), found):
            pieces += [text[end : value.start()], HIDDEN]
            end = value.end()
    return "".join([*pieces, text[end:]])


def _is_named(found: re.Match[str]) -> bool:
    """Return whether a name before a value is that of a credential."""
    last = found["name"].lower().rpartition("-")[2]
    return names_credential(found["name"]) or (_in_url(found) and last in _QUERY_NAMES)


def _in_url(found: re.Match[str]) -> bool:
    return found.start() > 0 and found.string[found.start() - 1] in "?&" and found["sign"] == "="


def _is_value(value: str, found: re.Match[str]) -> bool:
    """Return whether what follows the name of a credential is one, and not the next word of a sentence."""
    if is_placeholder(value) or value.startswith(HIDDEN) or _CALL.match(value):
        return False
    return _in_url(found) or _SECRET_LIKE.fullmatch(value) is not None or ("=" in found["sign"] and len(value) >= 6)


def passwords(text: str) -> Iterator[str]:
    """Yield the passwords of the URLs in a text."""
    for found in IN_URL.finditer(text):
        _, colon, password = found.group(2).partition(":")
        if colon:
            yield password
