"""The extensions of the language, one module a capability, registered in `sieve_ext.extensions.table`."""
