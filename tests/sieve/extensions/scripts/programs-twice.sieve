require "vnd.dovecot.pipe"; pipe "a"; pipe "a" "b";
