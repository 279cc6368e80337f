"""The message index: RFC 5322 and MIME over byte offsets, decoded lazily, edited as an overlay."""

from sieve_ext.message.addresses import Mailbox, Mailboxes, parse_addresses
from sieve_ext.message.field import Field, is_field_name, make_field, raw_field
from sieve_ext.message.html import html_text
from sieve_ext.message.index import HeaderIndex
from sieve_ext.message.message import Message
from sieve_ext.message.mime import Part, Structure
from sieve_ext.message.parameters import all_parameters, parse_parameters

__all__ = [
    "Field",
    "HeaderIndex",
    "Mailbox",
    "Mailboxes",
    "Message",
    "Part",
    "Structure",
    "all_parameters",
    "html_text",
    "is_field_name",
    "make_field",
    "parse_addresses",
    "parse_parameters",
    "raw_field",
]
