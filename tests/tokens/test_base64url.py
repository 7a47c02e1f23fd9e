"""One spelling for the same octets, as the standard library would write it."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jwt_middleware import Reason, Refusal
from jwt_middleware.tokens.jws import from_base64url, is_base64url, to_base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def spelled(octets: bytes) -> bytes:
    """The reference."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


@given(st.binary(max_size=200))
def test_octets_have_the_spelling_of_the_standard_library_and_come_back(octets: bytes) -> None:
    encoded = to_base64url(octets)
    assert encoded == spelled(octets)
    assert is_base64url(encoded)
    assert from_base64url(encoded) == octets


@given(st.text(ALPHABET, max_size=9) | st.text(ALPHABET + '+/=!\\"\n ', max_size=9) | st.text(max_size=9))
def test_whatever_is_no_spelling_is_refused(text: str) -> None:
    segment = text.encode("utf-8", "surrogatepass")
    if is_base64url(segment):
        assert spelled(from_base64url(segment)) == segment
        return
    with pytest.raises(Refusal) as caught:
        from_base64url(segment)
    assert caught.value.reason is Reason.TOKEN_MALFORMED
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("octet", sorted(set(range(256)) - set(ALPHABET.encode())))
@pytest.mark.parametrize("place", [0, 3, 4, 7, 8])
@pytest.mark.parametrize("replacing", [0, 1])
def test_no_other_octet_is_taken_anywhere(octet: int, place: int, replacing: int) -> None:
    segment = b"YWJjZGVm"
    segment = segment[:place] + bytes([octet]) + segment[place + replacing :]
    assert not is_base64url(segment)
    with pytest.raises(Refusal):
        from_base64url(segment)
