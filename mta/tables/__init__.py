"""Tables: from a key to a value, wherever it is kept. Scripts, recipients and maps ask them by name.

`mta.tables.table` is the interface, one module each a kind of source, `mta.tables.build` puts together what
`[tables.NAME]` says. A source knows nothing of deadlines, caches and search orders: those are wrappers.
"""
