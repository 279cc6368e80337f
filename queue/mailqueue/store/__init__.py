"""Where the queue keeps its objects: five calls, and any engine that knows "create if absent" fits.

Reference: docs/queue-format.md says what is kept. The modules here know keys and octets only.
"""
