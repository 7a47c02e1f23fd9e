"""A remote key set: where it may be fetched from, how it is downloaded, and which of its keys can be used.

Everything that comes from outside is limited and checked here, so that :mod:`.jwks` only decides when to fetch.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import httpx

from ..errors import ConfigError, Reason, Refusal
from . import jws
from .keys import Key, KeyRing

MAX_BYTES: Final = 131_072
MAX_KEYS: Final = 100
_EXAMPLE: Final = "use https://issuer.example/jwks.json"
_HEADERS: Final = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
_JSON_TYPE: Final = re.compile(r"application/(?:.*\+)?json")
_SECRET_MEMBERS: Final = frozenset(("k", "d", "p", "q", "dp", "dq", "qi", "oth"))


class NoKeySet(Exception):
    """The response is not a usable key set. The error quotes nothing of it."""


def parse_url(url: str) -> httpx.URL:
    """The URL of a key set.

    Raises:
        ConfigError: The URL cannot be used; the message says how to fix it, and does not quote it.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ConfigError(f"the URL of the key set cannot be read; {_EXAMPLE}") from None
    if parsed.scheme not in {"https", "http"} or not parsed.host or parsed.userinfo:
        raise ConfigError(f"the URL of the key set must be http(s) with a host, without user and password; {_EXAMPLE}")
    if parsed.scheme == "http" and not _is_loopback(parsed.host):
        raise ConfigError("the key set must be fetched over https (http only from this machine)")
    return parsed


def create_tls() -> ssl.SSLContext:
    """A TLS context with the certificate authorities of httpx. Reading them takes 30 ms: do it before requests wait."""
    return httpx.create_ssl_context(trust_env=False)


async def download(url: httpx.URL, tls: ssl.SSLContext) -> bytes:
    """Fetch the body. The caller limits the time: a timeout of httpx starts anew with every byte.

    No redirects, no proxies or credentials of the environment, and no compression: a few bytes must not unpack to
    gigabytes.

    Raises:
        NoKeySet: The response is not 200, not of a JSON type, compressed, or too large.
        Exception: Whatever httpx, TLS and DNS raise.
    """
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113 - the caller limits the time
        client.stream("GET", url, headers=_HEADERS) as response,
    ):
        media_type = response.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if (
            response.status_code != 200
            or response.headers.get("content-encoding", "identity").lower() != "identity"
            or not _JSON_TYPE.fullmatch(media_type)
        ):
            raise NoKeySet
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise NoKeySet
        return bytes(body)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class KeySet:
    """The usable keys of a set (RFC 7517 section 5)."""

    ring: KeyRing
    members: Sequence[Mapping[str, Any]]
    """Their JWKs, as they were published."""

    def keeps(self, earlier: KeySet) -> bool:
        """True if this set still has every key of the earlier one, unchanged."""
        return all(member in self.members for member in earlier.members)


def parse_key_set(body: bytes, rsa_alg: str) -> KeySet:
    """Parse a key set. Unusable keys are skipped, as is every key after the first with the same ``kid``.

    Raises:
        NoKeySet: The body is not strict JSON, or has too many keys, or no usable one.
    """
    try:
        members = jws.parse_object(body, Reason.KEYS_UNAVAILABLE).get("keys")
    except Refusal:
        raise NoKeySet from None
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise NoKeySet
    usable: dict[str | int, tuple[Key, Mapping[str, Any]]] = {}
    for place, member in enumerate(members):
        if (key := _usable_key(member, rsa_alg)) is not None:
            usable.setdefault(key.kid or place, (key, member))
    keys, members = [key for key, _ in usable.values()], [member for _, member in usable.values()]
    try:
        return KeySet(ring=KeyRing(keys), members=members)
    except ConfigError:
        raise NoKeySet from None


def _usable_key(member: object, rsa_alg: str) -> Key | None:
    """One key of the set; None if it is a secret, a published private key, weak, or not for signatures."""
    if not isinstance(member, dict) or not _SECRET_MEMBERS.isdisjoint(member) or member.get("kty") == "oct":
        return None
    try:
        return Key.jwk({"alg": rsa_alg, **member} if member.get("kty") == "RSA" else member, verify_only=True)
    except ConfigError:
        return None
