require "vnd.dovecot.testsuite";
test_fail "as it is meant";
