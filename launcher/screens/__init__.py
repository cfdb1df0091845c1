"""What people see, as lines of text: no screen reads the queue by itself.

Start reading at `queue_view`.
In reading order: screen, snapshots, queue_view, queue_summary, gpu_view, gpu_users, history_view, plan_view,
plan_preview, result_table, job_records, job_details, watch, follow_logs, text_table, text_width,
chart, ascii, terminal, format, host, clusters, dashboard.
"""
