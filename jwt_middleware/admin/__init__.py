"""Session administration, as two apps to mount: one for administrators, one for each user's own devices.

Every route returns JSON, or a plain page if the client prefers HTML::

    Mount("/admin/sessions", SessionAdmin(authority, allow=…))    # allow= is called on every request
    Mount("/devices", MyDevices(authority))
"""

from .access import Allow
from .devices import MyDevices
from .sessions import SessionAdmin

__all__ = ["SessionAdmin", "MyDevices", "Allow"]
