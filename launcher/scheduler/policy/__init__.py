"""What starts, where, and why the rest waits: pure functions of jobs, machine, colleagues and the time.

Start reading at `decide.decide`.
In reading order: forecast, program_numbers, vram_request, model, disciplines, decide, inventory,
gpu_pool, gpu_slot, backfill, explanations, fair_share, yielding.
"""
