"""What must never leave in a log, a status or a support bundle: secrets and telephone numbers."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"
MAX_LINE: Final = 4096
"""Characters of one line that are kept: the patterns below are quadratic at worst."""
MAX_LINES: Final = 200
MIN_SECRET: Final = 4
"""Shorter values are not searched for: replacing every "1" would destroy the log."""

_URL_CREDENTIALS: Final = re.compile(r"://[^\s\"'<>]*@")
# Greedy up to the last "@": a password may contain "@", "/" or "#" unescaped.
_KEY_VALUE: Final = re.compile(
    r"""((?:password|passwd|passphrase|secret|token|api[_-]?key|authorization|credential)["']?
        \s{0,8}[:=]\s{0,8})
        ("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'
        |["']?(?:(?:bearer|basic|digest)\s{1,8})?[^\s,;&"']+)""",
    re.IGNORECASE | re.VERBOSE,
)
_BEARER: Final = re.compile(r"\b(bearer\s{1,8})[A-Za-z0-9._~+/=-]{4,}", re.IGNORECASE)
_CALL_URI: Final = re.compile(r"\b(sips?:|tel:)([^\s\"'<>,]+)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\+?\d(?:[-.()]{0,2}\d){6,}")
"""Seven digits or more, with the visual separators of RFC 3966."""
_PLAIN_DIGITS: Final = re.compile(r"\d{7,}")
_E164: Final = re.compile(r"(?<![\w.])\+\d{7,15}(?!\d)")
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, line separators and the marks that reorder text on a screen."""


class Redactor:
    """Replaces secrets and telephone numbers by ``***``.

    Registered secrets are found anywhere, as such and percent-encoded; beyond these, URL
    credentials, ``password=``-like pairs, bearer tokens and the numbers in ``sip:`` and ``tel:``
    URIs are recognised by their form.
    """

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()

    def register(self, secret: str) -> None:
        """Hide this value from now on; safe to call from any thread (the tuple is replaced)."""
        if len(secret) < MIN_SECRET:
            return
        forms = {*self._secrets, secret, quote(secret, safe="")}
        # Longest first: a secret that contains another must not leave its rest behind.
        self._secrets = tuple(sorted(forms, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """The text without secrets; long lines and very long texts are cut, saying so."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        lines = text.split("\n")
        kept = [_scrub(line) for line in lines[:MAX_LINES]]
        if len(lines) > MAX_LINES:
            kept.append(f"[{len(lines) - MAX_LINES} more lines]")
        return "\n".join(kept)


def escape_controls(text: str) -> str:
    """Make it impossible for a value to begin a line, move the cursor or reorder what is read."""
    return _UNSAFE.sub(lambda match: ascii(match.group())[1:-1], text)


def _scrub(line: str) -> str:
    if len(line) > MAX_LINE:
        # At a space, so that no half of a URL is left that no pattern would know.
        cut = line.rfind(" ", 0, MAX_LINE)
        line = f"{line[: max(cut, 0)]} [{len(line) - max(cut, 0)} more characters]"
    line = _CALL_URI.sub(_hide_number, line)
    line = _URL_CREDENTIALS.sub(f"://{HIDDEN}@", line)
    line = _KEY_VALUE.sub(_hide_value, line)
    line = _BEARER.sub(lambda match: match.group(1) + HIDDEN, line)
    return _E164.sub(HIDDEN, line)


def _hide_value(match: re.Match[str]) -> str:
    key = match.group(1)
    # "/etc/mqtt-password: No such file": the key ends a path, what follows is a reason, no secret.
    if re.search(r"\w:\s+\Z", key):
        word = re.split(r"[\s\"'(]", match.string[: match.start()])[-1]
        if word.startswith(("/", "./", "../", "~/")) and not set(word) & set("?&=;"):
            return match.group()
    return key + HIDDEN


def _hide_number(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    user, at, host = rest.rpartition("@")
    if not at and scheme.lower() == "tel:":
        return scheme + _NUMBER.sub(HIDDEN, rest)
    name, colon, _ = user.partition(":")
    # In a host an address such as 192.168.100.200 is no number; in the user part it may be.
    return (
        scheme
        + _NUMBER.sub(HIDDEN, name)
        + (colon and f":{HIDDEN}")
        + at
        + _PLAIN_DIGITS.sub(HIDDEN, host)
    )
