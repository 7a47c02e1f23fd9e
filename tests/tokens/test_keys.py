"""Keys and key rings: what is too weak or for another use fails at once, no key is ever shown, and keys rotate."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import prod
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519

from jwt_middleware import ConfigError, Key, KeyRing, Reason
from jwt_middleware.tokens.jws import to_base64url
from tests.support import vectors
from tests.support.target import private_pem, public_pem, reason, reason_of
from tests.support.world import EPOCH, SECRET, FakeClock, Session, World, authority_of, bearer

OLD, NEW = "old-old-old-old-old-old-old-old-0001", "new-new-new-new-new-new-new-new-0002"
UNTIL = datetime.fromtimestamp(EPOCH, UTC) + timedelta(days=7, seconds=30)
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def signs(key: Key) -> bool:
    return key.verify(b"a.b", key.sign(b"a.b")) and not key.verify(b"a.c", key.sign(b"a.b"))


class TestPem:
    def test_a_pem_signs_and_its_public_half_verifies(self, subtests: pytest.Subtests) -> None:
        for private, alg, expected in [
            (RSA, "RS256", ("RS256",)),
            (RSA, "RS384", ("RS384",)),
            (RSA, "RS512", ("RS512",)),
            (RSA, "PS256", ("PS256",)),
            (RSA, "PS512", ("PS512",)),
            (P256, None, ("ES256",)),
            (P256, "ES256", ("ES256",)),
            (ec.generate_private_key(ec.SECP384R1()), None, ("ES384",)),
            (ec.generate_private_key(ec.SECP521R1()), None, ("ES512",)),
            (ED, None, ("EdDSA", "Ed25519")),
            (ED, "Ed25519", ("EdDSA", "Ed25519")),
            (ed448.Ed448PrivateKey.generate(), "Ed448", ("Ed448",)),
        ]:
            with subtests.test(private=private):
                key = Key.pem(private_pem(private), alg=alg)
                assert key.names == expected
                assert signs(key)
                assert not key.symmetric
                public = Key.pem(public_pem(private).decode(), alg=alg)
                assert public.verify(b"a", key.sign(b"a"))
                assert not public.can_sign
                with pytest.raises(ConfigError, match="only verifies"):
                    public.sign(b"a")

    def test_an_encrypted_pem_needs_its_password(self) -> None:
        pem = private_pem(P256, b"open sesame")
        assert signs(Key.pem(pem, password="open sesame"))
        for wrong in (None, "other"):
            with pytest.raises(ConfigError, match="cannot be read"):
                Key.pem(pem, password=wrong)

    def test_a_pem_too_weak_or_for_something_else_is_refused(self, subtests: pytest.Subtests) -> None:
        for pem, alg, fix in [
            (public_pem(RSA), None, "use alg='RS256'"),
            (public_pem(RSA), "ES256", "not support that alg"),
            (public_pem(RSA), "HS256", "not support that alg"),
            (public_pem(P256), "ES384", "use alg='ES256'"),
            (public_pem(ED), "Ed448", "use alg='EdDSA'"),
            (public_pem(ed448.Ed448PrivateKey.generate()), None, "use alg='Ed448'"),
            (public_pem(ed448.Ed448PrivateKey.generate()), "EdDSA", "use alg='Ed448'"),
            (public_pem(ec.generate_private_key(ec.SECP256K1())), None, "EC P-256/384/521"),
            (public_pem(dsa.generate_private_key(2048)), None, "EC P-256/384/521"),
            (public_pem(x25519.X25519PrivateKey.generate()), "EdDSA", "EC P-256/384/521"),
            (public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "RS256", "2048 bits"),
            (private_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "PS256", "2048 bits"),
            (public_pem(rsa.generate_private_key(public_exponent=3, key_size=2048)), "RS256", "2048 bits"),
            (b"", None, "cannot be read"),
            (b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----", None, "cannot be read"),
            (b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----", None, "cannot be read"),
        ]:
            with subtests.test(pem=pem), pytest.raises(ConfigError, match=fix):
                Key.pem(pem, alg=alg)


class TestJwk:
    def test_the_keys_of_the_rfcs_are_read(self) -> None:
        key = Key.jwk(vectors.RFC7517_A1_RSA)
        assert (key.id, key.kid, key.alg, key.can_sign) == ("2011-04-29", "2011-04-29", "RS256", False)
        for signed in vectors.SIGNED:
            assert Key.jwk(signed.jwk, alg=signed.alg).can_sign is ("d" in signed.jwk or "k" in signed.jwk)

    def test_a_jwk_too_weak_or_for_something_else_is_refused(self, subtests: pytest.Subtests) -> None:
        for jwk, fix in [
            (vectors.RFC7517_A1_EC, "not for signatures"),
            (vectors.RFC7517_A3_KEYWRAP, "not support that alg"),
            ({**vectors.RFC7517_A3_HMAC, "alg": "HS256"}, "kid must have 1 to 128 characters"),
            ({}, "cannot be read"),
            ({"kty": "EC"}, "cannot be read"),
            ({"kty": ["EC"]}, "cannot be read"),
            ({"kty": "AKP", "alg": "ML-DSA-44"}, "cannot be read"),
            ({**vectors.RFC7515_A3.jwk, "crv": "secp256k1"}, "cannot be read"),
            ({**vectors.RFC7515_A3.jwk, "crv": "P-384"}, "cannot be read"),
            ({**vectors.RFC7515_A3.jwk, "y": vectors.RFC7515_A3.jwk["x"]}, "cannot be read"),
            ({**vectors.RFC7515_A3.jwk, "x": vectors.RFC7515_A3.jwk["x"] + "="}, "unpadded base64url"),
            ({**vectors.RFC7515_A3.jwk, "x": vectors.RFC7515_A3.jwk["x"] + "\n"}, "unpadded base64url"),
            ({**vectors.RFC8037_A4.jwk, "x": to_base64url(bytes(32)).decode()}, "cannot be read"),
            ({**vectors.RFC8037_A4.jwk, "x": 1}, "cannot be read"),
            ({**vectors.RFC7515_A2.jwk, "alg": "RS256", "e": "Aw"}, "2048 bits"),
            ({"kty": "oct", "k": "AAAA", "alg": "HS256"}, "RFC 7518"),
            ({"kty": "oct", "k": "", "alg": "HS256"}, "cannot be read"),
            ({**vectors.RFC7515_A1.jwk, "alg": "none"}, "not support that alg"),
            ({**vectors.RFC7515_A1.jwk, "alg": ["HS256"]}, "not support that alg"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "use": "enc"}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "use": None}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": ["encrypt"]}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": ["verify", "decrypt"]}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": []}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": [[]]}, "not for signatures"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": ["sign"]}, "do not include verify"),
            ({**vectors.RFC7515_A1.jwk, "alg": "HS256", "kid": 1}, "kid must have 1 to 128 characters"),
        ]:
            with subtests.test(jwk=jwk), pytest.raises(ConfigError, match=fix):
                Key.jwk(jwk)

    def test_an_rsa_key_of_the_flawed_chips_is_refused(self) -> None:
        """CVE-2017-15361: modulo every small prime such a modulus is a power of 65537."""
        primorial = prod(n for n in range(2, 170) if all(n % divisor for divisor in range(2, n)))
        factor = (2**2047 // primorial + 1) * primorial
        number = factor + pow(65537, 9, primorial)
        flawed = rsa.RSAPublicNumbers(65537, number).public_key()
        with pytest.raises(ConfigError, match="CVE-2017-15361"):
            Key.pem(public_pem(flawed), alg="RS256")

    def test_without_sign_in_key_ops_a_jwk_only_verifies(self) -> None:
        assert not Key.jwk({**vectors.RFC7515_A1.jwk, "alg": "HS256", "key_ops": ["verify"]}).can_sign
        assert Key.jwk({**vectors.RFC7515_A3.jwk, "key_ops": ["sign"], "use": "sig"}).can_sign

    def test_arguments_must_agree_with_the_jwk(self) -> None:
        assert Key.jwk(vectors.RFC7517_A1_RSA, alg="RS256", kid="2011-04-29").kid == "2011-04-29"
        with pytest.raises(ConfigError, match="alg= contradicts"):
            Key.jwk(vectors.RFC7517_A1_RSA, alg="PS256")
        with pytest.raises(ConfigError, match="kid= contradicts"):
            Key.jwk(vectors.RFC7517_A1_RSA, kid="other")

    def test_a_foreign_key_only_verifies_and_a_short_one_is_foreign(self) -> None:
        assert not Key.jwk(vectors.RFC7517_A1_RSA, until=UNTIL).foreign
        private = Key.jwk(vectors.RFC8037_A4.jwk, foreign=True)
        assert (private.foreign, private.can_sign) == (True, False)
        short = Key.jwk({"kty": "oct", "k": "AAAA"}, alg="HS256", allow_short=True, until=UNTIL)
        assert (short.foreign, short.can_sign) == (True, False)

    def test_allow_short_is_for_secrets_alone(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="allow_short is for HMAC"):
            Key.jwk(vectors.RFC7517_A1_RSA, allow_short=True, until=UNTIL)
        file = tmp_path / "key.pem"
        file.write_bytes(private_pem(P256))
        with pytest.raises(ConfigError, match="allow_short is for HMAC"):
            Key.from_file(file, allow_short=True, until=UNTIL)


class TestFilesAndVariables:
    @pytest.mark.parametrize(
        ("text", "alg"),
        [
            (SECRET.encode() + b"\r\n", "HS256"),
            (private_pem(P256), "ES256"),
            (b"\n  " + private_pem(ED), "EdDSA"),
            (json.dumps(vectors.RFC8037_A4.jwk).encode(), "EdDSA"),
            (b"{not json, but long enough to be a secret}", "HS256"),
        ],
    )
    def test_a_file_or_a_variable_holds_any_kind_of_key(
        self, text: bytes, alg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "key"
        file.write_bytes(text)
        key = Key.from_file(file, kid="k")
        assert (key.alg, key.kid) == (alg, "k")
        monkeypatch.setenv("KEY", text.decode().rstrip("\r\n"))
        assert Key.from_env("KEY", verify_only=True).verify(b"a", key.sign(b"a"))

    def test_a_binary_secret_in_a_file_is_taken_as_it_is(self, tmp_path: Path) -> None:
        file = tmp_path / "key"
        file.write_bytes(bytes(range(128, 192)))
        assert Key.hmac(bytes(range(128, 192))).verify(b"a", Key.from_file(str(file)).sign(b"a"))

    def test_a_key_that_is_missing_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("KEY", raising=False)
        with pytest.raises(ConfigError, match="KEY is not set"):
            Key.from_env("KEY")
        monkeypatch.setenv("KEY", "")
        with pytest.raises(ConfigError, match="KEY is not set"):
            Key.from_env("KEY")
        with pytest.raises(ConfigError, match="cannot be read; check its path"):
            Key.from_file(tmp_path / "none")
        with pytest.raises(ConfigError, match="cannot be read; check its path"):
            Key.from_file(tmp_path)


class TestHmac:
    @pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
    def test_a_secret_shorter_than_its_hash_is_refused(self, alg: str) -> None:
        secret = b"x" * (int(alg[2:]) // 8)
        assert signs(Key.hmac(secret, alg=alg))
        with pytest.raises(ConfigError, match="RFC 7518 section"):
            Key.hmac(secret[1:], alg=alg)

    def test_a_value_of_another_kind_is_refused_with_its_fix(self, subtests: pytest.Subtests) -> None:
        cases: list[tuple[Callable[[], object], str]] = [
            (lambda: Key.hmac(None), "must be str or bytes, got NoneType; is its variable set"),  # type: ignore[arg-type]  # os.environ.get
            (lambda: Key.jwk(json.dumps(vectors.RFC7515_A1.jwk)), r"got str; use json\.loads"),  # type: ignore[arg-type]
            (lambda: Key.pem("/etc/app/key.pem"), r"Key\.from_file"),
        ]
        for mistake, fix in cases:
            with subtests.test(mistake=mistake), pytest.raises(ConfigError, match=fix):
                mistake()

    def test_a_secret_of_text_is_utf_8(self) -> None:
        key = Key.hmac("é" * 16)
        assert Key.hmac("é".encode() * 16).verify(b"a", key.sign(b"a"))
        assert key.alg == "HS256"
        assert Key.hmac(SECRET, alg=None).alg == "HS256"

    @pytest.mark.parametrize("alg", ["none", "None", "RS256", "hs256", "", "HS1"])
    def test_a_secret_supports_hmac_only(self, alg: str) -> None:
        with pytest.raises(ConfigError, match="not support that alg"):
            Key.hmac(SECRET, alg=alg)

    def test_a_short_secret_needs_an_end(self) -> None:
        key = Key.hmac("old", allow_short=True, verify_only=True, until=UNTIL)
        assert (key.foreign, key.can_sign, key.until) == (True, False, UNTIL.timestamp())
        with pytest.raises(ConfigError, match="needs until="):
            Key.hmac("old", allow_short=True)
        with pytest.raises(ConfigError, match="RFC 7518"):
            Key.hmac("", allow_short=True, until=UNTIL)

    def test_an_end_has_a_time_zone(self) -> None:
        for wrong in (datetime(2026, 12, 1), date(2026, 12, 1), "2026-12-01", 1_764_547_200):
            with pytest.raises(ConfigError, match="tzinfo=UTC"):
                Key.hmac(SECRET, until=wrong)  # type: ignore[arg-type]  # what newcomers write

    @pytest.mark.parametrize("secret", [public_pem(RSA), private_pem(RSA), json.dumps(vectors.RFC7515_A2.jwk)])
    def test_the_text_of_another_kind_of_key_is_refused_as_a_secret(self, secret: str | bytes) -> None:
        """Who publishes an RSA key and also takes its text for a secret lets everybody sign (RFC 8725 section 2.1)."""
        with pytest.raises(ConfigError, match="another kind of key"):
            Key.hmac(secret)

    @pytest.mark.parametrize("kid", ["", "a b", "a" * 129, "../a\n"])
    def test_a_kid_that_no_token_could_name_is_refused(self, kid: str) -> None:
        with pytest.raises(ConfigError, match="kid must have 1 to 128 characters"):
            Key.hmac(SECRET, kid=kid)


CANARY = "canary-canary-canary"


class TestKeyRing:
    async def test_the_kid_chooses_and_the_algorithm_must_be_the_keys(self) -> None:
        ring = KeyRing([Key.hmac(NEW, kid="b"), Key.hmac(OLD, kid="a"), Key.jwk(vectors.RFC7515_A3.jwk, kid="c")])
        assert [key.kid for key in ring.find("a", "HS256")] == ["a"]
        assert reason_of(ring.find, "c", "HS256") is Reason.ALGORITHM_MISMATCH
        assert reason_of(ring.find, "a", "ES256") is Reason.ALGORITHM_MISMATCH
        assert reason_of(ring.find, "d", "HS256") is Reason.KEY_UNKNOWN
        assert reason_of(ring.find, None, "HS256") is Reason.KEY_UNKNOWN
        assert not await ring.refresh("d")

    def test_a_token_without_kid_tries_only_keys_without(self) -> None:
        ring = KeyRing([Key.hmac(NEW), Key.hmac(OLD), Key.hmac(OLD * 2, alg="HS512", kid="a")])
        assert [key.id for key in ring.find(None, "HS256")] == ["key-1", "key-2"]
        assert reason_of(ring.find, None, "HS512") is Reason.ALGORITHM_MISMATCH

    def test_both_names_of_ed25519_find_the_key(self) -> None:
        ring = KeyRing([Key.jwk(vectors.RFC8037_A4.jwk)])
        assert ring.find(None, "EdDSA") == ring.find(None, "Ed25519") == ring.keys

    def test_the_first_key_signs(self) -> None:
        ring = KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old")])
        assert ring.signing is ring.keys[0]
        assert KeyRing([Key.hmac(OLD, verify_only=True)]).signing is None

    def test_keys_that_do_not_go_together_fail_at_once(self, subtests: pytest.Subtests) -> None:
        cases: list[tuple[Callable[[], Any], str]] = [
            (list, "at least one Key"),
            (lambda: ["secret"], "at least one Key"),
            (lambda: Key.hmac(OLD), r"at least one Key; use KeyRing\(\[Key\.hmac"),
            (lambda: [Key.hmac(OLD, kid="a"), Key.hmac(NEW, kid="a")], "two keys have the kid"),
            (lambda: [Key.hmac(OLD), Key.hmac(NEW, kid="key-1")], "two keys have the kid"),
            (lambda: [Key.hmac(OLD), Key.jwk(vectors.RFC7515_A3.jwk)], "must not be mixed"),
            (lambda: [Key.hmac(OLD, verify_only=True), Key.hmac(NEW)], "put the one that signs first"),
            (lambda: [Key.hmac(OLD, until=UNTIL)], "must not end"),
            (lambda: [Key.hmac("short", allow_short=True, until=UNTIL), Key.hmac(NEW)], "put the one that signs first"),
            (lambda: [Key.hmac(OLD, foreign=True), Key.hmac(NEW)], "put the one that signs first"),
        ]
        for keys, fix in cases:
            with subtests.test(keys=keys), pytest.raises(ConfigError, match=fix):
                KeyRing(keys())

    def test_a_secret_and_a_key_pair_with_a_kid_each_go_together(self) -> None:
        assert len(KeyRing([Key.hmac(OLD), Key.jwk(vectors.RFC7515_A3.jwk, kid="a")]).keys) == 2


class TestSecrecy:
    def test_no_error_shows_a_key(self, subtests: pytest.Subtests) -> None:
        cases: list[Callable[[], object]] = [
            lambda: Key.hmac(CANARY),
            lambda: Key.hmac(CANARY + "\udcff"),
            lambda: Key.hmac(f"-----BEGIN PUBLIC KEY-----\n{CANARY}\n-----END PUBLIC KEY-----"),
            lambda: Key.hmac(CANARY * 3, alg=CANARY),
            lambda: Key.hmac(CANARY * 3, kid=CANARY + "\n"),
            lambda: Key.pem(CANARY),
            lambda: Key.pem(f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----"),
            lambda: Key.pem("\ud800" + CANARY),
            lambda: Key.pem(private_pem(P256, b"x" * 9), password=CANARY),
            lambda: Key.jwk({"kty": "oct", "k": CANARY}),
            lambda: Key.jwk({"kty": "oct", "k": CANARY + "="}, alg="HS256"),
            lambda: Key.jwk({"kty": "EC", "crv": "P-256", "x": CANARY, "y": CANARY, "d": CANARY}),
            lambda: Key.jwk({"kty": CANARY, "alg": CANARY, "kid": CANARY, "use": CANARY}),
            lambda: Key.hmac(CANARY * 3, verify_only=True).sign(CANARY.encode()),
        ]
        for mistake in cases:
            with subtests.test(mistake=mistake):
                with pytest.raises(ConfigError) as caught:
                    mistake()
                shown = "".join(line for line in traceback.format_exception(caught.value) if not line.startswith("  "))
                assert CANARY not in shown
                assert caught.value.__context__ is None
                assert CANARY not in repr(caught.value)

    def test_no_repr_shows_a_key(self) -> None:
        for key in (Key.hmac(CANARY * 3, kid="a"), Key.jwk(vectors.RFC8037_A4.jwk), Key.pem(private_pem(P256))):
            for shown in (repr(key), str(key), f"{key!r}", repr([key]), repr(key._material)):
                assert CANARY not in shown
                assert "nWGx" not in shown
                assert "PRIVATE" not in shown
        assert repr(Key.hmac(SECRET, kid="a")) == "Key(id='a', alg='HS256', can_sign=True)"

    def test_a_ring_shows_no_key(self) -> None:
        assert repr(KeyRing([Key.hmac(OLD)])) == "KeyRing([Key(id='key-1', alg='HS256', can_sign=True)])"


RINGS = {
    "before": lambda: KeyRing([Key.hmac(OLD, kid="old")]),
    "publish": lambda: KeyRing([Key.hmac(OLD, kid="old"), Key.hmac(NEW, kid="new")]),
    "sign": lambda: KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old", verify_only=True, until=UNTIL)]),
    "retire": lambda: KeyRing([Key.hmac(NEW, kid="new")]),
}


class TestRotation:
    @pytest.mark.parametrize(("this", "next_"), [("before", "publish"), ("publish", "sign"), ("sign", "retire")])
    async def test_neighbouring_steps_of_a_rotation_run_side_by_side(self, this: str, next_: str) -> None:
        """Instances are replaced one after the other: what either step mints, the other reads; save what is retired."""

        clock = FakeClock()
        ours, theirs = (authority_of(keys=RINGS[step](), clock=clock) for step in (this, next_))
        for minting, reading in ((ours, theirs), (theirs, ours)):
            token = (await minting.issue(Session(user_id="7"))).token
            assert (await reading.verify(token)).claims["userId"] == "7"

    async def test_an_old_key_verifies_until_its_end(self) -> None:
        clock = FakeClock()
        token = (await authority_of(keys=RINGS["publish"](), clock=clock).issue(Session(user_id="7"))).token
        authority = authority_of(keys=RINGS["sign"](), clock=clock)
        clock.advance(7 * 86_400 - 1)
        assert (await authority.authenticate(bearer(token))).result == "accepted"
        clock.advance(31)
        assert (await authority.authenticate(bearer(token))).reason in (Reason.KEY_UNKNOWN, Reason.TOKEN_EXPIRED)

    async def test_a_retired_key_ends_cached_tokens_too(self) -> None:
        """No cache entry outlives the key: its deadline is at most the key's end."""
        until = datetime.fromtimestamp(EPOCH + 20, UTC)
        keys = KeyRing([Key.hmac(NEW, kid="new"), Key.hmac(OLD, kid="old", verify_only=True, until=until)])
        world = World(keys=keys, store=None)
        issued = await authority_of(keys=RINGS["before"](), clock=world.clock).issue(
            Session(user_id="7", email="a@b.c")
        )
        assert (await world.get(issued.token)).status_code == 200
        world.clock.advance(19.9)
        assert (await world.get(issued.token)).status_code == 200
        assert world.recorder.reasons == [None]  # the second came from the cache
        world.clock.advance(0.1)
        assert (await world.get(issued.token)).status_code == 401
        assert world.recorder.reasons == [None, "key_unknown"]

    async def test_an_authority_without_the_key_refuses_its_tokens(self) -> None:
        clock = FakeClock()
        token = (await authority_of(keys=RINGS["publish"](), clock=clock).issue(Session(user_id="7"))).token
        assert await reason(authority_of(keys=RINGS["retire"](), clock=clock), token) == "key_unknown"
