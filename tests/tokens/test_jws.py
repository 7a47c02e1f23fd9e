"""One spelling for each token, one reading for each payload."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_middleware import Reason
from jwt_middleware.tokens import jws
from jwt_middleware.tokens.jws import (
    MAX_DEPTH,
    MAX_TOKEN,
    SHORT_HEADER,
    encode_object,
    from_base64url,
    is_base64url,
    is_kid,
    parse_header,
    parse_object,
    split,
    to_base64url,
)
from tests.support.strategies import ALPHABET
from tests.support.target import reason_of


class TestBase64url:
    @given(st.binary(max_size=200))
    def test_base64url_matches_the_standard_library(self, octets: bytes) -> None:
        encoded = to_base64url(octets)
        assert encoded == base64.urlsafe_b64encode(octets).rstrip(b"=")
        assert is_base64url(encoded)
        assert from_base64url(encoded) == octets

    @given(st.text(ALPHABET, max_size=9) | st.text(ALPHABET + '+/=!\\"\n ', max_size=9) | st.text(max_size=9))
    def test_any_other_spelling_is_refused(self, text: str) -> None:
        segment = text.encode("utf-8", "surrogatepass")
        if is_base64url(segment):
            assert base64.urlsafe_b64encode(from_base64url(segment)).rstrip(b"=") == segment
        else:
            assert reason_of(from_base64url, segment) is Reason.TOKEN_MALFORMED

    @pytest.mark.parametrize("octet", sorted(set(range(256)) - set(ALPHABET.encode())))
    @pytest.mark.parametrize("place", [0, 3, 4, 7, 8])
    @pytest.mark.parametrize("replacing", [0, 1])
    def test_no_other_octet_is_accepted_anywhere(self, octet: int, place: int, replacing: int) -> None:
        segment = b"YWJjZGVm"
        segment = segment[:place] + bytes([octet]) + segment[place + replacing :]
        assert not is_base64url(segment)
        assert reason_of(from_base64url, segment) is Reason.TOKEN_MALFORMED


class TestParseObject:
    def test_strict_json_is_read_however_it_is_laid_out(self) -> None:
        for raw, value in [
            (b"{}", {}),
            (b' {"a" : 1}\r\n', {"a": 1}),
            (b'{"\\u0061":"\\ud83d\\ude00"}', {"a": "😀"}),
            (b'{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
            (b'{"a": "x:{[,\\"", "b:": [true, null, -1.5e3]}', {"a": 'x:{[,"', "b:": [True, None, -1500.0]}),
            (b'{"a":18446744073709551615,"b":-9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
            (b'{"a":"18446744073709551616"}', {"a": "18446744073709551616"}),
            (b'{"a":"\\\\u0000"}', {"a": "\\u0000"}),
        ]:
            assert parse_object(raw, Reason.CLAIMS_INVALID) == value, raw

    def test_json_that_is_not_strict_is_refused(self) -> None:
        for raw in [
            # not one JSON object
            b"",
            b"null",
            b"[]",
            b'"a"',
            b"1",
            b"{}{}",
            b"{} x",
            b'{"a":1,}',
            b"{'a':1}",
            b"{a:1}",
            b'{"a":01}',
            b'{"a":+1}',
            b'{"a":.5}',
            b'{"a":0x1}',
            b"/**/{}",
            b'{"a":1//\n}',
            b'{"a":"\n"}',
            b'{"a":"\\x"}',
            # a member named twice, at any depth
            b'{"a":1,"a":1}',
            b'{"a":1,"\\u0061":2}',
            b'{"a":{"b":1,"b":2}}',
            b'{"a":[[{"b":1, "b":2}]]}',
            b'{"":1,"":1}',
            b'{"a:":1,"a:":1}',
            b'{"\\"":1,"\\u0022":1}',
            # a number that is not finite, or an integer beyond 64 bits
            *(
                b'{"a":%s}' % number
                for number in (b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" * 400 + b".5")
            ),
            *(b'{"a":[%d]}' % number for number in (2**64, -(2**63) - 1, 10**300 - 1)),
            b'{"a":[' + b"9" * 5000 + b"]}",
            # a NUL or a lone surrogate
            b'{"a":"\\u0000"}',
            b'{"\\u0000":1}',
            b'{"a":"\0"}',
            b'{"a":"\\ud800"}',
            b'{"a":"\\udc00\\ud800"}',
            b'{"\\udfff":1}',
            b'{"a":"\xed\xa0\x80"}',
            # another encoding than UTF-8
            b'\xef\xbb\xbf{"a":1}',
            '{"a":1}'.encode("utf-16"),
            '{"a":1}'.encode("utf-16-le"),
            '{"a":1}'.encode("utf-32-be"),
            '{"a":"é"}'.encode("latin-1"),
            b'{"a":"\xc0\xaf"}',
            b'{"a":"\xf5\x80\x80\x80"}',
            b'{"a":"\xc3"}',
            # deeper than any parser goes
            b"[" * 8000,
            b'{"a":' * 1600,
            b'{"a":' + b"[" * 3899 + b"]" * 3899 + b"}",
        ]:
            assert reason_of(parse_object, raw, Reason.CLAIMS_INVALID) is Reason.CLAIMS_INVALID, raw

    @pytest.mark.parametrize(("opening", "innermost", "closing"), [(b'{"a":', b"1", b"}"), (b"[", b"", b"]")])
    def test_32_levels_are_read_and_33_are_not(self, opening: bytes, innermost: bytes, closing: bytes) -> None:
        def nested(levels: int) -> bytes:
            return b'{"a":' + opening * (levels - 1) + innermost + closing * (levels - 1) + b"}"

        assert parse_object(nested(MAX_DEPTH), Reason.CLAIMS_INVALID)
        assert parse_object(nested(MAX_DEPTH) + b" ", Reason.CLAIMS_INVALID)
        assert reason_of(parse_object, nested(MAX_DEPTH + 1), Reason.CLAIMS_INVALID) is Reason.CLAIMS_INVALID

    def test_containers_side_by_side_and_brackets_in_text_are_not_deep(self) -> None:
        assert len(parse_object(b'{"a":[' + b"{}," * 99 + b"{}]}", Reason.CLAIMS_INVALID)["a"]) == 100
        assert parse_object(b'{"a":"' + b"[" * 99 + b'"}', Reason.CLAIMS_INVALID) == {"a": "[" * 99}

    def test_text_full_of_quotes_is_scanned_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pattern that starts anew at each quote would read 8 KiB three thousand times."""
        pattern, scanned = jws._STRING, list[int]()

        class Counting:
            def sub(self, new: bytes, raw: bytes) -> bytes:
                scanned.append(len(raw))
                return pattern.sub(new, raw)

        monkeypatch.setattr(jws, "_STRING", Counting())
        invalid = b'{"a":' + b"[" * 40 + b'\\"' * 3000
        assert reason_of(parse_object, invalid, Reason.CLAIMS_INVALID) is Reason.CLAIMS_INVALID
        assert scanned == []  # text that is not JSON never reaches the pattern
        assert parse_object(b'{"a" :"' + b'\\"' * 3000 + b'"}', Reason.CLAIMS_INVALID)
        assert scanned == [6009]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


