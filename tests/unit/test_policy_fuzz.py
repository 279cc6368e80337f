"""The fuzzer of policy words with generated octets: `tests.fuzz.fuzz_policy`."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from sieve_ext import Settings
from tests.fuzz.fuzz_policy import check, world

HEAD = (
    'require ["vnd.tamis.stage", "vnd.tamis.envelope", "vnd.tamis.reply", "vnd.tamis.srs",'
    ' "vnd.tamis.tables", "vnd.tamis.rate", "vnd.tamis.greylist", "vnd.tamis.milter",'
    ' "vnd.tamis.queue", "vnd.tamis.route", "vnd.tamis.net", "vnd.tamis.site", "vnd.tamis.sign",'
    ' "envelope", "variables", "subaddress"];\n'
)
STAGES = ("connect", "helo", "mail", "rcpt", "data", "route", "sign", "retry", "bounce")
TESTS = """\
true
local_domain
may_relay
envelope :detail :matches "to" "*"
lookup :value "v" "table:t" "ann@a.test"
rate :limit 1 :per "1m" "n" "${env.remote_ip}"
ip_in "192.0.2.0/24"
greylist
dnsbl "z.test"
not environment "vnd.tamis.listener" "x"
""".splitlines()
COMMANDS = """\
expand "table:t";
expand :drop_extension ["table:t", "table:t"];
srs;
srs_reverse;
rewrite_recipient "${v}";
rewrite_recipient "c@a.test";
add_recipient "d@a.test";
bcc "e@far.test";
remove_recipient "ann@a.test";
set_sender "";
check_recipient;
reply "no";
defer;
accept;
disconnect;
stop;
tarpit 5;
milter "m";
hold "x";
priority "high";
tag ["a", "b"];
retry_after "5m";
dkim_skip;
route :to "relay:out";
greylist;
discard;
lookup :value "v" "table:t" "x${env.remote_ip}";
""".splitlines()


def block(stage: str, *commands: str) -> str:
    """A block of a stage."""
    return f'stage "{stage}" {{ {" ".join(commands)} }}\n'


@cache
def legal(stage: str) -> list[str]:
    """Commands, with and without tests, that a stage may have."""
    tests = [one for one in TESTS if load(block(stage, f"if {one} {{ stop; }}")) is None]
    commands = [one for one in COMMANDS if load(block(stage, one)) is None]
    return commands + [f"if {test} {{ {command} }}" for test in tests for command in commands]


def load(blocks: str) -> str | None:
    """What is wrong with a policy; None if nothing is."""
    found = world().load("policy.sieve", (HEAD + blocks).encode(), Settings())
    return "\n".join(found) or None


BLOCKS = st.sampled_from(STAGES).flatmap(
    lambda stage: st.lists(st.sampled_from(legal(stage)), min_size=1, max_size=5).map(
        lambda commands: block(stage, *commands)
    )
)


@given(st.lists(BLOCKS, min_size=1, max_size=3))
def test_policies(blocks: list[str]) -> None:
    assert load("".join(blocks)) is None
    check(b"p" + (HEAD + "".join(blocks)).encode())


@given(st.binary(max_size=200))
def test_octets(octets: bytes) -> None:
    check(b"p" + octets)


LOCAL = st.sampled_from(
    ["a", "b", "c", "ann", "SRS0=x=y=z", "\\a", '"q q"', "|x", ":include:/x", "@b.test", "a+x"]
)
VALUES = st.lists(
    LOCAL | LOCAL.map(lambda one: f"{one}@a.test") | st.just("x@far.test"), min_size=1, max_size=4
)


@given(st.dictionaries(LOCAL | LOCAL.map(lambda one: f"{one}@b.test"), VALUES, max_size=6))
def test_alias_files(entries: dict[str, list[str]]) -> None:
    lines = (f"{name}: {', '.join(values)}" for name, values in entries.items())
    check(b"a" + "\n".join(lines).encode())


@given(st.text(max_size=80))
def test_alias_text(text: str) -> None:
    check(b"a" + text.encode("utf-8", "replace"))


@given(
    st.text(alphabet="SRS01=+-aAG3.@", min_size=1, max_size=60), st.sampled_from(["", "@a.test", "@far.test"])
)
def test_addresses(local: str, domain: str) -> None:
    check(b"s" + f"{local}{domain}".encode())
