"""The supervisor: the process that owns the listening sockets and looks after the workers.

`main` begins it, `core` is its life: start, reload, stop. What it runs is a `plan`, which `planning` makes
from the configuration and `rereading` for a reload, in a process of its own (`aside`); `setup` has it checked
by `mta.startup`. `sockets` opens what is listened on, `privileges` leaves root behind, `statefolder` keeps
other servers out, `lostfiles` makes anew what somebody has removed, `whereabouts` notes where the queue is.

`child` starts and watches one process, `generation` those of one plan (`backoff` slows restarts down), and
`staff` all of them. `channel` is the wire between supervisor and worker, `messages` is what goes over it,
`link` the worker's end; `slots` and `memory` are what workers share and what later ones are told, `counters`
what those that are gone have counted. `storehost` is the mail store as one of the processes; `notify` speaks
to systemd.
"""
