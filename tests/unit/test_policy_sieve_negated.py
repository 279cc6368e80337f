"""`:on_error "ignore"` under `not`: a rule that refuses everybody while a service is away."""

from __future__ import annotations

import pytest

from tests.unit.policy_tables import faults

NAMELESS = 'not reverse_dns :on_error "ignore" :matches "*"'
UNKNOWN = 'not lookup :on_error "IGNORE" "table:vip" "${env.helo}"'


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (f'if {NAMELESS} {{ reply "no name"; }}', ["(1:35 ignored-not)"]),
        (f'if {NAMELESS} {{ if true {{ reject "no"; }} }}', ["(1:35 ignored-not)"]),
        (f'if allof (true, {UNKNOWN}) {{ reply :code 554 "who are you"; }}', ["(1:43 ignored-not)"]),
        (f'if ip_in "192.0.2.1" {{ }} elsif {UNKNOWN} {{ disconnect; reply "no"; }}', ["(1:58 ignored-not)"]),
        (
            'if not anyof (not true, dns :on_error "ignore" "x.test" "1") { reply "no"; }',
            ["(1:44 ignored-not)"],
        ),
        # for now only, or nothing at all; "not" twice; no "ignore"
        (f'if {NAMELESS} {{ reply :tempfail "no name"; }}', []),
        (f'if {NAMELESS} {{ reply :enhanced "4.7.1" "no name"; }}', []),
        (f"if {NAMELESS} {{ defer; }}", []),
        (f'if not {NAMELESS} {{ reply "a name"; }}', []),
        ('if not reverse_dns :matches "*" { reply "no name"; }', []),
        ('if dnsbl :on_error "ignore" "bl.test" { reply "listed"; }', []),
    ],
)
def test_refusals_by_services_that_are_away(block: str, found: list[str]) -> None:
    assert faults(f'stage "rcpt" {{ {block} }}') == found
