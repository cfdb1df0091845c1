"""Pilots on other machines: how many there are, what becomes of them, what is said to them.

In reading order: link, pilot_rules, pilot_records, pilot, roster, backend_folder, submission, submission_pace, engine_calls,
engine_requests, backend_pilots, waiting_reasons, nodes_file, report, report_rows, fleet.
Start reading at `pilot_rules`: what is decided about pilots; then `fleet.Fleet`.
"""
