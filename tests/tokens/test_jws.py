"""One spelling a token, one reading a payload."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_middleware import Reason, Refusal
from jwt_middleware.tokens import jws as strict
from jwt_middleware.tokens.jws import (
    MAX_DEPTH,
    MAX_TOKEN,
    SHORT_HEADER,
    encode_object,
    is_kid,
    parse_header,
    parse_object,
    split,
    to_base64url,
)


def refusal_of(raw: bytes) -> Reason:
    with pytest.raises(Refusal) as caught:
        parse_object(raw, Reason.CLAIMS_INVALID)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value.reason


def nested(depth: int, opening: bytes = b"[", closing: bytes = b"]") -> bytes:
    """An object that holds ``depth - 1`` more levels."""
    return b'{"a":' + opening * (depth - 1) + closing * (depth - 1) + b"}"


def test_three_canonical_parts_are_split() -> None:
    assert split(b"YQ.YWI.YWJj") == (b"YQ", b"YWI", b"abc")


def test_a_token_over_8_kib_is_oversize_whatever_it_holds() -> None:
    with pytest.raises(Refusal) as caught:
        split(b"." * (MAX_TOKEN + 1))
    assert caught.value.reason is Reason.TOKEN_OVERSIZE


def test_a_token_of_exactly_8_kib_is_looked_at() -> None:
    token = b"YQ.YQ." + b"A" * (MAX_TOKEN - 6 - 2)
    assert split(token)[2] == bytes((MAX_TOKEN - 8) // 4 * 3)


@pytest.mark.parametrize(
    "token",
    [
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
    ],
)
def test_another_spelling_is_malformed(token: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_header(split(token)[0])  # what one of them lets through the other refuses
    assert caught.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("kid", ["1", "2026-11.a~b_c:d/e+f=@g-", "k" * 128])
def test_a_kid_of_safe_characters_names_a_key(kid: str) -> None:
    assert is_kid(kid)


@pytest.mark.parametrize("kid", ["", "k" * 129, "a b", "a\n", "a'--", "a\0", "é", "a\\b", 1, None, ["a"]])
def test_any_other_kid_does_not(kid: object) -> None:
    assert not is_kid(kid)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"{}", {}),
        (b' {"a" : 1}\r\n', {"a": 1}),
        (b'{"\\u0061":"\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a":{"b":1},"c":{"b":1}}', {"a": {"b": 1}, "c": {"b": 1}}),
        (b'{"a": "x:{[,\\"", "b:": [true, null, -1.5e3]}', {"a": 'x:{[,"', "b:": [True, None, -1500.0]}),
        (b'{"a":18446744073709551615,"b":-9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        (b'{"a":"18446744073709551616"}', {"a": "18446744073709551616"}),
        (b'{"a":"\\\\u0000"}', {"a": "\\u0000"}),
    ],
)
def test_strict_json_is_read_however_it_is_laid_out(raw: bytes, value: dict[str, Any]) -> None:
    assert parse_object(raw, Reason.CLAIMS_INVALID) == value


@pytest.mark.parametrize(
    "raw",
    [
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
    ],
)
def test_anything_but_one_json_object_is_refused(raw: bytes) -> None:
    assert refusal_of(raw) is Reason.CLAIMS_INVALID


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":[[{"b":1, "b":2}]]}',
        b'{"":1,"":1}',
        b'{"a:":1,"a:":1}',
        b'{"\\"":1,"\\u0022":1}',
    ],
)
def test_a_member_named_twice_is_refused_at_any_depth(raw: bytes) -> None:
    assert refusal_of(raw) is Reason.CLAIMS_INVALID


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"1" * 400 + b".5"])
def test_a_number_that_is_not_finite_is_refused(number: bytes) -> None:
    assert refusal_of(b'{"a":' + number + b"}") is Reason.CLAIMS_INVALID


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-9223372036854775809", b"9" * 300, b"9" * 5000])
def test_an_integer_beyond_64_bit_is_refused(number: bytes) -> None:
    assert refusal_of(b'{"a":[' + number + b"]}") is Reason.CLAIMS_INVALID


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":"\0"}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\xed\xa0\x80"}',
    ],
)
def test_a_nul_or_a_lone_surrogate_is_refused(raw: bytes) -> None:
    assert refusal_of(raw) is Reason.CLAIMS_INVALID


@pytest.mark.parametrize(
    "raw",
    [
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32-be"),
        '{"a":"é"}'.encode("latin-1"),
        b'{"a":"\xc0\xaf"}',
        b'{"a":"\xf5\x80\x80\x80"}',
        b'{"a":"\xc3"}',
    ],
)
def test_other_encodings_than_utf_8_are_refused(raw: bytes) -> None:
    assert refusal_of(raw) is Reason.CLAIMS_INVALID


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"1}")])
def test_32_levels_are_read_and_33_are_not(opening: bytes, closing: bytes) -> None:
    deep = b'{"a":' + opening * (MAX_DEPTH - 1) + closing * (MAX_DEPTH - 1) + b"}"
    if opening != b"[":
        deep = opening * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH
        assert parse_object(deep, Reason.CLAIMS_INVALID)
        assert refusal_of(opening * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1)) is Reason.CLAIMS_INVALID
        return
    assert parse_object(deep, Reason.CLAIMS_INVALID)
    assert refusal_of(nested(MAX_DEPTH + 1)) is Reason.CLAIMS_INVALID


def test_many_containers_side_by_side_are_not_deep() -> None:
    assert len(parse_object(b'{"a":[' + b"{}," * 99 + b"{}]}", Reason.CLAIMS_INVALID)["a"]) == 100


def test_brackets_in_text_are_not_deep() -> None:
    raw = b'{"a":"' + b"[" * 99 + b'"}'
    assert parse_object(raw, Reason.CLAIMS_INVALID) == {"a": "[" * 99}


@pytest.mark.parametrize("raw", [b"[" * 8000, b'{"a":' * 1600, nested(3900)])
def test_depth_beyond_any_parser_is_refused(raw: bytes) -> None:
    assert refusal_of(raw) is Reason.CLAIMS_INVALID


def test_text_full_of_quotes_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that starts anew at each quote would look at 8 KiB three thousand times."""
    looked_at: list[int] = []

    class Counting:
        def sub(self, new: bytes, raw: bytes) -> bytes:
            looked_at.append(len(raw))
            return strict_pattern.sub(new, raw)

    strict_pattern = strict._STRING
    monkeypatch.setattr(strict, "_STRING", Counting())
    assert refusal_of(b'{"a":' + b"[" * 40 + b'\\"' * 3000) is Reason.CLAIMS_INVALID
    assert looked_at == []  # text that is no JSON never reaches the pattern
    assert parse_object(b'{"a" :"' + b'\\"' * 3000 + b'"}', Reason.CLAIMS_INVALID)
    assert looked_at == [6009]


