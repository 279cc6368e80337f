"""Counters, gauges and histograms of a process, and how those of many processes become one page.

A process has one `Stats`. In the hot path it is plain Python: `stats.messages["delivered", listener] += 1` is
a dictionary update. `snapshot()` makes a dictionary for the channel to the supervisor, `merge()` adds the
snapshots of all processes (counters and histograms are summed, gauges as declared); `mta.metrics.page` writes
it for Prometheus.

Each metric is declared once, as a field of `Stats`, with its help text; `METRICS` is made from the fields and
`docs/monitoring.md` lists them. A key is the value of the only label, or a tuple of all; labels left out at
the end are empty, which Prometheus takes for absent. Label values come from the configuration or from fixed
sets, never from clients: the number of series is bounded.

Snapshots of another version of the program may miss metrics or have ones that are unknown here: what is
unknown is left out. Nothing here raises for what a snapshot holds.
"""

from __future__ import annotations

import resource
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeAlias, get_type_hints

from mta import log
from mta.metrics.declared import Declared, Histogram, Metric, counter, gauge, histogram

Key: TypeAlias = str | tuple[str, ...]
Counts: TypeAlias = defaultdict[Key, int]
Gauges: TypeAlias = defaultdict[Key, float]
Snapshot: TypeAlias = dict[str, Any]
"""Metric name -> series -> value; a series is its label values with tabs between them."""

_PAGE_SIZE = resource.getpagesize()


Histograms: TypeAlias = defaultdict[Key, Histogram]


