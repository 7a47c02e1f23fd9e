"""Raw header bytes to a token: one name, one place, no second try."""

from __future__ import annotations

import pytest

from jwt_middleware import Reason
from jwt_middleware.tokens.cookies import Unreadable
from jwt_middleware.tokens.jws import MAX_TOKEN
from jwt_middleware.tokens.transport import BEARER_READ, COOKIE_READ, MAX_COOKIE_HEADER, Transport
from jwt_middleware.types import Carrier, RawToken

transport = Transport(("__Host-session", "token", "old"), {"old": "Bearer"})
Header = tuple[bytes, bytes]


def cookie(value: bytes) -> Header:
    return b"cookie", value


def bearer(value: bytes) -> Header:
    return b"authorization", value


def unreadable(*headers: Header) -> tuple[Reason, Carrier]:
    with pytest.raises(Unreadable) as caught:
        transport.read(list(headers))
    return caught.value.reason, caught.value.carrier


class TestCookieHeader:
    def test_a_cookie_is_found_by_its_exact_name(self) -> None:
        for value in [
            b"__Host-session=abc",
            b"a=1; __Host-session=abc; b=2",
            b"a=1;__Host-session=abc",
            b"a=1;\t__Host-session \t=\t abc ;b=2",
            b"__Host-session2=x; x__Host-session=y; __Host-session=abc",
            b"__host-session=x; __Host-session=abc",
            b'q="; __Host-session=abc; "',
            b"__Host-session; __Host-session=abc",
        ]:
            assert transport.read([cookie(value)]) == (RawToken(b"abc", Carrier.COOKIE), COOKIE_READ, ()), value

    def test_another_name_is_another_cookie(self) -> None:
        for value in [
            b"",
            b";;=;",
            b"session=abc",
            b"__Host-session2=abc",
            b"__HOST-SESSION=abc",
            b"__Host-session",
            b"\xa0__Host-session=abc",
            b"\x0b__Host-session=abc",
            b"\x0c__Host-session=abc",
            b"\r__Host-session=abc",
            b"\x00__Host-session=abc",
            b'"__Host-session"=abc',
            b"__Host%2dsession=abc",
            b"a=__Host-session=abc",
            b",__Host-session=abc",
        ]:
            assert transport.read([cookie(value)]) == (None, COOKIE_READ, ()), value

    def test_nothing_is_unquoted_or_decoded(self) -> None:
        raw = transport.read([cookie(b'__Host-session="a%41\\101=b"')]).raw
        assert raw is not None
        assert raw.value == b'"a%41\\101=b"'

    def test_of_one_name_up_to_four_values_are_read_each_once(self) -> None:
        for headers, values in [
            ([cookie(b"__Host-session=a; __Host-session=a")], b"a"),
            ([cookie(b"__Host-session=a; __Host-session=b; token=c")], b"ab"),
            ([cookie(b"__Host-session=a"), cookie(b"__Host-session=b")], b"ab"),
            ([cookie(b"token=a; token=b; token=c; token=d")], b"abcd"),
        ]:
            read = transport.read(headers)
            assert read.raw is not None
            assert b"".join(raw.value for raw in (read.raw, *read.others)) == values, headers
        five = b"; ".join(b"token=%d" % number for number in range(5))
        assert unreadable(cookie(five)) == (Reason.TOKEN_AMBIGUOUS, Carrier.COOKIE)

    def test_a_scheme_may_stand_before_the_token_of_its_cookie_alone(self) -> None:
        for value in (b"Bearer a.b.c", b'"Bearer a.b.c"', b"bearer a.b.c"):
            assert transport.read([cookie(b"old=" + value)]).raw == RawToken(b"a.b.c", Carrier.COOKIE, "old", "Bearer")
            assert transport.read([cookie(b"token=" + value)]).raw == RawToken(value, Carrier.COOKIE, "token")
        for value in (b"a.b.c", b"Basic a.b.c", b'"Bearer a.b.c', b"Bearer  a.b.c", b"Bearer a b"):
            assert transport.read([cookie(b"old=" + value)]).raw == RawToken(value, Carrier.COOKIE, "old")

    def test_a_log_out_sees_every_token_in_whatever_place(self) -> None:
        headers = [
            cookie(b"token=1; token=2; old=Bearer 3"),
            bearer(b"Bearer 4"),
            bearer(b"Bearer 5"),
            bearer(b"Bearer ?"),
            cookie(b"__Host-session=6; token=" + b"a" * (MAX_TOKEN + 1)),
        ]
        assert sorted(raw.value for raw in transport.read_all(headers)) == [b"1", b"2", b"3", b"4", b"5", b"6"]

    def test_a_cookie_header_in_pieces_is_one_header(self) -> None:
        assert transport.read([cookie(b"a=1"), cookie(b"token=x"), (b"accept", b"*/*")]).raw == RawToken(
            b"x", Carrier.COOKIE, "token"
        )

    def test_the_first_name_that_is_present_decides(self) -> None:
        read = transport.read([cookie(b"old=1; token=2; __Host-session=3")])
        assert read.raw == RawToken(b"3", Carrier.COOKIE)
        read = transport.read([cookie(b"old=1; token=")])
        assert read.raw == RawToken(b"", Carrier.COOKIE, "token")
        assert transport.read([cookie(b"old=1; old2=2")]).raw == RawToken(b"1", Carrier.COOKIE, "old")


