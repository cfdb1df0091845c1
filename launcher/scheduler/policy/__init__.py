"""What starts, where, and why the rest waits: pure functions of jobs, machine, colleagues and the time.

Start reading at `decide.decide`.
In reading order: forecast, model, vram_request, disciplines, decide, inventory, gpu_pool, gpu_slot, co_location,
backfill, explanations.
"""
