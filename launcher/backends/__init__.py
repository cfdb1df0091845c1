"""Clusters: engines such as Slurm and Ray, and the pilots that they start on nodes.

`settings` configures backends. `protocol` defines the interface of an engine, and calls to it.
`slurm`, `ray` and `local` implement this interface.

`channel` has the message files between scheduler and pilot.

The modules `node_…` are the pilot on its node, and `node_pilot` is its process.
It has no database and decides nothing: it starts the attempts that it is sent.

`pilot`, `backend_pilots` and `fleet` hold the scheduler's view of pilots. `pilot_rules` has the decisions.
`pilot_records` has the data that outlives a scheduler, and `pilots_file` the data for screens.
"""
