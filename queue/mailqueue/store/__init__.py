"""Where the queue keeps its objects: five calls, and any engine that knows "create if absent" fits.

    base         the contract, its errors, what is a key
    urls         from a URL to a store; options beside it, buckets for object stores
    memory       for tests
    file         files of one machine: disk does it, folders and scratch keep it durable and clean
    objects      S3, Google, Azure; answers puts their errors into words
    replicated   several stores as one: asking them, catchup for what one missed, repair by hand
    probe        refuses a store that lies

The modules know keys and octets only; what is kept is in docs/queue-format.md.
"""
