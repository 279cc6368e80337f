"""The supervisor: the process that owns the listening sockets and looks after the workers.

`core` is its life (start, reload, stop), `sockets` opens what is listened on, `privileges` leaves
root behind, `children` starts and watches processes, `channel` is the wire between supervisor and
worker, `generation` and `staff` keep the processes running, `memory` carries what workers tell each other,
`counters` keeps what processes that are gone have counted, `notify` speaks to systemd, `plan` is what is to
be run, and `planning` makes it from the configuration.
"""
