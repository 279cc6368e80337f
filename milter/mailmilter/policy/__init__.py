"""The policy delegation protocol of Postfix (SMTPD_POLICY_README): client, and a small server."""

from mailmilter.policy.actions import Decision, Kind, parse_action
from mailmilter.policy.client import PolicyClient, PolicyService, Reply
from mailmilter.policy.request import PolicyRequest, instance_id
from mailmilter.policy.server import PolicyServer, serve_policy

__all__ = [
    "Decision",
    "Kind",
    "PolicyClient",
    "PolicyRequest",
    "PolicyServer",
    "PolicyService",
    "Reply",
    "instance_id",
    "parse_action",
    "serve_policy",
]
