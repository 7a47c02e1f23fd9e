"""The keys of a remote issuer: verified from a snapshot, which is fetched in the background.

PyJWT's own client blocks the event loop and drops good keys when a fetch fails. Here a request waits for a fetch only
if there is no usable snapshot or its ``kid`` is unknown, and a fetch that brings no usable key set changes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from math import inf
from typing import Final

from .. import names
from ..counters import Counters
from ..errors import ConfigError, Reason, Refusal, refuse_numbers
from ..protocols import Clock, SystemClock, call_weakly_later
from ..types import name_of_type
from .jwks_fetch import KeySet, NoKeySet, create_tls, download, parse_key_set, parse_url
from .keys import Key
from .rules import OWN_TYP, Recognise, is_session, normal_typ, refuse_recognise

FETCH_OUTCOMES: Final = ("ok", "invalid", "timeout", "error")
"""A key set; a response that is not one; no response in time; no response at all."""
UNKNOWN_KID_INTERVAL: Final = 30.0
"""Seconds between two fetches that an unknown ``kid`` may cause."""
_MAX_PAUSE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """A key set, and when its fetch began, by both clocks."""

    key_set: KeySet
    monotonic: float
    wall: float


@dataclass(frozen=True)
class _Timer:
    """A ``call_later`` that ends when it is dropped, unlike a handle also from the thread of another event loop."""

    start_fetch: Callable[[float], object]
    clock: Clock

    def ring(self) -> None:
        self.start_fetch(self.clock.monotonic())


class RemoteKeys:
    """The keys that an issuer publishes. The authority needs ``issuer`` and ``audience`` too: they sign for other apps.

    Tokens are verified from a snapshot, which is renewed in the background. A key that left the set verifies nothing
    once the new set has arrived. Secrets, private keys, keys for encryption and weak keys are skipped, as is every key
    after the first with the same ``kid``.

    Args:
        url: https, or http to this machine. Redirects are not followed; proxies of the environment are not used.
        signing: A key pair with a ``kid``, if the app mints too; its public half must be in the set.
        refresh_every: How often the set is fetched, and how long before its first use a new key should be published.
        usable_for: How long a snapshot is used if none newer can be fetched; then 503. Half of it limits refresh_every.
        timeout: Total time of one fetch; a request without a usable snapshot waits no longer.
        rsa_alg: The algorithm of RSA keys that name none.
        typ: The ``typ`` of the tokens that are accepted: those that this package minted elsewhere, access tokens (RFC
            9068), or ``JWT``, which may be absent. All but the first are foreign: they need no line of
            ``also_accept``, and their ``sid`` and ``auth_time`` mean nothing.
        recognise: True for the claims of a session: the same keys sign ID and log-out tokens.
        tls: In place of the certificate authorities that httpx brings.

    Raises:
        ConfigError: A setting cannot work; the message says how to fix it.
    """

    def __init__(
        self,
        url: str,
        *,
        signing: Key | None = None,
        refresh_every: timedelta = timedelta(minutes=5),
        usable_for: timedelta = timedelta(hours=1),
        timeout: timedelta = timedelta(seconds=5),
        rsa_alg: str = "RS256",
        typ: Sequence[str] = (OWN_TYP, "at+jwt", "JWT"),
        recognise: Recognise = is_session,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        refuse_numbers(refresh_every=refresh_every, usable_for=usable_for, timeout=timeout)
        if min(refresh_every, usable_for, timeout) <= timedelta(0):
            raise ConfigError("refresh_every, usable_for and timeout must be positive; 5 min, 1 h and 5 s are usual")
        if signing is not None and (not signing.can_sign or signing.symmetric or signing.kid is None):
            raise ConfigError(f"signing must be a private key with a kid, got {signing!r}; use Key.pem(…, kid=…)")
        if rsa_alg not in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}:
            raise ConfigError(f"rsa_alg must be one of RS256 to PS512, got {rsa_alg!r}")
        _refuse_tokens(typ, recognise)
        self.signing: Final = signing
        self.typs: Final = frozenset(normal_typ(each) for each in typ)
        self.recognise: Final = recognise
        self._url: Final = parse_url(url)
        self._interval: Final = min(refresh_every, usable_for / 2).total_seconds()
        self._usable_for: Final = usable_for.total_seconds()
        self._timeout: Final = timeout.total_seconds()
        self._rsa_alg: Final = rsa_alg
        self._tls: Final = tls or create_tls()
        self._clock: Clock = SystemClock()
        self._counters: tuple[list[int], Mapping[str, int]] | None = None
        self._listeners: Final[list[weakref.WeakMethod[Callable[[], None]]]] = []
        self._snapshot: _Snapshot | None = None
        self._failures = 0
        self._fetch_due = self._unknown_kid_due = -inf
        self._in_flight: Future[None] | None = None
        self._abandoned_at = -inf
        self._task: asyncio.Task[None] | None = None
        self._timer: _Timer | None = None

    @property
    def keys(self) -> Sequence[Key]:
        """The usable keys of the snapshot."""
        return () if self._snapshot is None else self._snapshot.key_set.ring.keys

    @property
    def usable_until(self) -> float:
        """The monotonic moment until which the snapshot may be used."""
        return -inf if self._snapshot is None else self._snapshot.monotonic + self._usable_for

    def find(self, kid: str | None, alg: str) -> Sequence[Key]:
        """The keys that may have signed a token with this header, from the snapshot; never blocks.

        Raises:
            Refusal: ``key_unknown``, ``algorithm_mismatch``, or ``keys_unavailable`` if there is no usable snapshot.
        """
        now = self._clock.monotonic()
        if now >= self._fetch_due:
            self._start_fetch(now)
        if self._snapshot is None or now >= self.usable_until:
            raise Refusal(Reason.KEYS_UNAVAILABLE)
        return self._snapshot.key_set.ring.find(kid, alg)

    async def refresh(self, kid: str | None) -> bool:
        """Wait for a fetch, started now if one is allowed; True if it brought a newer set."""
        before, now = self._snapshot, self._clock.monotonic()
        fetch, usable = self._current_fetch(now), now < self.usable_until
        if fetch is None and now >= (self._unknown_kid_due if usable else self._fetch_due):
            fetch = self._start_fetch(now)
            if usable:
                self._unknown_kid_due = now + UNKNOWN_KID_INTERVAL
        if fetch is not None:
            await asyncio.wait([asyncio.wrap_future(fetch)], timeout=self._timeout)  # wait_for would cancel it
            if all(key.kid != kid for key in self.keys):
                self._unknown_kid_due = now + UNKNOWN_KID_INTERVAL
        return self._snapshot is not before

    def attach(self, *, clock: Clock, counters: Counters, forget: Callable[[], None]) -> None:
        """Serve an authority from now on. If several share these keys, the first one's clock and counters are used.

        ``forget``, a bound method, is held weakly. It is called after a key left the set, to clear what was cached.
        """
        indexes = {name: counters.counter(names.JWKS_FETCHES, {names.OUTCOME: name}) for name in FETCH_OUTCOMES}
        if self._counters is None:
            self._counters, self._clock = (counters.counts, indexes), clock
        counters.gauge(names.JWKS_LAST_SUCCESS, lambda: None if self._snapshot is None else self._snapshot.wall)
        self._listeners.append(weakref.WeakMethod(forget))

    def open(self) -> None:
        """Fetch in the background from now on, so that the first request need not wait; a no-op outside event loops."""
        now = self._clock.monotonic()
        if now >= self._fetch_due:
            self._start_fetch(now)
        else:
            with contextlib.suppress(RuntimeError):
                self._set_timer(now)

    async def aclose(self) -> None:
        """Stop fetching in the background; the next use of the keys starts it again."""
        self._timer = None
        task = self._task
        if task is not None and task.get_loop() is asyncio.get_running_loop():  # another loop's task cannot be awaited
            task.cancel()
            await asyncio.wait([task])

    def _current_fetch(self, now: float) -> Future[None] | None:
        """The fetch in flight. One that a dead event loop, or the parent of this process, left behind is abandoned."""
        return self._in_flight if now < self._abandoned_at else None

    def _start_fetch(self, now: float) -> Future[None] | None:
        """The fetch in flight, started now if there was none; None outside an event loop."""
        fetch = self._current_fetch(now)
        if fetch is None:
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
                # A Future of concurrent.futures: requests of other event loops wait for the same fetch.
                fetch = self._in_flight = Future()
                fetch.set_running_or_notify_cancel()  # a request that ends while it waits must not cancel it
                self._abandoned_at = now + 2 * self._timeout
                self._task = loop.create_task(self._fetch(now))
                self._task.add_done_callback(partial(self._end_fetch, fetch))
        return fetch

    async def _fetch(self, now: float) -> None:
        """Fetch once. Errors of httpx, TLS and DNS end here: they may quote what was sent, and are counted only."""
        try:
            async with asyncio.timeout(self._timeout):
                body = await download(self._url, self._tls)
            self._replace(parse_key_set(body, self._rsa_alg), now)
        except TimeoutError:
            self._schedule("timeout")
        except NoKeySet:
            self._schedule("invalid")
        except Exception:
            self._schedule("error")
        else:
            self._schedule("ok")

    def _end_fetch(self, fetch: Future[None], _: asyncio.Task[None]) -> None:
        """Wake the requests that wait. A done callback, since a task that is cancelled early never runs."""
        if self._in_flight is fetch:
            self._in_flight = None
        fetch.set_result(None)

    def _replace(self, key_set: KeySet, now: float) -> None:
        before, wall = self._snapshot, self._clock.now() - (self._clock.monotonic() - now)
        self._snapshot = _Snapshot(key_set=key_set, monotonic=now, wall=wall)
        if before is not None and not key_set.keeps(before.key_set):
            for method in self._listeners:
                if (forget := method()) is not None:
                    forget()

    def _schedule(self, outcome: str) -> None:
        """Count a fetch and schedule the next: after failures in 1, 2, 4 … 30 s, but not before the set is due."""
        if self._counters is not None:
            counts, indexes = self._counters
            counts[indexes[outcome]] += 1
        now = self._clock.monotonic()
        renewal = -inf if self._snapshot is None else self._snapshot.monotonic + self._interval
        if outcome == "ok":
            self._failures, self._fetch_due = 0, renewal
        else:
            pause = min(2.0 ** min(self._failures, 10), _MAX_PAUSE)  # a larger exponent would overflow some day
            self._failures, self._fetch_due = self._failures + 1, max(renewal, now + pause)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        """Fetch again when it is due, as long as this event loop runs and these keys are in use."""
        self._timer = _Timer(self._start_fetch, self._clock)
        call_weakly_later(max(0.0, self._fetch_due - now), self._timer.ring)

    def __repr__(self) -> str:
        return f"RemoteKeys({self._url.scheme}://{self._url.netloc.decode()}{self._url.path})"


def _refuse_tokens(typ: object, recognise: object) -> None:
    """Raise ConfigError if these cannot say which tokens are accepted."""
    if not isinstance(typ, (list, tuple)) or not typ or not all(isinstance(each, str) for each in typ):
        raise ConfigError(f'typ must be a list of str, got {name_of_type(typ)}; use typ=["at+jwt"]')
    refuse_recognise(recognise)
