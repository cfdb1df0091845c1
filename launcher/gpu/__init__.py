"""The GPUs of this machine through NVML, who uses them, and what is reserved of them.

Start reading at `nvml.Nvml`.
In reading order: snapshot, nvml, nvml_device, xid_errors, monitor, process_owner, recording,
resources, reservations, counted_use, colleague, publication, own_file, foreign_reservations,
waiting_users, reservation_files, reservation_watch, mps, mps_support.
"""
