"""What the administrator decides: a verdict for every stage of a session."""
