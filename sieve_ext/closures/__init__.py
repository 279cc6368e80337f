"""A validated script to closures."""