LONG = b',"long":"' + b"A" * SHORT_HEADER + b'"'
STRANGE = [
    b'"a":1,"a":2',
    b'"a":' + b"[" * 33 + b"]" * 33,
    b'"a":18446744073709551616',
    b'"a":"\\u0000"',
    b'"a":"\xff"',
    b'"alg":"HS256"',
]


@pytest.mark.parametrize("member", STRANGE)
def test_a_header_is_looked_at_whole(member: bytes) -> None:
    header = to_base64url(b'{"alg":"HS256",' + member + b"}")
    with pytest.raises(Refusal) as caught:
        parse_header(header)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("member", STRANGE)
def test_a_long_header_is_looked_at_whole_once_its_signature_holds(member: bytes) -> None:
    header = to_base64url(b'{"alg":"HS256",' + member + LONG + b"}")
    assert parse_header(header) == ("HS256", None)
    with pytest.raises(Refusal) as caught:
        parse_header(header, signed=True)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"HS256","kid":null',
        b'{"alg":"HS256","kid":"a b"',
        b'{"alg":"HS256","typ":1',
        b'{"alg":"HS256","typ":"JWE"',
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
    ],
)
@pytest.mark.parametrize("long", [b"", LONG])
def test_what_matters_in_a_header_is_looked_at_before_the_signature(header: bytes, long: bytes, signed: bool) -> None:
    with pytest.raises(Refusal) as caught:
        parse_header(to_base64url(header + long + b"}"), signed=signed)
    assert caught.value.reason is Reason.TOKEN_MALFORMED


@pytest.mark.parametrize("signed", [False, True])
def test_a_header_may_carry_certificates(signed: bool) -> None:
    header = b'{"alg":"HS256","kid":"a","x5c":["' + b"A" * 4000 + b'","","",{"a":[]}]}'
    assert parse_header(to_base64url(header), signed=signed) == ("HS256", "a")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), JSON, max_size=6))
def test_what_is_encoded_is_read_back_as_it_was(value: dict[str, Any]) -> None:
    try:
        encoded = encode_object(value)
    except ValueError:
        assert "\0" in repr(value) or "\\x00" in repr(value) or "\\ud" in repr(value)
    else:
        assert parse_object(encoded, Reason.CLAIMS_INVALID) == value


@pytest.mark.parametrize(
    "value",
    [
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
    ],
)
def test_what_json_cannot_carry_is_refused_without_a_text(value: dict[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"^$"):
        encode_object(value)


def test_a_payload_too_deep_or_endless_is_not_encoded() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    deep: Any = 1
    for _ in range(MAX_DEPTH + 1):
        deep = {"a": deep}
    for value in (endless, deep):
        with pytest.raises(ValueError, match=r"^$"):
            encode_object(value)


def test_a_tuple_becomes_an_array() -> None:
    assert encode_object({"a": (1, "b")}) == b'{"a":[1,"b"]}'
