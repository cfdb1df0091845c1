"""The language of task files for editors and readers, made from the kinds and the job options.

Start reading at `json_schema.task_schema`.
"""
