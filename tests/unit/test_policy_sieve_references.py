"""References to variables that lead nowhere: each is a rule that is quietly never true."""

from __future__ import annotations

import pytest

from mta.policy.sieve.checking import check_policy
from tests.unit.policy_tables import faults, read


@pytest.mark.parametrize(
    ("script", "found"),
    [
        # what another stage has set, what is misspelt, what nothing sets
        (
            'stage "mail" { set "who" "x"; } stage "rcpt" { if string "${WHO}" "x" { defer; } }',
            "'${WHO}' is always empty: nothing sets it in stage 'rcpt' (stage 'mail' sets one of its own: "
            "variables live in one stage of one file)",
        ),
        (
            'stage "rcpt" { if lookup :value "reason" "table:vip" "x" { reply "no: ${raeson}"; } }',
            "'${raeson}' is always empty: nothing sets it in stage 'rcpt' (did you mean 'reason'?)",
        ),
        ('stage "mail" { reply "${x}"; }', "'${x}' is always empty: nothing sets it in stage 'mail'"),
        # hyphens, as the items themselves have them
        (
            'stage "connect" { if lookup "table:vip" "${env.remote-ip}" { defer; } }',
            "'${env.remote-ip}' is no variable, it stays as it is (is '${env.remote_ip}' meant?)",
        ),
        (
            'stage "connect" { if lookup "table:vip" "${env.vnd.tamis.tls-sni}" { defer; } }',
            "'${env.vnd.tamis.tls-sni}' is no variable, it stays as it is (is '${env.tls_sni}' meant?)",
        ),
    ],
)
def test_a_reference_that_leads_nowhere(script: str, found: str) -> None:
    made, told = read(script)
    assert made is not None
    assert [str(one.diagnostic).partition(": warning: ")[2] for one in told] == [found]


@pytest.mark.parametrize(
    "script",
    [
        'stage "rcpt" { set "a" "1"; } stage "rcpt" { reply "${A} ${0} ${1} ${env.helo}"; }',
        'stage "rcpt" { if true { lookup :value "a" "table:vip" "x"; } reply "${a}"; }',
        'stage "rcpt" { if dnsbl :value "zones" "bl.x.test" { reply "${zones}"; } }',
        'stage "rcpt" { set "a" "${b}"; set "b" "x"; }',
        'stage "rcpt" { reply "a price of ${ 5 } or ${x-y}"; }',
    ],
)
def test_what_is_no_mistake(script: str) -> None:
    assert faults(script) == []


def test_each_name_is_told_once_in_a_block() -> None:
    assert faults('stage "rcpt" { set "b" "${a}${a}"; reply "${a}"; }') == ["(1:24 lost-reference)"]


def test_without_variables_nothing_is_put_in() -> None:
    script = b"""require ["vnd.tamis.stage", "vnd.tamis.reply", "vnd.tamis.tables"];
stage "connect" {
    if lookup "table:blocked" "${env.remote_ip}" { reply "${0} costs $ 5 {here}"; }
}
"""
    assert [str(one) for one in check_policy(script)] == [
        "3:31: warning: '${env.remote_ip}' stays as it is (it needs: require \"variables\")",
        "3:58: warning: '${0}' stays as it is (it needs: require \"variables\")",
    ]
