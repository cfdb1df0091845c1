"""What starts, where, and why the rest waits: pure functions of jobs, machine, colleagues and the time.

Start reading at `decide.decide`.
In reading order: forecast, program_numbers, vram_request, model, disciplines, queue_length, run_order, decide, inventory, other_homes,
gpu_pool, gpu_slot, gpu_need, co_location, backfill, explanations, fair_share, yielding, ages, watchdog.
"""
