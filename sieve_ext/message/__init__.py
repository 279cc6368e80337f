"""The message index: RFC 5322 and MIME over byte offsets, decoded lazily, edited as an overlay."""

from sieve_ext.message.field import Field, is_field_name, make_field, raw_field
from sieve_ext.message.index import HeaderIndex
from sieve_ext.message.message import Message

__all__ = [
    "Field",
    "HeaderIndex",
    "Message",
    "is_field_name",
    "make_field",
    "raw_field",
]
