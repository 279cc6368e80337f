"""ManageSieve (RFC 5804): administrators edit the site's policy, users the scripts of their mail store.

`syntax`, `answers` and `session` do no I/O; `receiver` and `desk` are what they talk to.
"""
