"""The app's session class: version 2 of the payload, which added the email."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from jwt_middleware import Claim


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    user_id: Annotated[str, Claim("userId")]
    company_id: Annotated[str, Claim("companyId")]
    role: str = "user"
    email: Annotated[str, Claim(since=2)] = "Unknown"
    permissions: list[str] = field(default_factory=lambda: ["read"])
    environment: str = "production"


PERMISSIONS = {"user": ["read", "write"], "admin": ["read", "write", "release"]}
"""The permissions of each role."""
