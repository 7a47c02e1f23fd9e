"""Session administration to mount: one app for administrators, one for a user's own devices, on the same parts.

Every route answers JSON, or a plain page where HTML is preferred::

    Mount("/admin/sessions", SessionAdmin(authority, allow=…))    # who may, is asked on every request
    Mount("/devices", MyDevices(authority))
"""

from .access import Allow
from .devices import MyDevices
from .sessions import SessionAdmin

__all__ = ["SessionAdmin", "MyDevices", "Allow"]
