"""base64url without padding, in its one spelling (RFC 4648 sections 3.5 and 5; RFC 7515 section 2)."""

from __future__ import annotations

from binascii import b2a_base64
from typing import Final

import msgspec

from .errors import Reason, Refusal

_ALPHABET: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD: Final = bytes(octet if octet in _ALPHABET else 0x21 for octet in range(256)).translate(
    bytes.maketrans(b"-_", b"+/")
)
"""base64url to base64; whatever is neither becomes ``!``, which the decoder refuses."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b'"', b'"', b'=="', b'="')
"""By length modulo 4, what a segment lacks to be a JSON string of padded base64: msgspec's decoder is the fastest."""
_LAST: Final = (_ALPHABET, b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4, the characters a segment may end with: others carry bits that decode to nothing."""
_decode: Final = msgspec.json.Decoder(bytes).decode


def from_base64url(segment: bytes) -> bytes:
    """Decode what is base64url, unpadded and in its one spelling (RFC 4648 section 3.5).

    Raises:
        Refusal: ``token_malformed``.
    """
    spare = len(segment) & 3
    if segment[-1:] not in _LAST[spare]:
        raise Refusal(Reason.TOKEN_MALFORMED)
    try:
        return _decode(b'"' + segment.translate(_TO_STANDARD) + _PADDING[spare])
    except msgspec.MsgspecError:
        raise Refusal(Reason.TOKEN_MALFORMED) from None


def to_base64url(octets: bytes) -> bytes:
    """Encode without padding (RFC 7515 section 2)."""
    return b2a_base64(octets, newline=False).translate(_TO_URL).rstrip(b"=")


def is_base64url(text: bytes) -> bool:
    """Whether :func:`from_base64url` would decode it."""
    return not text.translate(None, _ALPHABET) and text[-1:] in _LAST[len(text) & 3]
