"""The whole screen that `launcher top` shows; only `app` and `canvas` know Textual.

Start reading at `app.Top`.
In reading order: app, controller, sources, page, overview_page, job_page, job_actions,
job_texts, key_bindings, layout, log_tail, metric_curves, canvas, screen_recording.
"""
