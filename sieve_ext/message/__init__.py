"""The message index: RFC 5322 and MIME over byte offsets, decoded lazily, edited as an overlay."""
