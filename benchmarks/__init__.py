"""The package against its peers, on one machine and in one run: ``python -m benchmarks``.

Only ratios count. Contenders take turns in short rounds, so that other load on the machine affects all of them, and a
ratio is the median over the rounds. Before it is timed, each contender must accept a good token and refuse bad ones.
"""
