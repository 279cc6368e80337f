"""The supervisor: the process that owns the listening sockets and looks after the workers.

`core` is its life (start, reload, stop), `sockets` opens what is listened on, `privileges` leaves
root behind, `children` starts and watches processes, `channel` is the wire between supervisor and
worker, `relay` and `memory` carry what workers tell each other, `counters` keeps what processes that
are gone have counted, `notify` speaks to systemd, `plan` is what is to be run.
"""
