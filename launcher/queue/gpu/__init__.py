"""GPUs of this machine as reported by NVML, their processes, and reservations of their memory.

Start reading at `nvml.Nvml`.
"""