class TestAuthorization:
    @pytest.mark.parametrize("value", [b"Bearer abc", b"bearer abc", b"BEARER   abc  "])
    def test_a_bearer_token_is_read(self, value: bytes) -> None:
        assert transport.read([bearer(value)]) == (RawToken(b"abc", Carrier.BEARER), BEARER_READ, ())

    def test_a_bearer_token_hides_the_cookie(self) -> None:
        headers = [cookie(b"__Host-session=a; __Host-session=b"), bearer(b"Bearer abc")]
        assert transport.read(headers) == (RawToken(b"abc", Carrier.BEARER), BEARER_READ, ())

    def test_malformed_bearer_syntax_is_refused_and_no_cookie_is_tried(self) -> None:
        for value in [
            b"Bearer",
            b"Bearer ",
            b"Bearer a b",
            b"Bearer a,b",
            b"Bearer\ta",
            b"Bearer \ta",
            b"Bearer a\t",
            b"Bearer =a",
            b'Bearer "a"',
            b"Bearer a\r\nX: y",
            b"Bearer a\0",
            b"Bearer \xc3\xa9",
            b"Bearer token=a",
            b"Bearer Bearer a",
        ]:
            assert unreadable(bearer(value), cookie(b"__Host-session=a")) == (Reason.TOKEN_MALFORMED, Carrier.BEARER), (
                value
            )

    @pytest.mark.parametrize("value", [b"Basic Zm9v", b"", b"Bearerabc", b"Digest Bearer abc", b'Bearer2 a="b"'])
    def test_another_authorization_scheme_is_ignored(self, value: bytes) -> None:
        assert transport.read([bearer(value), cookie(b"__Host-session=a")]).raw == RawToken(b"a", Carrier.COOKIE)

    def test_two_authorization_headers_are_ambiguous(self) -> None:
        expected = (Reason.TOKEN_AMBIGUOUS, Carrier.BEARER)
        assert unreadable(bearer(b"Bearer a"), bearer(b"Bearer a")) == expected
        assert unreadable(bearer(b"Basic a"), bearer(b"Bearer a"), cookie(b"__Host-session=a")) == expected


class TestHeaders:
    def test_headers_may_come_from_any_iterable_and_repeat(self) -> None:
        headers = ((name, value) for name, value in [(b"accept", b"a"), (b"accept", b"b"), bearer(b"Bearer x")])
        assert transport.read(headers).raw == RawToken(b"x", Carrier.BEARER)
        assert transport.read([(b"accept", b"a"), (b"accept", b"b")]) == (None, COOKIE_READ, ())

    def test_what_is_too_long_is_refused_unread(self) -> None:
        most = b"a" * MAX_TOKEN
        assert transport.read([bearer(b"Bearer " + most)]).raw == RawToken(most, Carrier.BEARER)
        assert transport.read([cookie(b"token=" + most)]).raw == RawToken(most, Carrier.COOKIE, "token")
        assert unreadable(bearer(b"Bearer " + most + b"a")) == (Reason.TOKEN_OVERSIZE, Carrier.BEARER)
        assert unreadable(bearer(b"Bearer " + b"\xff" * 2**20)) == (Reason.TOKEN_OVERSIZE, Carrier.BEARER)
        assert unreadable(cookie(b"token=" + most + b"a")) == (Reason.TOKEN_OVERSIZE, Carrier.COOKIE)
        assert unreadable(cookie(b";" * MAX_COOKIE_HEADER + b"token=a")) == (Reason.TOKEN_OVERSIZE, Carrier.COOKIE)

    def test_the_repr_of_a_raw_token_hides_its_value(self) -> None:
        assert "abc" not in repr(RawToken(b"abc", Carrier.COOKIE))
