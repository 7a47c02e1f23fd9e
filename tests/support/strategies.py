"""Generated attackers: tokens, cookies and headers that are almost right."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

from jwt_middleware import Key
from jwt_middleware.tokens.jws import to_base64url
from tests.support.target import CLAIMS, HEADER, HMAC, NOW, forged

OWN: dict[str, Any] = {**HEADER, "typ": "session+jwt"}
"""The header of a token of this package; that of ``HEADER`` is foreign."""
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def own(payload: object = CLAIMS, header: object = OWN, *, key: Key | None = HMAC) -> str:
    """A token of any payload that says it is of this package."""
    return forged(header, payload, key=key)


text = st.one_of(
    st.text(max_size=8),
    st.text("a0 \t\r\n\0;,=\"'\\/%.-_~é\u0085\u2028\ud800", max_size=8),
    st.sampled_from(["", "none", "HS256", "RS256", "../../x", "' OR 1=1", "7", "a" * 256, "{{7*7}}", "${x}", "1e3"]),
)
edges = [0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63), 2**64 - 1, 2**64, 10**30, 1e308, -1e308, 5e-324, NOW + 604_831]
numbers = st.one_of(st.integers(), st.integers(NOW - 40, NOW + 40), st.floats(), st.sampled_from(edges))
values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, text),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
"""What a claim may be set to: any JSON, and what JSON should not be."""


@st.composite
def members(draw: st.DrawFn, base: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """An object with a few members changed, left out or added."""
    changed = dict(base)
    for name in draw(st.lists(st.one_of(st.sampled_from(names), text), max_size=3)):
        if draw(st.booleans()) and name in changed:
            del changed[name]
        else:
            changed[name] = draw(values)
    return changed


HEADER_NAMES = ["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"]
payloads = members(CLAIMS, [*CLAIMS, "nbf", "iss", "aud", "sub", "jti", "type", "purpose", "nonce"])


@st.composite
def spelled(draw: st.DrawFn, value: dict[str, Any]) -> bytes:
    """JSON in one of its spellings, some of them not strict."""
    separators = draw(st.sampled_from([(",", ":"), (", ", " : ")]))
    raw = json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
    encoded = raw.encode("utf-8", "surrogatepass")
    tail = draw(st.sampled_from([b" ", b"\n", b"\0", b"{}", b",", b"//"]))
    depth = draw(st.sampled_from([30, 31, 32, 33, 900]))
    spellings = [
        *[encoded] * 12,
        encoded.replace(b"{", b'{"version":2,', 1),
        b"\xef\xbb\xbf" + encoded,
        raw.encode("utf-16", "replace"),
        raw.encode("latin-1", "replace"),
        encoded + tail,
        encoded.replace(b"e", b"\\u0065"),
        encoded[: draw(st.integers(0, len(encoded)))],
        encoded[:-1] + b',"w":' + b"[" * depth + b"]" * depth + b"}",
    ]
    return draw(st.sampled_from(spellings))


@st.composite
def segments(draw: st.DrawFn, octets: bytes) -> str:
    """base64url, rarely as it should not be."""
    encoded = to_base64url(octets).decode()
    at, space = draw(st.integers(0, len(encoded))), draw(st.sampled_from([" ", "\n", "\t", "\0", "%20", "é", "."]))
    spellings = [
        *[encoded] * 20,
        encoded + "=" * (-len(encoded) % 4 or 1),
        encoded.replace("-", "+").replace("_", "/"),
        encoded and encoded[:-1] + draw(st.sampled_from(ALPHABET)),
        encoded.swapcase(),
        encoded[:at] + space + encoded[at:],
        encoded[1:],
    ]
    return draw(st.sampled_from(spellings))


@st.composite
def tokens(draw: st.DrawFn, key: Key = HMAC, typ: str = "session+jwt") -> str:
    """A token whose header, payload, encodings and signature are almost right; most are signed with ``key``."""
    members_of = members({**OWN, "alg": key.alg, "typ": typ}, HEADER_NAMES)
    header = draw(segments(draw(spelled(draw(members_of)))))
    payload = draw(segments(draw(spelled(draw(payloads)))))
    signing_input = f"{header}.{payload}".encode("utf-8", "surrogatepass")
    signature = key.sign(signing_input)
    if draw(st.integers(0, 7)) == 0:
        signature = draw(st.sampled_from([b"", signature[:-1], signature + b"\0", bytes(len(signature))]))
    parts = [header, payload, draw(segments(signature))]
    at, more = draw(st.integers(0, 2)), draw(st.lists(st.sampled_from(["", "e30", header]), min_size=1, max_size=3))
    before, after = parts[:at], parts[at + 1 :]
    shapes = [*[parts] * 12, before + after, parts + more, draw(st.permutations(parts)), [*before, "", *after]]
    return ".".join(draw(st.sampled_from(shapes)))


@st.composite
def edits(draw: st.DrawFn, token: str) -> str:
    """A token with a character or two replaced, inserted or removed."""
    changed = token
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, max(0, len(changed) - 1)))
        put = draw(st.sampled_from(["", *ALPHABET, "=", ".", "+", "/", " ", "\n", "é", "%"]))
        changed = changed[:at] + put + changed[at + draw(st.integers(0, 1)) :]
    return changed


def cookies(token: str) -> st.SearchStrategy[bytes]:
    """Cookie headers around a token."""
    name, value = b"__Host-session", token.encode()
    names = [name, b"token", name[:-1], name + b"2", b"x" + name, name.lower()]
    marks = [b"=", b";", b"; ", b",", b" ", b"\t", b"\0", b"\r\n", b'"', b"\xa0", b"%3D"]
    pairs = [value, value + b";", name + b"=" + value, b"token=" + value]
    return st.lists(st.sampled_from(names + marks + pairs) | st.binary(max_size=4), max_size=8).map(b"".join)


def authorizations(token: str) -> st.SearchStrategy[bytes]:
    """Authorization headers around a token."""
    schemes = st.sampled_from([b"Bearer", b"bearer", b"BEARER", b"Basic", b"Bearer2", b"", b"Token", b"Bearer Bearer"])
    gaps = st.sampled_from([b" ", b"", b"  ", b"\t", b" \t", b"\n", b",", b"\xa0"])
    tails = st.sampled_from([b"", b" ", b",", b"=", b" x", b"\t", b"\0"])
    return st.builds(lambda scheme, gap, tail: scheme + gap + token.encode() + tail, schemes, gaps, tails)


def reference_cookie(header: bytes, names: list[bytes]) -> list[bytes]:
    """The rule in its simplest form: the different values of the first name that is present."""
    pairs = [pair.partition(b"=") for pair in header.split(b";")]
    for name in names:
        if values := [value.strip(b" \t") for key, equals, value in pairs if equals and key.strip(b" \t") == name]:
            return list(dict.fromkeys(values))
    return []


def reference_bearer(value: bytes) -> bytes | None:
    """RFC 6750 section 2.1 in one pattern."""
    match = re.fullmatch(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9\-._~+/]+=*) *", value)
    return match.group(1) if match else None
