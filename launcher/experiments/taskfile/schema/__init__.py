"""The language of task files for editors and users, generated from the kinds and the job options.

Start reading at `json_schema.task_schema`.
"""
