"""What a language consists of: words with their arguments, capabilities, and dialects made of these."""
