require "vnd.dovecot.filter"; filter "none";
