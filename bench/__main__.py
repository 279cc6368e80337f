"""`python -m bench [NAME ...]`: run all benchmarks, or those that are named."""

from __future__ import annotations

import sys

from bench import (
    authn,
    checks,
    cold_start,
    cpu,
    dkim,
    dns,
    latency,
    memory,
    milter,
    outbound,
    outbound_daemon,
    outbound_through,
    policy,
    queue,
    queue_s3,
    sieve,
    start,
    tables,
    takeover,
    throughput,
)
from bench.command import Measure, parse, run_all

BENCHMARKS: dict[str, Measure] = {
    "throughput": throughput.measure,
    "cpu": cpu.measure,
    "memory": memory.measure,
    "latency": latency.measure,
    "start": start.measure,
    "checks": checks.measure,
    "queue": queue.measure,
    "queue_s3": queue_s3.measure,
    "takeover": takeover.measure,
    "sieve": sieve.measure,
    "policy": policy.measure,
    "milter": milter.measure,
    "dns": dns.measure,
    "cold_start": cold_start.measure,
    "dkim": dkim.measure,
    "authn": authn.measure,
    "outbound": outbound.measure,
    "outbound_daemon": outbound_daemon.measure,
    "outbound_through": outbound_through.measure,
    "tables": tables.measure,
}


def main() -> None:
    """Run the command line."""
    names, options = parse(sys.argv[1:], list(BENCHMARKS))
    run_all({name: BENCHMARKS[name] for name in names}, options)


if __name__ == "__main__":
    main()
