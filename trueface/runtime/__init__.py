"""What every part of the laboratory needs: errors, paths, random streams, files, memory.

Start reading at `rng.derive`.
In reading order: errors, files, ids, field_types, declarations, paths, rng, precision, progress, timer, gpu_memory, heap,
logs, tensor_files, npz_files, sharding, staged_folder, cache_folder, process_pool, code.
"""
