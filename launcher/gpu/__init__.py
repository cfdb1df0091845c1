"""The GPUs of this machine through NVML, who uses them, and what is reserved of them.

Start reading at `nvml.Nvml`.
"""
