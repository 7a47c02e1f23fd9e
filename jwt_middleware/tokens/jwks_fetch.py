"""From the bytes of a JSON Web Key Set (RFC 7517 section 5) to a ring of keys that verify."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import httpx

from ..errors import ConfigError, Reason, Refusal
from . import jws
from .keys import Key, KeyRing

MOST_BYTES: Final = 131_072
_HEADERS: Final = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}


class NoKeySet(Exception):
    """What came is not a key set that can be used; it says nothing of what came."""


def location(url: str) -> httpx.URL:
    """The URL of a key set.

    Raises:
        ConfigError: The message says how to mend it.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        raise ConfigError("the URL of the key set cannot be read: https://issuer.example/jwks.json") from None
    if parsed.scheme not in {"https", "http"} or not parsed.host or parsed.userinfo:
        raise ConfigError("the key set has a URL without user and password: https://issuer.example/jwks.json")
    if parsed.scheme == "http" and not _is_loopback(parsed.host):
        raise ConfigError("who can change the key set can forge every token: use https (http only to this machine)")
    return parsed


def trust() -> ssl.SSLContext:
    """The certificate authorities httpx brings. Reading them takes 30 ms: not while requests wait."""
    return httpx.create_ssl_context(trust_env=False)


async def download(url: httpx.URL, tls: ssl.SSLContext) -> bytes:
    """The body; time is limited by the caller, since a time limit of httpx begins anew with every byte.

    No redirects, no proxies or credentials of the environment, and nothing compressed: a few bytes that unpack to
    gigabytes are not unpacked.

    Raises:
        NoKeySet: It is not 200, not JSON by its own account, compressed, or too large.
        Exception: Whatever httpx, TLS and DNS come up with.
    """
    async with (
        httpx.AsyncClient(verify=tls, trust_env=False, follow_redirects=False, timeout=None) as client,  # noqa: S113 - as said above
        client.stream("GET", url, headers=_HEADERS) as response,
    ):
        said = response.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if (
            response.status_code != 200
            or response.headers.get("content-encoding", "identity").lower() != "identity"
            or not (said == "application/json" or (said.startswith("application/") and said.endswith("+json")))
        ):
            raise NoKeySet
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MOST_BYTES:
                raise NoKeySet
        return bytes(body)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


MOST_KEYS: Final = 100
_SECRET: Final = frozenset(("k", "d", "p", "q", "dp", "dq", "qi", "oth"))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class KeySet:
    """The usable keys of a set."""

    ring: KeyRing
    members: Sequence[Mapping[str, Any]]
    """As they were written."""

    def keeps(self, earlier: KeySet) -> bool:
        """Whether every key of the earlier set is still here, unchanged."""
        return all(member in self.members for member in earlier.members)


def read(body: bytes, rsa_alg: str) -> KeySet:
    """The keys that can be used; the others are passed over, as is every one after the first of the same ``kid``.

    Raises:
        NoKeySet: It is no strict JSON, has too many keys, or none that can be used.
    """
    try:
        written = jws.parse_object(body, Reason.KEYS_UNAVAILABLE).get("keys")
    except Refusal:
        raise NoKeySet from None
    if not isinstance(written, list) or len(written) > MOST_KEYS:
        raise NoKeySet
    usable: list[tuple[Key, Mapping[str, Any]]] = []
    kids: set[str] = set()
    for member in written:
        key = _key(member, rsa_alg)
        if key is not None and key.kid not in kids:
            usable.append((key, member))
            kids.update(() if key.kid is None else (key.kid,))
    try:
        return KeySet(ring=KeyRing([key for key, _ in usable]), members=[member for _, member in usable])
    except ConfigError:
        raise NoKeySet from None


def _key(member: object, rsa_alg: str) -> Key | None:
    """One key of the set; None where it is a secret, private though published, weak, or not for signatures."""
    if not isinstance(member, dict) or not _SECRET.isdisjoint(member) or member.get("kty") == "oct":
        return None
    alg = {"alg": rsa_alg} if member.get("kty") == "RSA" and "alg" not in member else {}
    try:
        return Key.jwk({**member, **alg}, verify_only=True)
    except ConfigError:
        return None
