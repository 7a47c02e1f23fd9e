"""Today's session class, its versions, and the way from an older payload to it."""

from .claims import ENVELOPE, Claim, ClaimSpec, subject_key
from .schema import SessionSchema, Upgraded

__all__ = ["ENVELOPE", "Claim", "ClaimSpec", "SessionSchema", "Upgraded", "subject_key"]
