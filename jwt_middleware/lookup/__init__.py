"""One batched, cached, time-limited query mechanism."""