class Stats:
    """The metrics of one process. `role` is "worker", "store" or "supervisor"."""

    # Sessions
    sessions: Annotated[Counts, counter("Sessions that were let in.", "listener")]
    sessions_open: Annotated[Gauges, gauge("Sessions open now.", "listener")]
    connections: Annotated[
        Counts,
        counter(
            "What became of connections before they were sessions: accepted, refused, vanished, "
            "proxy_error, tls_timeout and so on.",
            "event",
            "listener",
        ),
    ]
    limits: Annotated[
        Counts,
        counter(
            "Refusals because of a limit of clients, by its name: sessions_per_client, sessions_per_prefix, "
            "session_rate_per_client, session_rate_per_prefix, messages_per_client, recipients_per_client, "
            "failures_per_client (logins). overloaded: too many sessions in all, or little memory or time.",
            "limit",
        ),
    ]
    refusals: Annotated[
        Counts,
        counter(
            "Commands that were refused, by stage. The policy or a limit: connect, helo, mail, rcpt, data. "
            "The protocol, by the command: ehlo, helo, lhlo, auth, mail, rcpt, data, bdat, rset, noop, vrfy, "
            "expn, help, etrn, starttls, xclient, xforward, quit, obsolete ones such as turn, and those of "
            "HTTP such as get. syntax: a line that is no command. Messages refused after their data are in "
            "tamis_messages_total, failed logins in tamis_auth_total.",
            "stage",
            "listener",
        ),
    ]
    tls_sessions: Annotated[
        Counts, counter("TLS handshakes that succeeded, by version.", "version", "listener")
    ]
    tls_failures: Annotated[Counts, counter("TLS handshakes that failed, by reason.", "reason", "listener")]
    outbound_security: Annotated[
        Counts,
        counter(
            "Security of mail to other domains. kind `level`: connections that stand, by what they had to "
            "fulfil; `failure`: what was wrong (RFC 8460); `downgrade`: proofs that went missing, by kind of "
            "pin; `resolver`: probes, by what they found.",
            "kind",
            "name",
        ),
    ]
    auth: Annotated[
        Counts,
        counter(
            "Logins, by result: success, failure (wrong password), temporary (back end away, or the client "
            "is at failures_per_client).",
            "result",
            "mechanism",
        ),
    ]
    internal_errors: Annotated[
        int, counter("Faults of the program: each has an error line with a traceback in the log.")
    ]

    # Messages
    messages: Annotated[
        Counts,
        counter(
            "Messages answered after their data, by result: delivered, queued, mixed, temporary, "
            "permanent, discarded (by the policy).",
            "result",
            "listener",
        ),
    ]
    message_bytes: Annotated[Counts, counter("Octets of the messages that were received whole.", "listener")]
    recipients: Annotated[
        Counts,
        counter(
            "Recipients of answered messages, by outcome (delivered, queued, temporary, permanent, "
            "discarded) and next hop.",
            "outcome",
            "next_hop",
        ),
    ]
    answer_seconds: Annotated[
        Histograms,
        histogram("Seconds from the end of a message's data to its answer, delivery included.", "listener"),
    ]
    unacknowledged: Annotated[
        int, counter("Recipients that got a message of which the client could not be told.")
    ]
    repeats_answered: Annotated[
        int, counter("Recipients of retried messages answered 250 from memory: no second copy.")
    ]
    # Every worker remembers the same ones.
    unacknowledged_remembered: Annotated[
        int, gauge("Deliveries remembered for a client's retry.", combine="max")
    ]

    # Sender authentication
    authentication: Annotated[
        Counts,
        counter(
            "Results of sender authentication, by method: iprev, spf, dkim, arc, dmarc.", "method", "result"
        ),
    ]
    signatures: Annotated[Counts, counter("Signatures made, by kind: dkim, arc.", "kind")]

    # The queue
    queue_open: Annotated[
        int,
        gauge(
            "1 when every worker has its queue and can use it, 0 when one has none or its stores fail.",
            combine="min",
        ),
    ]
    queue_messages: Annotated[int, gauge("Messages in the queue of this node.")]
    queue_recipients: Annotated[int, gauge("Recipients in the queue of this node that may still get theirs.")]
    queue_bytes: Annotated[int, gauge("Octets of the messages in the queue of this node.")]
    queue_commit_seconds: Annotated[
        float, gauge("Seconds that the stores take to keep a message.", combine="max")
    ]
    queue_room_bytes: Annotated[
        int,
        gauge(
            "Octets of new mail for which the disk of the queue has room; at 0 nothing is queued. Very many "
            "where the stores do not tell.",
            combine="min",
        ),
    ]
    queue_tries: Annotated[
        Counts,
        counter(
            "Recipients tried from the queue, by outcome (delivered, temporary, permanent) and next hop: the "
            "server, or where none was reached the back end or relay, as backend:NAME. expired, without a "
            "next hop: those that were given up.",
            "outcome",
            "next_hop",
        ),
    ]
    queue_reports: Annotated[
        Counts,
        counter(
            "Events that a report could be about, by what was decided: owed, never, not_asked, next_hop, "
            "null_sender, unvouched, double_bounce, dropped.",
            "decision",
        ),
    ]
    queue_unreadable: Annotated[int, counter("Queued messages that could not be read and are on hold.")]

    # Connections to next hops
    pool_open: Annotated[Gauges, gauge("Connections to next hops that are open or being opened.", "peer")]
    pool_idle: Annotated[Gauges, gauge("Connections to next hops that wait for a message.", "peer")]
    pool_waiting: Annotated[Gauges, gauge("Messages that wait for a connection to a next hop.", "peer")]
    pool_connects: Annotated[
        Counts, counter("Connections opened to next hops, by result: opened, failed.", "result", "peer")
    ]
    pool_reused: Annotated[
        Counts,
        counter(
            "Messages, and questions about recipients, sent over a connection that was open already.", "peer"
        ),
    ]
    pool_waits: Annotated[
        Counts, counter("Messages that had to wait for a connection to a next hop.", "peer")
    ]
    pool_refused: Annotated[
        Counts,
        counter("Messages that got no connection: too many waited, or the deadline was reached.", "peer"),
    ]

    # Milters, policy servers, scanners
    program_calls: Annotated[
        Counts,
        counter(
            "Questions to programs beside us, by result. kind `milter`: a stage of a session (continue, "
            "accept, discard, reject, tempfail, reply, shutdown...); `policy_server`: the action; `scanner`: "
            "clean, spam, virus, skipped (too large). failed: there was no proper answer.",
            "kind",
            "name",
            "result",
        ),
    ]
    program_seconds: Annotated[
        Histograms, histogram("Seconds that they took to answer, failures included.", "kind", "name")
    ]
    program_failures: Annotated[
        Counts,
        counter(
            "Why there was no proper answer: timeout, protocol, closed, connect, down (not tried, for it has "
            "failed just now), other.",
            "kind",
            "name",
            "reason",
        ),
    ]
    program_connections: Annotated[Gauges, gauge("Connections to them that are open.", "kind", "name")]
    program_connects: Annotated[Counts, counter("Connections opened to them.", "kind", "name")]

    # The embedded store
    store_sessions_open: Annotated[int, gauge("Sessions of the embedded mail store open now.")]
    store_recipients: Annotated[
        Counts,
        counter(
            "Recipients at the embedded store, by result: stored, unknown, disabled, over_quota, failed.",
            "result",
        ),
    ]
    store_bytes: Annotated[int, counter("Octets written by the embedded mail store.")]
    store_connections_refused: Annotated[
        Counts,
        counter("Connections that the embedded mail store refused, by reason: network, busy.", "reason"),
    ]

    # Processes
    certificate_expiry_seconds: Annotated[
        Gauges,
        gauge(
            "When the certificate in use ceases to be valid, in seconds of the epoch.",
            "certificate",
            combine="min",
        ),
    ]
    log_lines_dropped: Annotated[int, counter("Log lines that could not be written.")]
    worker_restarts: Annotated[Counts, counter("Processes started again after they died.", "role")]
    reloads: Annotated[
        Counts, counter("Reloads of the configuration, by result: ok, refused, failed.", "result")
    ]
    setup_checks: Annotated[
        Gauges, gauge("Results of the checks of the set-up, by outcome.", "check", "outcome")
    ]
    processes: Annotated[Gauges, gauge("Processes that are alive.", "role")]
    process_cpu_seconds: Annotated[Gauges, counter("CPU time used, user and system, in seconds.", "role")]
    process_resident_bytes: Annotated[
        Gauges, gauge("Resident memory; shared pages count in each process.", "role")
    ]

    def __init__(self, role: str = "worker") -> None:
        """`role` is "worker", "store" or "supervisor"."""
        self.role = role
        for metric in METRICS:
            setattr(self, metric.name, metric.initial())

    def snapshot(self) -> Snapshot:
        """All values for the channel to the supervisor; the process's own are measured now."""
        self.log_lines_dropped = log.dropped()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        self.process_cpu_seconds[self.role] = round(usage.ru_utime + usage.ru_stime, 6)
        self.process_resident_bytes[self.role] = _resident_bytes()
        self.processes[self.role] = 1
        return {metric.name: _series(getattr(self, metric.name)) for metric in METRICS if self._knows(metric)}

    def _knows(self, metric: Metric) -> bool:
        """False where the 0 of a process that has nothing to do with it would be the least of all."""
        return self.role == "worker" or metric.combine != "min" or bool(metric.labels)


