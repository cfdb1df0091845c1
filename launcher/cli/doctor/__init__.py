"""`launcher doctor`: facts are gathered, checks judge them, findings say what to do.

Start reading at `checks.check`.
In reading order: facts, gather, gather_gpu, gather_backends, checks, machine_checks, gpu_checks,
backend_checks, findings.
"""
