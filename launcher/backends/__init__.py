"""Clusters: engines such as Slurm and Ray, the pilots that they start on nodes, and what is said and decided of these.

- `settings` and `protocol`: how a backend is configured, and all that an engine has to do; `slurm`, `ray`, `local` do it.
- `pilot_folder` and `messages`: the files over which scheduler and pilot talk.
- `node_…`: the pilot on its node. It has no database and decides nothing: it starts the attempts that it is sent.
- `link`, `pilot`, `backend_pilots`, `fleet`: the pilots as the scheduler knows them; `pilot_rules` has what is decided.
"""
