"""The replicated queue on object storage: knows bytes, times and recipients; nothing of SMTP.

Every process life owns one *stream*: a log of group commits with dense numbers, which only it writes. All
objects but heartbeats are created once and never changed, by "create if absent" (`mailqueue.store.base`).
`MailQueue` (`mailqueue.queue`) is the way in; docs/queue-format.md describes every octet.

States of a message, by what is in the store
--------------------------------------------

In the log of a stream whose part is not retired, read up to the first number that is missing or sealed:

    ENQ  DONE  CANCEL                          the message is
    -     -      -     not there: its client has not heard 250
    +     -      -     live: it will be delivered or returned; OUTCOME records say how far it is
    +     +      -     settled: no recipient is live
    +     -      +     not accepted: its client heard 4xx
    later ENQ          live, its payload moved (compaction); all before it is void
    ADOPT without ADOPTED    live here if retired/<stream>/<part> names this stream, else not here
    ADOPT, ADOPTED won       live here
    ADOPT, ADOPTED lost      not here

States of a stream

    stream/ hb/ log/    seal  retired/      the stream is
      +     moving        -      -          owned: its process lives
      +     still         -      -          dead, or its owner sleeps: anybody may seal it after `takeover`
      +     "closed"      +      -          handed over by its owner
      +     any           +      some       being shared out, part by part
      +     any           +      all 16     retired; its log stays while uses/<stream>/ has holders
      +     any      seal only   all 16 and "collected"    collected
      -      -       seal only   "collected"               collected an hour ago; forgotten after
      `retired_keep`

Order of writes: what is durable before what
--------------------------------------------

    large body               before  the entry with its ENQ
    entries 0 to n           before  anything in entry n counts: "committed"
    ENQ committed            before  250 to the client, and before the message is tried
    outcome happened         before  OUTCOME or DONE is appended
    failure and its report           are in one entry
    DONE committed           before  the entry with the payload is deleted (and a snapshot is behind it)
    new snapshot             before  the one before the last is deleted
    two snapshots            before  log entries behind the older one are deleted
    seal                     before  the stream is read for adoption: what is read is all that was promised
    uses/<x>/<taker>         before  retired/ names the taker, for each log x that the payloads are in
    all ADOPT of a part      before  retired/<stream>/<part>: the commit point of an adoption
    retired/...              before  the first delivery of what was adopted, and before ADOPTED
    moved ENQ committed      before  uses/ is taken back
    all 16 retired, uses/ empty   before  a retired log is deleted; its seal stays

What a crash can do
-------------------

It cannot lose what was committed. It can have a recipient get a message twice: when the next hop has accepted
it and the process ends, or is cut off, before the record of that is committed; when the client has not read
the 250 of an ENQ that is committed, and sends again; when a message was refused with 4xx, its ENQ reached the
store after all, and the process ended before the CANCEL did; when an owner stops between `may_deliver` and
the final dot for longer than `takeover`; and when damaged storage loses a DONE.
"""
