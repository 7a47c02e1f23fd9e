"""Attacks by name: through ``verify`` and over HTTP by cookie and by Bearer, the Reason read by an observer."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from jwt_middleware import Envelope, Key
from jwt_middleware.tokens.jws import from_base64url, to_base64url
from tests.support import vectors
from tests.support.issuer import Issuer
from tests.support.strategies import ALPHABET, OWN, own
from tests.support.target import CLAIMS, HMAC, NOW, Target, compact, forged, private_pem, public_pem
from tests.support.world import SECRET, FakeClock, bearer, cookie

RSA, ATTACKER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED_ORDER = 2**252 + 27742317777372353535851937790883648493


def key_of(private: Any, **options: Any) -> Key:
    return Key.pem(private_pem(private), **options)


RS256, ES256 = key_of(RSA, alg="RS256"), key_of(ec.generate_private_key(ec.SECP256R1()))
EDDSA = key_of(ed25519.Ed25519PrivateKey.generate())
hmac_target, rsa_target, ec_target, ed_target = Target([HMAC]), Target([RS256]), Target([ES256]), Target([EDDSA])


def maced(header: dict[str, Any], secret: bytes, *, digest: str = "sha256") -> str:
    """A token with an HMAC of any bytes, which an attacker may know."""
    token = forged(header)
    mac = hmac.digest(secret, token.rpartition(".")[0].encode(), digest)
    return resigned(token, lambda signature: mac)


def resigned(token: str, change: Callable[[bytes], bytes]) -> str:
    """The same token with another signature."""
    signing_input, _, signature = token.rpartition(".")
    return signing_input + "." + to_base64url(change(from_base64url(signature.encode()))).decode()


class TestAlgorithm:
    def test_a_valid_token_is_accepted(self) -> None:
        for target, key, alg in [
            (hmac_target, HMAC, "HS256"),
            (rsa_target, RS256, "RS256"),
            (ec_target, ES256, "ES256"),
            (ed_target, EDDSA, "EdDSA"),
        ]:
            assert target.judged(own(header={**OWN, "alg": alg}, key=key)) is None, target
            assert target.judged(forged({"alg": alg, "typ": "JWT"}, key=key)) == "token_foreign", target
            assert target.judged(forged({"alg": alg}, key=key)) == "token_foreign", target

    @pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", " none", "none\u200b", "\uff4e\uff4f\uff4e\uff45"])
    def test_alg_none_is_refused_however_it_is_written(self, alg: str) -> None:
        for target in (hmac_target, rsa_target, ec_target, ed_target):
            assert target.judged(forged({"alg": alg}, key=None)) == "algorithm_mismatch"
            assert target.judged(forged({"alg": alg}, key=HMAC)) == "algorithm_mismatch"

    @pytest.mark.parametrize(
        "alg", ["hs256", "Hs256", "HS256 ", "HS-256", "SHA256", "HS384", "HS512", "*", "HS256,none"]
    )
    def test_another_spelling_of_the_algorithm_is_another_algorithm(self, alg: str) -> None:
        assert hmac_target.judged(forged({"alg": alg})) == "algorithm_mismatch"

    @pytest.mark.parametrize("alg", [None, 1, True, ["HS256"], {"alg": "HS256"}, ["none", "HS256"]])
    def test_an_algorithm_that_is_not_text_is_malformed(self, alg: object) -> None:
        assert hmac_target.judged(forged({"alg": alg})) == "token_malformed"
        assert hmac_target.judged(forged({"typ": "JWT"})) == "token_malformed"

    def test_a_public_key_is_never_taken_for_a_secret(self, subtests: pytest.Subtests) -> None:
        for case, secret in {
            "pem": public_pem(RSA),
            "pem without its last line break": public_pem(RSA).strip(),
            "pem with dos line breaks": public_pem(RSA).replace(b"\n", b"\r\n"),
            "der": public_pem(RSA, Encoding.DER),
            "jwk": jwt.algorithms.RSAAlgorithm.to_jwk(RSA.public_key()).encode(),
            "modulus": RSA.public_key().public_numbers().n.to_bytes(256, "big"),
            "nothing": b"",
        }.items():
            with subtests.test(case=case):
                assert rsa_target.judged(maced({"alg": "HS256"}, secret)) == "algorithm_mismatch"
                assert rsa_target.judged(maced({"alg": "RS256"}, secret)) == "signature_invalid"
                both = Target([Key.hmac(SECRET, kid="mac"), key_of(RSA, alg="RS256", kid="rsa")])
                assert both.judged(maced({"alg": "HS256", "kid": "rsa"}, secret)) == "algorithm_mismatch"
                assert both.judged(maced({"alg": "HS256", "kid": "mac"}, secret)) == "signature_invalid"
                assert both.judged(maced({"alg": "HS256"}, secret)) == "key_unknown"

    def test_one_key_has_one_algorithm(self) -> None:
        ps = key_of(RSA, alg="PS256")
        assert rsa_target.judged(forged({"alg": "PS256"}, key=ps)) == "algorithm_mismatch"
        assert rsa_target.judged(forged({"alg": "RS256"}, key=ps)) == "signature_invalid"
        assert rsa_target.judged(forged({"alg": "RS512"}, key=key_of(RSA, alg="RS512"))) == "algorithm_mismatch"
        assert ec_target.judged(forged({"alg": "ES384"}, key=ES256)) == "algorithm_mismatch"
        assert ed_target.judged(forged({"alg": "Ed448"}, key=EDDSA)) == "algorithm_mismatch"
        assert ed_target.judged(own(header={**OWN, "alg": "Ed25519"}, key=EDDSA)) is None
        assert hmac_target.judged(maced({"alg": "HS256"}, SECRET.encode(), digest="sha512")) == "signature_invalid"


class TestHeader:
    async def test_keys_that_a_token_brings_along_are_never_used_or_fetched(self) -> None:
        """An issuer listens at ``jku`` and ``x5u`` and sees no request (RFC 8725 section 3.10)."""
        attacker = key_of(ATTACKER, alg="RS256")
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(ATTACKER.public_key(), as_dict=True)
        reasons = set()

        async with Issuer("attacker").serving() as issuer:
            for members in (
                {"jwk": jwk},
                {"jku": issuer.url},
                {"jku": issuer.url, "kid": "attacker"},
                {"x5u": issuer.url},
                {"x5c": ["AAAA"], "x5t": "AAAA", "x5t#S256": "AAAA"},
                {"jku": issuer.url, "x5u": issuer.url, "jwk": jwk, "x5c": ["AAAA"], "kid": issuer.url},
            ):
                token = forged({"alg": "RS256", **members}, key=attacker)
                for headers in (cookie(token), bearer(token)):
                    reasons.add((await rsa_target.request(headers)).reason)
        assert issuer.requests == []
        assert reasons == {"signature_invalid", "key_unknown"}

    def test_a_valid_token_may_carry_ignored_members(self) -> None:
        members = {
            "jku": "http://127.0.0.1:9/",
            "x5u": "file:///etc/passwd",
            "jwk": {"kty": "oct", "k": "AA"},
            "x5c": [1],
        }
        assert hmac_target.judged(own(header={**OWN, **members})) is None

    def test_a_kid_is_a_key_of_a_dictionary_and_nothing_else(self) -> None:
        for kid, reason in [
            ("../../../../dev/null", "key_unknown"),
            ("/etc/passwd", "key_unknown"),
            ("file:///dev/null", "key_unknown"),
            ("__proto__", "key_unknown"),
            ("key-1", "key_unknown"),
            ("none", "key_unknown"),
            ("a' UNION SELECT 'x'; --", "token_malformed"),
            ("1 OR 1=1", "token_malformed"),
            ("a|sleep${IFS}5", "token_malformed"),
            ("a\r\nSet-Cookie: x=y", "token_malformed"),
            ("a\n", "token_malformed"),
            ("a\u0000", "token_malformed"),
            ("\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "token_malformed"),
            ("k" * 129, "token_malformed"),
            ("", "token_malformed"),
            (None, "token_malformed"),
            (0, "token_malformed"),
            (["a"], "token_malformed"),
            ({"a": 1}, "token_malformed"),
        ]:
            assert hmac_target.judged(own(header={**OWN, "kid": kid})) == reason, kid

    def test_crit_b64_and_another_typ_are_refused(self) -> None:
        cases: list[dict[str, Any]] = [
            {"crit": ["exp"], "exp": 1},
            {"crit": ["b64"], "b64": False},
            {"crit": []},
            {"crit": None},
            {"crit": "exp"},
            {"b64": False},
            {"b64": True},
            {"typ": None},
            {"typ": 1},
            {"typ": ["session+jwt"]},
        ]
        for members in cases:
            assert hmac_target.judged(own(header={**OWN, **members})) == "token_malformed", members
        for typ in ("JOSE", "at+jwt", "JWT", "", "session", "session+jwt2", "session+jwt;v=1", " session+jwt"):
            assert hmac_target.judged(own(header={**OWN, "typ": typ})) == "token_foreign", typ

    def test_a_line_for_foreign_tokens_admits_no_other_kind_of_token(self) -> None:
        target = Target(also_accept=[Envelope.foreign()])
        for typ in ("JWT", "jwt", "application/jwt", "at+jwt", ""):
            assert target.judged(forged({"alg": "HS256", "typ": typ})) is None, typ
        for typ in ("JOSE", "logout+jwt", "secevent+jwt", "dpop+jwt", "session", "token-introspection+jwt"):
            assert target.judged(forged({"alg": "HS256", "typ": typ})) == "token_foreign", typ


class TestSerialisation:
    def test_an_encrypted_token_is_refused(self) -> None:
        pbes2 = {"alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2c": 2**31 - 1, "p2s": "AAAA"}
        assert hmac_target.judged(forged(pbes2)) == "algorithm_mismatch"
        five = ".".join([to_base64url(compact(pbes2)).decode(), "AAAA", "AAAA", "AAAA", "AAAA"])
        assert hmac_target.judged(five) == "token_malformed"
        for alg in ("dir", "RSA-OAEP", "ECDH-ES", "A128KW"):
            assert hmac_target.judged(forged({"alg": alg, "enc": "A128GCM"})) == "algorithm_mismatch"

    def test_a_token_in_a_token_is_not_unwrapped(self) -> None:
        inner = own()
        assert hmac_target.judged(own(inner.encode(), {**OWN, "cty": "JWT"})) == "claims_invalid"
        assert hmac_target.judged(own(f'"{inner}"'.encode(), {**OWN, "cty": "JWT"})) == "claims_invalid"

    def test_any_other_serialisation_is_malformed(self) -> None:
        for token in [
            "",
            ".",
            "..",
            "...",
            "a",
            "a.b",
            "e30.e30",
            "e30.e30.",
            "{}.{}.{}",
            "null",
            "undefined",
            "Bearer",
            json.dumps({"protected": "e30", "payload": "e30", "signature": ""}, separators=(",", ":")),
            "%00",
            "e30.e30.AA%3D%3D",
            "\uff21.\uff21.\uff21",
        ]:
            assert hmac_target.judged(token) == "token_malformed", token

    @pytest.mark.parametrize(
        "filling", ["A", ".", "{", "[", '"', "\\", "=", "%", "0", "~", "\x00", "é", "😀", "A.", "e30.", " A"]
    )
    def test_a_mebibyte_of_anything_is_oversize(self, filling: str) -> None:
        token = filling * (2**20 // len(filling))
        assert hmac_target.by_cookie(token).reason == "token_oversize"
        assert hmac_target.by_bearer(token).reason == "token_oversize"
        assert hmac_target.verify(token) == ("token_oversize" if token.isascii() else "token_malformed")
        header = (filling * 2**18).encode() + b";__Host-session=a"
        assert hmac_target.answer([(b"cookie", header)]).reason == "token_oversize"

    def test_a_header_or_payload_that_fills_the_whole_token_is_refused_too(self) -> None:
        for filling in (b"[", b'{"a":', b'"', b"\\", b"9", b" ", b'[{"":0},', b'{"":"\\""},'):
            header = b'{"alg":"HS256","a":' + filling * (5500 // len(filling))
            assert hmac_target.judged(forged(header)) == "token_malformed"
            assert hmac_target.judged(forged(payload=header)) == "claims_invalid"

    def test_padding_whitespace_and_the_other_alphabet_are_another_spelling(self) -> None:
        token = own({**CLAIMS, "x": "~~~???>>>"})
        header, payload, signature = token.split(".")
        for other in (
            f"{header}=.{payload}.{signature}",
            f"{header}.{payload}=.{signature}",
            f"{header}.{payload}.{signature}=",
            f"{header}.{payload}.{signature}%3D",
            f"{header}.{payload}.{signature}.",
            f".{header}.{payload}.{signature}",
            f"{header}. {payload}.{signature}",
            f"{header}.{payload}.{signature[:4]}\n{signature[4:]}",
            f"{header}.{payload}\u200b.{signature}",
            f'"{token}"',
        ):
            assert hmac_target.judged(other) == "token_malformed"
        for other in (f" {token}", f"{token}\n", f"\t{token}", f"{token}\r\n", f"{token}\0"):
            assert hmac_target.verify(other) == "token_malformed"
        other = token.replace("-", "+").replace("_", "/")
        assert other != token
        assert hmac_target.judged(other) == "token_malformed"
        assert hmac_target.judged(token) is None

    def test_bits_that_decode_to_nothing_are_refused(self) -> None:
        for size in (0, 1, 2):
            token = own({**CLAIMS, "x": "y" * size}, {**OWN, "x": "y" * size})
            segments = token.split(".")
            for place, segment in enumerate(segments):
                last = ALPHABET.index(segment[-1])
                for bit in (1, 2, 4, 8) if len(segment) % 4 == 2 else (1, 2) if len(segment) % 4 == 3 else ():
                    changed = segment[:-1] + ALPHABET[last ^ bit]
                    other = ".".join([*segments[:place], changed, *segments[place + 1 :]])
                    assert base64.urlsafe_b64decode(changed + "==") == base64.urlsafe_b64decode(segment + "==")
                    assert hmac_target.judged(other) == "token_malformed"


class TestPayload:
    def test_json_that_parsers_read_differently_is_refused(self) -> None:
        for payload in [
            b"",
            b"null",
            b"[]",
            b'"text"',
            b"{} {}",
            compact(CLAIMS).replace(b'"userId":"7"', b'"userId":"7","userId":"1"'),
            compact(CLAIMS).replace(b'"userId":"7"', b'"userId":"7","user\\u0049d":"1"'),
            compact(CLAIMS).replace(b'"permissions":["read"]', b'"permissions":[{"a":1,"a":2}]'),
            compact({**CLAIMS, "x": {"y": [{}]}}).replace(b"[{}]", b'[{"a":{},"a":{}}]'),
            compact(CLAIMS).replace(b'"7"', b"NaN"),
            compact({**CLAIMS, "x": float("inf")}),
            compact(CLAIMS).replace(b'"7"', b"1e999"),
            compact({**CLAIMS, "x": 2**64}),
            compact({**CLAIMS, "x": -(2**63) - 1}),
            compact(CLAIMS).replace(b'"7"', b"9" * 4000),
            compact({**CLAIMS, "x": json.loads("[" * 40 + "]" * 40)}),
            compact(CLAIMS).replace(b'"7"', b'"7\\ud800"'),
            compact(CLAIMS).replace(b'"7"', b'"7\xed\xa0\x80"'),
            compact(CLAIMS).replace(b'"7"', b'"7\\u0000"'),
            compact(CLAIMS).replace(b'"7"', b'"7\0"'),
            b"\xef\xbb\xbf" + compact(CLAIMS),
            compact(CLAIMS).decode().encode("utf-16"),
            compact(CLAIMS).decode().encode("utf-16-le"),
            compact(CLAIMS).decode().encode("utf-32"),
            compact(CLAIMS) + b"\0",
            compact(CLAIMS)[:-1] + b",}",
        ]:
            assert hmac_target.judged(own(payload)) == "claims_invalid", payload
            assert hmac_target.judged(forged(payload.replace(b'"iat"', b'"alg":"HS256","iat"'))) == "token_malformed", (
                payload
            )

    def test_a_signed_claim_that_breaks_a_rule_has_its_reason(self) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"exp": str(NOW + 60)}, "claims_invalid"),
            ({"exp": True}, "claims_invalid"),
            ({"exp": None}, "claims_invalid"),
            ({"iat": False}, "claims_invalid"),
            ({"nbf": "0"}, "claims_invalid"),
            ({"exp": 1e308}, "lifetime_exceeded"),
            ({"exp": 2**64 - 1}, "lifetime_exceeded"),
            ({"iat": NOW - 30 * 86_400, "auth_time": 0}, "lifetime_exceeded"),
            ({"exp": -1}, "token_expired"),
            ({"iat": NOW + 31}, "token_not_yet_valid"),
            ({"nbf": 2**63}, "token_not_yet_valid"),
            ({"auth_time": NOW + 31}, "claims_invalid"),
            ({"aud": "other"}, "audience_mismatch"),
            ({"aud": {"a": 1}}, "claims_invalid"),
            ({"iss": ["a"]}, "claims_invalid"),
            ({"sub": 7}, "claims_invalid"),
            ({"sid": ""}, "claims_invalid"),
            ({"version": "2"}, "claims_invalid"),
            ({"version": 0}, "claims_invalid"),
            ({"version": True}, "claims_invalid"),
            ({"version": 2.5}, "claims_invalid"),
        ]
        for changed, reason in cases:
            assert hmac_target.judged(own({**CLAIMS, **changed})) == reason, changed

    @pytest.mark.parametrize("user_id", ["", "a" * 256, "a\r\nb", "a\u0085", None, True, 1.5, ["7"], {"id": "7"}])
    def test_a_subject_that_is_not_an_identifier_is_refused(self, user_id: object) -> None:
        token = own({**CLAIMS, "userId": user_id})
        assert hmac_target.by_cookie(token).reason == hmac_target.by_bearer(token).reason == "claims_invalid"


class TestSignature:
    def test_a_mac_that_is_not_the_very_mac_is_invalid(self) -> None:
        for case, change in {
            "none": lambda signature: b"",
            "one byte": lambda signature: signature[:1],
            "truncated": lambda signature: signature[:16],
            "one byte short": lambda signature: signature[:-1],
            "one byte more": lambda signature: signature + b"\0",
            "twice": lambda signature: signature * 2,
            "zeros": lambda signature: bytes(32),
            "first bit": lambda signature: bytes([signature[0] ^ 0x80]) + signature[1:],
            "last bit": lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
            "hexadecimal": lambda signature: signature.hex().encode(),
            "of the secret": lambda signature: hashlib.sha256(SECRET.encode()).digest(),
        }.items():
            assert hmac_target.judged(resigned(own(), change)) == "signature_invalid", case

    def test_an_ecdsa_signature_is_two_numbers_of_32_bytes_within_the_order(self, subtests: pytest.Subtests) -> None:
        for case, change in {
            "none": lambda signature: b"",
            "zeros": lambda signature: bytes(64),
            "r is zero": lambda signature: bytes(32) + signature[32:],
            "s is zero": lambda signature: signature[:32] + bytes(32),
            "ones": lambda signature: (bytes(31) + b"\1") * 2,
            "the order": lambda signature: P256_ORDER.to_bytes(32, "big") * 2,
            "beyond the order": lambda signature: b"\xff" * 64,
            "swapped": lambda signature: signature[32:] + signature[:32],
            "der": lambda signature: encode_dss_signature(
                *(int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            ),
            "one byte more": lambda signature: signature + b"\0",
            "padded halves": lambda signature: b"\0" + signature[:32] + b"\0" + signature[32:],
            "short": lambda signature: signature[:63],
            "last bit": lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
        }.items():
            with subtests.test(case=case):
                token = own(header={**OWN, "alg": "ES256"}, key=ES256)
                assert ec_target.judged(resigned(token, change)) == "signature_invalid"

    def test_an_eddsa_signature_has_one_form(self, subtests: pytest.Subtests) -> None:
        for case, change in {
            "none": lambda signature: b"",
            "zeros": lambda signature: bytes(64),
            "s plus the order": lambda signature: (
                signature[:32] + (int.from_bytes(signature[32:], "little") + ED_ORDER).to_bytes(32, "little")
            ),
            "the identity": lambda signature: b"\1" + bytes(63),
            "one byte more": lambda signature: signature + b"\0",
            "short": lambda signature: signature[:63],
            "first bit": lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
        }.items():
            with subtests.test(case=case):
                token = own(header={**OWN, "alg": "EdDSA"}, key=EDDSA)
                assert ed_target.judged(resigned(token, change)) == "signature_invalid"

    def test_an_rsa_signature_has_one_form(self, subtests: pytest.Subtests) -> None:
        for case, change in {
            "none": lambda signature: b"",
            "zeros": lambda signature: bytes(256),
            "one": lambda signature: bytes(255) + b"\1",
            "the modulus": lambda signature: RSA.public_key().public_numbers().n.to_bytes(256, "big"),
            "plus the modulus": lambda signature: (
                int.from_bytes(signature, "big") + RSA.public_key().public_numbers().n
            ).to_bytes(257, "big"),
            "a leading zero": lambda signature: b"\0" + signature,
            "a trailing zero": lambda signature: signature + b"\0",
            "short": lambda signature: signature[:-1],
            "last bit": lambda signature: signature[:-1] + bytes([signature[-1] ^ 1]),
        }.items():
            with subtests.test(case=case):
                token = own(header={**OWN, "alg": "RS256"}, key=RS256)
                assert rsa_target.judged(resigned(token, change)) == "signature_invalid"

    def test_parts_of_two_valid_tokens_make_no_third(self) -> None:
        one, two = own().split("."), own({**CLAIMS, "userId": "8"}).split(".")
        assert hmac_target.judged(".".join([one[0], one[1], two[2]])) == "signature_invalid"
        assert hmac_target.judged(".".join([one[0], two[1], one[2]])) == "signature_invalid"
        assert hmac_target.judged(".".join([one[1], one[0], one[2]])) == "token_malformed"

    def test_a_mac_is_compared_in_constant_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        compared: list[tuple[int, int]] = []
        compare_digest = hmac.compare_digest

        def compare(left: bytes, right: bytes) -> bool:
            compared.append((len(left), len(right)))
            return compare_digest(left, right)

        monkeypatch.setattr(hmac, "compare_digest", compare)
        assert Target().verify(resigned(own(), lambda signature: bytes(32))) == "signature_invalid"
        assert compared == [(32, 32)]


class TestVectors:
    @pytest.mark.parametrize("signed", vectors.SIGNED, ids=lambda signed: signed.section)
    def test_signatures_of_the_rfcs_are_valid_and_their_claims_checked(self, signed: vectors.Signed) -> None:
        key = Key.jwk(signed.jwk, alg=signed.alg, verify_only=True)
        target, has_claims = Target([key]), signed in vectors.WITH_CLAIMS
        assert target.judged(signed.token) == ("token_expired" if has_claims else "claims_invalid")
        assert target.judged(resigned(signed.token, lambda signature: signature[:-1] + b"\0")) == "signature_invalid"

    @pytest.mark.parametrize("signed", vectors.WITH_CLAIMS, ids=lambda signed: signed.section)
    def test_a_token_of_the_rfcs_is_foreign_in_its_own_time(self, signed: vectors.Signed) -> None:
        """It has no ``iat``; ``verify`` does not look for the subject, which no RFC writes."""
        key = Key.jwk(signed.jwk, alg=signed.alg, verify_only=True)

        def in_its_time(*lines: Envelope) -> Target:
            return Target([key], clock=FakeClock(wall=vectors.EXP - 60.0), also_accept=lines)

        assert in_its_time().judged(signed.token) == "token_foreign"
        assert in_its_time(Envelope.foreign(issuer="joe")).judged(signed.token) == "claims_invalid"
        assert in_its_time(Envelope.foreign(issuer="jim", iat=False)).judged(signed.token) == "issuer_mismatch"
        target = in_its_time(Envelope.foreign(issuer="joe", iat=False))
        assert target.verify(signed.token) is None
        assert target.by_bearer(signed.token).reason == "claims_invalid"
        assert target.judged(resigned(signed.token, lambda signature: signature[:-1] + b"\0")) == "signature_invalid"

    def test_the_unsecured_token_of_the_rfc_is_refused(self) -> None:
        assert hmac_target.judged(vectors.RFC7519_6_1) == "algorithm_mismatch"

    def test_ed25519_signs_as_the_rfc_prints_it(self) -> None:
        signed = vectors.RFC8037_A4
        signing_input, _, signature = signed.token.rpartition(".")
        assert to_base64url(Key.jwk(signed.jwk).sign(signing_input.encode())).decode() == signature
