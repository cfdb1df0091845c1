"""Pilots on other machines: how many there are, what becomes of them, what is said to them.

In reading order: pilot_rules, pilot_records, backend_folder, engine_calls, pilot, submission,
submission_pace, backend_pilots, waiting_reasons, report, fleet.
Start reading at `pilot_rules`: what is decided about pilots; then `fleet.Fleet`.
"""
