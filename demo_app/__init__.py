"""Seven days of a payload migration, squeezed into minutes: a small real app, its users, and what Prometheus sees.

Only the time is compressed (``settings``). Tokens really expire, users really log in over HTTP, a database really
answers, and every figure shown is read from ``/metrics`` like a Prometheus would.
"""
