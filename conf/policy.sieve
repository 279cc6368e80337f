# A policy for Tamis, in Sieve: what happens at each stage of a session, before the built-in policy.
#
# As it stands it does nothing: the built-in policy alone accepts mail for your domains, refuses relaying for
# strangers and lets users send as themselves. Take the "#" away before the rules that you want ("# " before a
# word is text), name the file in tamis.toml, and see what `tamis check-config` says:
#
#     [policy]
#     scripts = ["policy.sieve"]
#
# docs/policy/README.md is the manual. A refusal here is final; what passes is still judged by the built-in
# policy. The log names the line that decided: cause=policy.sieve:40.

require ["vnd.tamis.stage", "vnd.tamis.net", "vnd.tamis.reply", "vnd.tamis.envelope", "vnd.tamis.queue",
    "environment", "envelope", "editheader", "extlists", "variables"];

# A client has connected and has not said anything yet.
#stage "connect" {
#    if ip_in ["192.0.2.0/24", "2001:db8:bad::/48"] {
#        reply :code 554 "no mail from ${env.remote_ip}";
#    }
#}

# Nobody else has our names, and no server is called localhost.
#stage "helo" {
#    if allof (environment :matches "vnd.tamis.helo" ["localhost", "*.localdomain"],
#              not environment "vnd.tamis.trusted" "yes") {
#        reply "you are not ${env.helo}";
#    }
#}

# A user has proved who it is: 535 keeps it out all the same.
#stage "auth" {
#    if not ip_in ["10.0.0.0/8", "fd00::/8"] {
#        reply :code 535 :enhanced "5.7.8" "log in from inside only";
#    }
#}

# Senders. [tables.blocked] in tamis.toml names a file with a domain a line.
stage "mail" {
#    if envelope :domain :list "from" "table:blocked" {
#        reply "no mail from ${0}";
#    }
}

# Each recipient, before it is looked up.
stage "rcpt" {
#    if envelope "to" "sales@example.org" {
#        rewrite_recipient "ann@example.org";
#    }
#    if envelope :localpart "to" "trap" {
#        tarpit 10;
#        disconnect;
#    }
}

# The message is complete.
stage "data" {
#    if header :contains "subject" "[ADV]" {
#        addheader "X-Advertisement" "yes";
#    }
#    if not exists ["from", "date"] {
#        reply :enhanced "5.6.0" "a message has From and Date (RFC 5322)";
#    }
#    if header :is "precedence" "bulk" {
#        priority "low";
#    }
#    if address :is :domain "from" "example.com" {
#        hold "we look at these first";
#    }
#    if envelope "to" "ann@example.org" {
#        add_recipient "archive@example.org";
#    }
}
