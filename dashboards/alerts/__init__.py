"""Every alert of the contract: name, severity, condition, how long it must hold, and what to tell who is woken.

A page means that users are turned away or a security control is off; everything else is a ticket. A rule on a ratio
has a floor in events. A rule on "any at all" also sees a series that is born non-zero, and is not fooled by a gap.
"""

from typing import Final

from .availability import AVAILABILITY
from .migration import MIGRATION
from .parts import FORGED, SIGNED, UNAVAILABLE, Alert
from .refusals import REFUSALS
from .signals import SIGNALS

__all__ = ["ALERTS", "FORGED", "SIGNED", "UNAVAILABLE", "Alert"]

ALERTS: Final = (*MIGRATION, *AVAILABILITY, *REFUSALS, *SIGNALS)
