"""Nine days of a migration in seconds: the real middleware under a simulated clock, written down as OpenMetrics.

``python -m demo_app history --days 9 --out FILE`` writes what a Prometheus would have scraped; ``promtool tsdb
create-blocks-from openmetrics FILE DIR`` makes blocks of it. What happens in those days is data: ``scenarios.py``.
"""
