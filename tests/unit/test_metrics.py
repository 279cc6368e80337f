"""Metrics: counting, adding up, the page for Prometheus, and the page for people."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mta import metrics
from mta.metrics.declared import LATENCY_BUCKETS
from mta.smtp.state import COMMANDS

PAGE = Path(__file__).parents[2] / "docs/monitoring.md"
BEGIN, END = "<!-- begin: written from mta.metrics -->\n", "<!-- end: written from mta.metrics -->\n"


def samples(page: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels; an empty label is an absent one."""
    return {
        (sample.name, frozenset((k, v) for k, v in sample.labels.items() if v)): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def test_counting_and_the_page() -> None:
    stats = metrics.Stats()
    stats.messages["delivered", "smtp"] += 2
    stats.messages["temporary"] += 1
    stats.sessions_open["smtp"] += 3
    stats.sessions_open["smtp"] -= 1
    stats.internal_errors += 1
    stats.answer_seconds["smtp"].observe(0.004)
    stats.answer_seconds["smtp"].observe(99.0)
    found = samples(metrics.exposition(stats.snapshot()))
    listener = ("listener", "smtp")
    assert found["tamis_messages_total", frozenset({listener, ("result", "delivered")})] == 2
    assert found["tamis_messages_total", frozenset({("result", "temporary")})] == 1
    assert found["tamis_sessions_open", frozenset({listener})] == 2
    assert found["tamis_internal_errors_total", frozenset()] == 1
    assert found["tamis_answer_seconds_count", frozenset({listener})] == 2
    assert found["tamis_answer_seconds_sum", frozenset({listener})] == pytest.approx(99.004)
    assert found["tamis_answer_seconds_bucket", frozenset({listener, ("le", "0.0025")})] == 0
    assert found["tamis_answer_seconds_bucket", frozenset({listener, ("le", "0.005")})] == 1
    assert found["tamis_answer_seconds_bucket", frozenset({listener, ("le", "60.0")})] == 1
    assert found["tamis_answer_seconds_bucket", frozenset({listener, ("le", "+Inf")})] == 2


def test_the_process_is_measured() -> None:
    stats = metrics.Stats("store")
    snapshot = stats.snapshot()
    assert metrics.value(snapshot, "processes", "store") == 1
    assert metrics.value(snapshot, "process_cpu_seconds", "store") > 0
    assert 1 << 20 < metrics.value(snapshot, "process_resident_bytes", "store") < 1 << 32


def test_only_workers_say_whether_the_queue_is_open() -> None:
    workers = [metrics.Stats(), metrics.Stats()]
    for stats, room in zip(workers, (5000, 3000), strict=True):
        stats.queue_open, stats.queue_room_bytes = 1, room
    others = [metrics.Stats("supervisor"), metrics.Stats("store")]
    found = samples(metrics.exposition(metrics.merge(one.snapshot() for one in (*others, *workers))))
    assert found["tamis_queue_open", frozenset()] == 1
    assert found["tamis_queue_room_bytes", frozenset()] == 3000
    workers[1].queue_open = 0
    found = samples(metrics.exposition(metrics.merge(one.snapshot() for one in (*others, *workers))))
    assert found["tamis_queue_open", frozenset()] == 0


def test_merging_adds_counters_and_keeps_the_earliest_expiry() -> None:
    one, two = metrics.Stats(), metrics.Stats()
    one.sessions["smtp"] += 1
    two.sessions["smtp"] += 2
    two.sessions["lmtp"] += 4
    one.answer_seconds["smtp"].observe(0.5)
    two.answer_seconds["smtp"].observe(0.5)
    one.certificate_expiry_seconds["main"] = 200.0
    two.certificate_expiry_seconds["main"] = 100.0
    merged = metrics.merge([one.snapshot(), two.snapshot()])
    assert metrics.value(merged, "sessions") == 7
    assert metrics.value(merged, "sessions", "smtp") == 3
    assert metrics.value(merged, "answer_seconds") == 2
    assert metrics.value(merged, "certificate_expiry_seconds", "main") == 100
    assert metrics.value(merged, "processes", "worker") == 2
    assert metrics.merge([]) == {}


def test_merging_changes_no_snapshot() -> None:
    stats = metrics.Stats()
    stats.answer_seconds["smtp"].observe(0.5)
    snapshot = stats.snapshot()
    before = json.dumps(snapshot)
    metrics.merge([snapshot, snapshot])
    assert json.dumps(snapshot) == before


counts = st.dictionaries(st.sampled_from(["smtp", "lmtp", "submission"]), st.integers(0, 10**6))


@given(st.lists(counts, min_size=1, max_size=4))
def test_merging_is_a_sum_in_any_order(parts: list[dict[str, int]]) -> None:
    snapshots = []
    for part in parts:
        stats = metrics.Stats()
        stats.sessions.update(part)
        snapshots.append({"sessions": stats.snapshot()["sessions"]})
    merged = metrics.merge(snapshots)
    assert merged == metrics.merge([metrics.merge(snapshots[:1]), metrics.merge(reversed(snapshots[1:]))])
    assert metrics.value(merged, "sessions") == sum(sum(part.values()) for part in parts)


def test_a_process_that_ended_leaves_its_counters() -> None:
    stats = metrics.Stats()
    stats.sessions["smtp"] += 1
    stats.sessions_open["smtp"] += 1
    stats.answer_seconds["smtp"].observe(1)
    rest = metrics.retired(stats.snapshot())
    assert metrics.value(rest, "sessions") == 1
    assert metrics.value(rest, "answer_seconds") == 1
    assert metrics.value(rest, "process_cpu_seconds") > 0
    assert not {"sessions_open", "processes", "process_resident_bytes"} & set(rest)


def test_snapshots_travel_as_json() -> None:
    stats = metrics.Stats()
    stats.messages["delivered", "smtp"] += 1
    stats.answer_seconds["smtp"].observe(0.1)
    snapshot = stats.snapshot()
    assert json.loads(json.dumps(snapshot)) == snapshot


def test_snapshots_of_another_version_do_no_harm() -> None:
    ours = metrics.Stats()
    ours.answer_seconds["smtp"].observe(0.1)
    theirs = {
        "a_new_one": {"x": 1},
        "answer_seconds": {"smtp": {"counts": [1, 2], "sum": 3.0}},
        "sessions": {"smtp\tmore\tlabels": 5},
    }
    merged = metrics.merge([ours.snapshot(), theirs])
    assert "a_new_one" not in merged
    assert metrics.value(merged, "answer_seconds", "smtp") == 1
    assert metrics.value(merged, "sessions", "smtp") == 5
    assert samples(metrics.exposition(merged))["tamis_sessions_total", frozenset({("listener", "smtp")})] == 5
    assert "a_new_one" not in metrics.retired(theirs)


def test_label_values_are_escaped_on_the_page() -> None:
    stats = metrics.Stats()
    stats.pool_open['unix:/run/a "b"\\c\n'] = 1
    found = samples(metrics.exposition(stats.snapshot()))
    assert found["tamis_pool_open", frozenset({("peer", 'unix:/run/a "b"\\c\n')})] == 1


def test_the_page_of_nothing_has_every_metric() -> None:
    page = metrics.exposition({}).decode()
    for metric in metrics.METRICS:
        assert f"# HELP {metric.exposed} " in page


def test_counters_of_the_store() -> None:
    snapshot = metrics.store_snapshot(
        {"sessions": 2, "recipients": {"stored": 5}, "octets": 100, "refused_connections": {"busy": 1}}
    )
    assert metrics.value(snapshot, "store_sessions_open") == 2
    assert metrics.value(snapshot, "store_recipients", "stored") == 5
    assert metrics.value(snapshot, "store_bytes") == 100
    assert metrics.value(snapshot, "store_connections_refused", "busy") == 1
    assert metrics.value(snapshot, "processes", "store") == 1


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.001, 0), (0.0011, 1), (60.0, len(LATENCY_BUCKETS) - 1), (60.1, len(LATENCY_BUCKETS))],
)
def test_bounds_belong_to_their_bucket(seconds: float, bucket: int) -> None:
    histogram = metrics.Histogram()
    histogram.observe(seconds)
    assert histogram.counts[bucket] == 1


