"""Keys and tokens that the RFCs print, with their sections: ``rfc_vectors.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple


class Signed(NamedTuple):
    """A compact serialisation and the key that made it."""

    section: str
    alg: str
    jwk: dict[str, Any]
    token: str
    note: str = ""


_PRINTED: Final = json.loads(Path(__file__).with_name("rfc_vectors.json").read_text("utf-8"))
SIGNED: Final = tuple(Signed(**printed) for printed in _PRINTED["signed"])
RFC7515_A1, RFC7515_A2, RFC7515_A3, RFC7515_A4, RFC8037_A4 = SIGNED
WITH_CLAIMS: Final = SIGNED[:3]
"""Those whose payload is a claims set: ``iss`` is joe, ``exp`` is :data:`EXP`, and there is no ``iat``."""
EXP: Final = 1_300_819_380
RFC7519_6_1: Final[str] = _PRINTED["unsecured"]["token"]
RFC7517_A1_EC, RFC7517_A1_RSA, RFC7517_A3_KEYWRAP, RFC7517_A3_HMAC = (key["jwk"] for key in _PRINTED["keys"])
