"""`launcher doctor`: facts are gathered, checks judge them, findings say what to do.

Start reading at `checks.check`.
In reading order: facts, gather, gather_gpu, gather_backends, gather_notify, checks,
machine_checks, gpu_checks, backend_checks, notify_checks, findings.
"""
