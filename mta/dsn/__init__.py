"""Reports to senders: delivery status notifications (RFC 3461, 3464, 6522 and 6533). Pure."""
