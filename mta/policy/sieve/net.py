"""vnd.tamis.net: tests of the client's address. Status: complete.

    ip_in <networks: string-list>

Networks are addresses or prefixes in CIDR notation, constant and checked when the script is loaded. A client
of a Unix socket is in no network. The words that ask the DNS are in `mta.policy.sieve.dnsnet`.
"""

from __future__ import annotations

import ipaddress

from mta.net.limits import Networks
from mta.policy.sieve.dnsnet import WORDS
from sieve_ext.extend import Capability, Checker, Compiler, Run, Step, Test, strings, texts


class IpInTest(Test):
    """ip_in <networks: string-list>."""

    word = "ip_in"
    args_definition = (strings("networks"),)

    def check(self, checker: Checker) -> None:
        """Each is a network without host bits."""
        for text in texts(self.given["networks"]):
            if checker.constant(text) is None:
                checker.error(text, "bad-network", "networks are constant: variables are not possible here")
                continue
            try:
                ipaddress.ip_network(text.value)
            except ValueError:
                checker.error(text, "bad-network", f"'{text.value}' is no network", _meant(text.value))

    def compile(self, compiler: Compiler) -> Step:
        """Look the client's address up; the cost grows with the different prefix lengths only."""
        networks = Networks([text.value for text in texts(self.given["networks"])])

        def is_in(run: Run) -> bool:
            return networks.contain_text(run.environment.get("remote-ip", ""))

        return is_in


def _meant(text: str) -> str:
    try:
        return f'is "{ipaddress.ip_network(text, strict=False)}" meant?'
    except ValueError:
        return 'write "192.0.2.0/24", "2001:db8::/32" or one address'


CAPABILITIES = (Capability("vnd.tamis.net", words=(IpInTest, *WORDS), specification="docs/policy/net.md"),)
