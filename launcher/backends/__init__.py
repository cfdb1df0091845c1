"""Clusters: engines such as Slurm and Ray, the pilots that they start on nodes, and what is said and decided of these.

- `settings` and `protocol`: how a backend is configured, all that an engine has to do, and calls to it; `slurm`, `ray`,
  `local` do it.
- `channel`: the files over which scheduler and pilot talk.
- `node_…`: the pilot on its node; `node_pilot` is its process. It has no database and decides nothing: it starts the attempts that it is sent.
- `pilot`, `backend_pilots`, `fleet`: the pilots as the scheduler knows them; `pilot_rules` has what is decided,
  `pilot_records` what outlives a scheduler, `pilots_file` what screens get.
"""
