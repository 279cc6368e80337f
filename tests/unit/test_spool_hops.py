"""What a try teaches about its next hop, and what the queue keeps of who said it."""

from __future__ import annotations

import pytest

from mailqueue.schedule import Dispatcher, Result
from mta.address import parse_address
from mta.delivery.outcome import NextHop, Outcome, Passage
from mta.delivery.sites import SiteNames
from mta.envelope import Recipient
from mta.reply import Reply
from mta.smtp.opening import closing
from mta.spool.gate import Gate, Permit
from mta.spool.hops import Naming, learned
from mta.spool.replies import kept_outcome, kept_reply, said, said_by

TO = Recipient(parse_address("a@d.test"))
SENT_AWAY = closing(Reply(421, "4.3.2", "too many"))

TAUGHT = [
    ([Reply(250, "2.0.0", "ok")], Result.ANSWERED),
    ([Reply(450, "4.7.1", "greylisted")], Result.ANSWERED),
    ([SENT_AWAY], Result.OVERLOADED),
    ([Reply(451, "4.3.2", "not now", "greeting: 421 4.7.0 too many")], Result.OVERLOADED),
    ([Reply(451, "4.3.2", "not now", "EHLO: 421 4.7.0 too many")], Result.OVERLOADED),
    ([Reply(451, "4.4.1", "unreachable", "mx.test:25: Connection refused")], Result.UNREACHABLE),
    ([Reply(451, "4.4.5", "busy", "no connection came free before the deadline")], Result.UNKNOWN),
    ([Reply(451, "4.7.5", "no TLS as demanded", "MTA-STS: mx.test is not in the policy")], Result.UNKNOWN),
    ([Reply(451, "4.3.5", "unknown route", "there is no source bulk")], Result.UNKNOWN),
    ([Reply(556, "5.1.10", "null MX", "null MX")], Result.UNKNOWN),
    ([SENT_AWAY, Reply(250, "2.0.0", "ok")], Result.ANSWERED),
]


@pytest.mark.parametrize(("replies", "expected"), TAUGHT)
def test_what_a_try_teaches(replies: list[Reply], expected: Result) -> None:
    assert learned([Outcome(TO, reply, "") for reply in replies])[0] is expected


def test_a_domain_that_cannot_be_looked_up_says_nothing_of_hosts_it_shares() -> None:
    reply = Reply(451, "4.4.3", "cannot be looked up", "MX d.test: SERVFAIL")
    nowhere = Outcome(TO, reply, "", passage=Passage("", ""))
    assert learned([nowhere], "mx/(mx.test)")[0] is Result.UNKNOWN
    assert learned([nowhere], "mx/d.test")[0] is Result.UNREACHABLE
    host = Outcome(TO, reply, "", passage=Passage("mx.test", ""))
    assert learned([host], "mx/(mx.test)")[0] is Result.UNREACHABLE
    assert learned([nowhere, host], "mx/(mx.test)")[0] is Result.UNREACHABLE


def test_domains_without_dns_do_not_close_the_site_to_others() -> None:
    clock = 0.0
    names = SiteNames()
    gate = Gate(Dispatcher(), lambda: clock, lambda: None, Naming(names))
    reply = Reply(451, "4.4.3", "cannot be looked up", "MX d.test: SERVFAIL")
    good = NextHop("mx", "good.test")
    names.learn("mx/good.test", "mx.test")
    for number in range(50):  # one after the other loses its DNS, as at a provider of many
        hop = NextHop("mx", f"d{number}.test")
        names.learn(f"mx/{hop.host}", "mx.test")
        permit = gate.enter(hop)
        assert isinstance(permit, Permit)
        names.forget(f"mx/{hop.host}")
        permit.leave([Outcome(TO, reply, "", passage=Passage("", ""))])
        assert not gate.is_dead(good)
    assert isinstance(gate.enter(good), Permit)


def test_the_queue_keeps_who_said_it() -> None:
    reply = Reply(450, "4.7.1", "grey\tlisted")
    passage = Passage("mx1.test>mx2.test", "dane")
    kept = kept_outcome(Outcome(TO, reply, "mx1.test[192.0.2.1]:25", passage=passage))
    assert said(kept) == "450 4.7.1 grey listed"
    assert said_by(kept) == "mx1.test[192.0.2.1]:25, site mx1.test>mx2.test, TLS dane"
    assert kept_reply(kept) == Reply(450, "4.7.1", "grey listed")
    assert said_by(kept_outcome(Outcome(TO, reply, "127.0.0.1:24"))) == ""
    assert said_by(kept_outcome(Outcome(TO, reply, "", passage=Passage("", "")))) == ""


def test_next_hops_of_one_site_have_one_name() -> None:
    names = SiteNames()
    naming = Naming(names)
    one, other = NextHop("mx", "a.test"), NextHop("mx", "b.test")
    assert naming.site(one) == "mx/a.test"
    for hop in (one, other):
        names.learn(f"mx/{hop.host}", "mx.test")
    assert naming.site(one) == naming.site(other) == "mx/(mx.test)"
    names.forget("mx/a.test")
    assert naming.site(one) == "mx/a.test"