class TestEncodeObject:
    @given(st.dictionaries(TEXT, JSON, max_size=6))
    def test_what_is_encoded_is_read_back_as_it_was(self, value: dict[str, Any]) -> None:
        try:
            encoded = encode_object(value)
        except ValueError:
            assert "\0" in repr(value) or "\\x00" in repr(value) or "\\ud" in repr(value)
        else:
            assert parse_object(encoded, Reason.CLAIMS_INVALID) == value

    def test_what_json_cannot_carry_is_refused_without_a_text(self, subtests: pytest.Subtests) -> None:
        cases: list[dict[Any, Any]] = [
            {"a": float("nan")},
            {"a": float("inf")},
            {"a": 2**64},
            {"a": -(2**63) - 1},
            {"a": "\0"},
            {"\0": 1},
            {"a": "\ud800"},
            {"a": b"bytes"},
            {"a": {1, 2}},
            {"a": datetime(2026, 1, 1, tzinfo=UTC)},
            {"a": object()},
            {(1, 2): 1},
        ]
        for value in cases:
            with subtests.test(value=value), pytest.raises(ValueError, match=r"^$"):
                encode_object(value)

    def test_a_payload_too_deep_or_endless_is_not_encoded(self) -> None:
        endless: dict[str, Any] = {}
        endless["a"] = endless
        deep: Any = 1
        for _ in range(MAX_DEPTH + 1):
            deep = {"a": deep}
        for value in (endless, deep):
            with pytest.raises(ValueError, match=r"^$"):
                encode_object(value)

    def test_a_tuple_becomes_an_array(self) -> None:
        assert encode_object({"a": (1, "b")}) == b'{"a":[1,"b"]}'