def _declared() -> Iterator[Metric]:
    for name, annotation in get_type_hints(Stats, include_extras=True).items():
        says: Declared = annotation.__metadata__[0]
        yield Metric(name, says.kind, says.help, says.labels, says.combine)


METRICS: tuple[Metric, ...] = tuple(_declared())
"""Every metric there is, in the order of the page."""

_BY_NAME = {metric.name: metric for metric in METRICS}


def store_snapshot(counters: Mapping[str, Any]) -> Snapshot:
    """The snapshot of the embedded store's process from what `mta.store.server` counts."""
    stats = Stats("store")
    stats.store_sessions_open = counters["sessions"]
    stats.store_recipients.update(counters["recipients"])
    stats.store_bytes = counters["octets"]
    stats.store_connections_refused.update(counters["refused_connections"])
    return stats.snapshot()


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot of several processes."""
    result: Snapshot = {}
    for snapshot in snapshots:
        for name, series in snapshot.items():
            metric = _BY_NAME.get(name)
            if metric is None:
                continue
            target = result.setdefault(name, {})
            for key, value in series.items():
                target[key] = _combine(metric, target[key], value) if key in target else value
    return result


def retired(snapshot: Snapshot) -> Snapshot:
    """What remains of a process that has ended: its counters and histograms, not its gauges."""
    return {name: s for name, s in snapshot.items() if name in _BY_NAME and _BY_NAME[name].kind != "gauge"}


def value(snapshot: Snapshot, name: str, *labels: str) -> float:
    """The sum of the series whose labels begin with `labels`; of a histogram, the number of values."""
    total = 0.0
    for key, found in snapshot.get(name, {}).items():
        if tuple(key.split("\t"))[: len(labels)] == labels:
            total += sum(found["counts"]) if isinstance(found, dict) else found
    return total


def _series(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        return {"": found}
    result = {}
    for key, item in found.items():
        name = key if isinstance(key, str) else "\t".join(key)
        if isinstance(item, Histogram):
            item = {"counts": list(item.counts), "sum": item.sum}
        result[name] = item
    return result


def _combine(metric: Metric, one: Any, other: Any) -> Any:
    if metric.kind == "histogram":
        if len(one["counts"]) != len(other["counts"]):
            return one  # other bounds, of another version
        counts = [a + b for a, b in zip(one["counts"], other["counts"], strict=True)]
        return {"counts": counts, "sum": one["sum"] + other["sum"]}
    if metric.combine == "sum":
        return one + other
    return min(one, other) if metric.combine == "min" else max(one, other)


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_SIZE
    except OSError:  # no /proc: the peak is the best there is
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
