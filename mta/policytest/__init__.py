"""Tests in Sieve of policy files: what `vnd.tamis.testsuite` adds to the language of test files."""
