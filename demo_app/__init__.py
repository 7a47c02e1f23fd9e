"""Seven days of a payload migration in minutes: a small real app, its users, and what Prometheus sees of them.

Only time is compressed (``settings``). Tokens expire, users log in over HTTP, a database answers queries, and every
figure on display comes from ``/metrics``, as for a Prometheus.
"""