def table() -> str:
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics.METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.exposed}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n" + "\n".join(lines) + "\n\n"


def test_every_metric_is_on_the_page_for_people() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page[page.index(BEGIN) + len(BEGIN) : page.index(END)] == table()


def test_every_metric_is_counted_somewhere() -> None:
    """What is declared and never counted looks like a server on which it never happens."""
    used: set[str] = set()
    for path in (Path(metrics.__file__).parents[1]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute):
                holder = ast.unparse(node.value)
                if holder.endswith("stats") or (holder == "self" and path.parent.name == "metrics"):
                    used.add(node.attr)
    assert {metric.name for metric in metrics.METRICS} - used == set()


def test_the_help_of_refusals_names_every_stage() -> None:
    (help_text,) = (metric.help for metric in metrics.METRICS if metric.name == "refusals")
    words = set(re.findall(r"\w+", help_text))
    assert {verb.lower() for verb in COMMANDS} | {"connect", "helo", "syntax"} <= words


def test_expressions_of_the_page_name_real_metrics() -> None:
    exposed = {metric.exposed for metric in metrics.METRICS}
    page = PAGE.read_text(encoding="utf-8")
    for piece in page[: page.index(BEGIN)].split("tamis_")[1:]:
        name = "tamis_" + piece[: next(i for i, c in enumerate(piece) if not (c.isalnum() or c == "_"))]
        assert name.removesuffix("_bucket") in exposed, name
