"""What ``python -m jwt_middleware`` does: one module for each of its commands, with ``add`` and what that arranges."""

from . import dashboards, purge
from .parsing import Parser

__all__ = ["Parser", "dashboards", "purge"]
