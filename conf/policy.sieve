# The base policy of Tamis, in Sieve: who may send what to whom, decided before anything is accepted.
#
# This is what a server does on its first day: mail for our domains is accepted for recipients that exist, users
# log in and send as themselves, and nobody else reaches other domains. It has the last word: scripts of your own
# go before it (policy.scripts in tamis.toml) and can refuse, change and route, but what is refused here stays
# refused. For another base policy take a copy, change it, and name it:
#
#     [policy]
#     scripts = ["mine.sieve"]         # asked before the base policy
#     base = "policy.sieve"            # your copy of this file
#
# Lines that begin with "#" and no blank are suggestions: take the "#" away before the rules that you want, here or
# in a file of your own, and see what `tamis check-config` says. The log names the line that decided:
# cause=policy.sieve:47. docs/policy/README.md is the manual.

require ["vnd.tamis.stage", "vnd.tamis.site", "vnd.tamis.net", "vnd.tamis.auth", "vnd.tamis.reply", "vnd.tamis.envelope",
    "vnd.tamis.queue", "environment", "envelope", "editheader", "extlists", "variables"];

# A client has connected and has not said anything yet.
#stage "connect" {
#    if ip_in ["192.0.2.0/24", "2001:db8:bad::/48"] {
#        reply :code 554 "no mail from ${env.remote_ip}";
#    }
#}

# Nobody else has our names, and no server is called localhost.
#stage "helo" {
#    if allof (environment :matches "vnd.tamis.helo" ["localhost", "*.localdomain"],
#              not login_required, not environment "vnd.tamis.trusted" "yes") {
#        reply "you are not ${env.helo}";
#    }
#}

# A user has proved who it is: 535 keeps it out all the same.
#stage "auth" {
#    if not ip_in ["10.0.0.0/8", "fd00::/8"] {
#        reply :code 535 :enhanced "5.7.8" "log in from inside only";
#    }
#}

# Senders: submission is for users, and a user sends as itself. The null sender is everybody's.
stage "mail" {
    if allof (login_required, not logged_in) {
        reply :code 530 :enhanced "5.7.0" "authentication required";
    } elsif allof (logged_in, not owns_sender) {
        reply :code 553 "sender address does not belong to you";
    }
# [tables.blocked] in tamis.toml names a file with a domain a line.
#    if envelope :domain :list "from" "table:blocked" {
#        reply "no mail from ${0}";
#    }
}

# Recipients: ours must exist, and only our users and networks reach others.
stage "rcpt" {
#    if envelope "to" "sales@example.org" {
#        rewrite_recipient "ann@example.org";
#    }
#    if envelope :localpart "to" "trap" {
#        tarpit 10;
#        disconnect;
#    }
# [tables.aliases] in tamis.toml has type = "aliases" and file = "/etc/aliases".
#    expand "table:aliases";
    if local_domain {
        check_recipient;
    } elsif not may_relay {
        reply "relaying denied";
    } elsif envelope :domain "to" "" {
        reply :enhanced "5.1.2" "a recipient needs a domain";
    } elsif not has_route {
        reply :enhanced "5.4.4" "this server has no route to other domains";
    }
}

# The message is complete. What the author's domain wants done with forged mail is done (DMARC); a DNS that does
# not answer is no reason to refuse anything for good.
stage "data" {
    if dmarc :policy "reject" {
        reply "the DMARC policy of ${env.auth_dmarc_domain} refuses this message";
    } elsif dmarc :policy "quarantine" {
        addheader "X-Quarantine" "dmarc ${env.auth_dmarc_domain}";
    }
#    if dmarc "temperror" {
#        reply :code 451 :enhanced "4.7.0" "the sender cannot be checked now, try again later";
#    }
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
