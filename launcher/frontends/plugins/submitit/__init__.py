"""submitit's cluster `launcher`: `submitit.AutoExecutor(folder, cluster="launcher")`.

submitit finds the executor and the environment of its jobs by entry points. Start reading at `executor`.
"""
