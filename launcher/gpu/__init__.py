"""The GPUs of this machine through NVML, who uses them, and what is reserved of them.

Start reading at `nvml.Nvml`.
In reading order: snapshot, nvml, nvml_device, xid_errors, monitor, process_owner, recording,
resources, reservations, publication, reservation_files, mps, mps_support.
"""
