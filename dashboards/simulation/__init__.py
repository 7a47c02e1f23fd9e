"""Simulated days of a payload migration for a Prometheus: the real middleware under a simulated clock, in seconds.

``python -m dashboards.simulation --out FILE`` writes what a Prometheus would have scraped, as OpenMetrics. The
dashboards and alerts are tested on these days, and a picture of the README shows them. ``scenarios.py`` defines what
happens.
"""
