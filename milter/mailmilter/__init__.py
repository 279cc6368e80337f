"""Milter and Postfix policy protocols, sans-IO plus an asyncio shell; nothing of the MTA.

Three parts that share framing, endpoints and values:

* the MTA's side of the milter protocol: `chain.MilterChain` over `connection.MilterPool`, whose core is
  `session.MilterSession`;
* the filter's side: `filter.Milter` and `filter.serve`, to write a milter in twenty lines;
* the policy delegation protocol of Postfix: `policy.PolicyClient` and `policy.serve_policy`.

Every core takes octets and returns octets or values; only `connection`, `filter.server`, `policy.client` and
`policy.server` know asyncio.
"""