class TestSplit:
    def test_three_canonical_parts_are_split(self) -> None:
        assert split(b"YQ.YWI.YWJj") == (b"YQ", b"YWI", b"abc")

    def test_a_token_over_8_kib_is_oversize_whatever_it_holds(self) -> None:
        token = b"YQ.YQ." + b"A" * (MAX_TOKEN - 6)
        assert split(token)[2] == bytes((MAX_TOKEN - 6) * 3 // 4)
        assert reason_of(split, b"." * (MAX_TOKEN + 1)) is Reason.TOKEN_OVERSIZE

    def test_another_spelling_is_malformed(self) -> None:
        """What one of the two functions accepts the other refuses."""

        def read(token: bytes) -> object:
            return parse_header(split(token)[0])

        for token in [
            b"",
            b"..",
            b"YQ.YQ",
            b"YQ.YQ.YQ.YQ.YQ",
            b"YQ==.YQ.YQ",
            b"YQ.YQ.YQ=",
            b"Y+.YQ.YQ",
            b"Y/.YQ.YQ",
            b" YQ.YQ.YQ",
            b"YQ.YQ.YQ\n",
            b"YQ.Y Q.YQ",
            b"YQ.Y\0Q.YQ",
            b"YQ.Y\xc3\xa9.YQ",
            b"YR.YQ.YQ",
            b"YQ.YWJ.YQ",
            b"YQ.YQ.A",
            b"%59%51.YQ.YQ",
        ]:
            assert reason_of(read, token) is Reason.TOKEN_MALFORMED, token


LONG = b',"long":"' + b"A" * SHORT_HEADER + b'"'


class TestHeader:
    def test_a_kid_has_1_to_128_safe_characters(self) -> None:
        for kid, valid in [
            *((kid, True) for kid in ("1", "2026-11.a~b_c:d/e+f=@g-", "k" * 128)),
            *((kid, False) for kid in ("", "k" * 129, "a b", "a\n", "a'--", "a\0", "é", "a\\b", 1, None, ["a"])),
        ]:
            assert is_kid(kid) is valid, kid

    def test_a_long_header_is_parsed_strictly_once_it_is_signed(self, subtests: pytest.Subtests) -> None:
        for member in [
            b'"a":1,"a":2',
            b'"a":' + b"[" * 33 + b"]" * 33,
            b'"a":18446744073709551616',
            b'"a":"\\u0000"',
            b'"a":"\xff"',
            b'"alg":"HS256"',
        ]:
            with subtests.test(member=member):
                short, long = (to_base64url(b'{"alg":"HS256",' + member + more + b"}") for more in (b"", LONG))
                assert reason_of(parse_header, short) is Reason.TOKEN_MALFORMED
                assert parse_header(long) == ("HS256", None, "")
                assert reason_of(parse_header, long, signed=True) is Reason.TOKEN_MALFORMED

    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("long", [b"", LONG])
    def test_what_chooses_the_key_is_checked_before_the_signature(self, long: bytes, signed: bool) -> None:
        for header in [
            b'{"alg":"HS256","kid":null',
            b'{"alg":"HS256","kid":"a b"',
            b'{"alg":"HS256","typ":1',
            b'{"alg":"HS256","crit":[]',
            b'{"alg":"HS256","crit":null',
            b'{"alg":"HS256","b64":false',
            b'{"alg":null',
            b'{"typ":"JWT"',
            b'["alg"',
            b'{"alg":"HS256","a":NaN',
            b'{"alg":"HS256","a":' + b"[" * 2000,
            b'{"alg":"HS256","a":[' + b"0," * 256 + b"0]",
            b'{"alg":"HS256","a":"' + b"\\/" * 256 + b'"',
        ]:
            assert (
                reason_of(parse_header, to_base64url(header + long + b"}"), signed=signed) is Reason.TOKEN_MALFORMED
            ), header

    @pytest.mark.parametrize("signed", [False, True])
    def test_a_header_may_carry_certificates(self, signed: bool) -> None:
        header = b'{"alg":"HS256","kid":"a","x5c":["' + b"A" * 4000 + b'","","",{"a":[]}]}'
        assert parse_header(to_base64url(header), signed=signed) == ("HS256", "a", "")

    def test_a_header_may_have_256_marks(self) -> None:
        header = b'{"alg":"HS256","a":[' + b"0," * 253 + b"0]}"
        assert parse_header(to_base64url(header)) == ("HS256", None, "")
        assert reason_of(parse_header, to_base64url(header.replace(b"[", b"[0,"))) is Reason.TOKEN_MALFORMED
