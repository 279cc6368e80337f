"""Milters in the daemon: the milters of a session beside the policy, and what they make of a message.

macros    what milters are told of a session
joined    the milters of one session
edits     the message as milters edit it, and back
milters   the milters of a worker, by name and by session
policy    the policy with milters behind it
"""
