"""Clusters: engines such as Slurm and Ray, and the pilots that they start on nodes.

`settings` configures backends. `protocol` defines the interface of an engine, and calls to it.
`slurm`, `ray` and `local` implement this interface.

`pilot_messages` defines the messages between scheduler and pilot, and `channel` the files that contain them.
`pilot_folder` has the folder of a pilot, which both sides use.

The modules `node_…` are the pilot on its node, and `node_pilot` is its process.
It has no database and decides nothing: it starts the attempts that it is sent. `outbox` keeps its messages.

The scheduler's side: `tracked_pilot` is one pilot and `pilot_link` the messages with it, `backend_pilots` are the
pilots of one backend, and `pilot_pool` those of all. `pilot_rules` has the decisions. `pilot_records` has the data that
outlives a scheduler, and `pilot_status` the data for screens. `pilot_processes` finds a pilot's processes on this machine.
"""
