"""The package against its peers, on one machine and in one run: ``python -m benchmarks``.

Only ratios count. Contenders take turns in short rounds, so that whatever else the machine does hits all of them, and
a ratio is the median over the rounds. Before anybody is timed he accepts a good token and refuses a bad one.
"""
