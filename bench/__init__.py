"""Benchmarks: Tamis and Postfix side by side on this machine, and the ratios between them.

    python -m bench                     all of them
    python -m bench throughput cpu      some of them
    python -m bench throughput --quick  a rough look, for CI

Each module with a `measure` function is one benchmark: `throughput cpu memory latency start`. It starts both
servers with private configurations and folders on loopback, gives them the same load in turns (so that
what else this machine does disturbs both alike), prints a table for people, and ends with one line a figure
for machines: `figure NAME VALUE UNIT`, followed by `peer VALUE ratio R` where Postfix did the same. A ratio
over 1 always means that Tamis is better.

Needed: Debian's `postfix` (it brings `smtp-source` and `smtp-sink` too) and root, because Postfix starts as
root. Without them a benchmark says so and fails: a number without its peer would mean little.

The load tools are the same for both, and run on the same cores. A message counts when the LMTP sink behind
the server has it, not when the client was told that it was accepted.
"""
