"""The whole screen that `launcher top` shows; only `app` and `canvas` know Textual.

Start reading at `app.Top`.
In reading order: app, controller, sources, page, overview_page, row_order, job_page, logs, metric_curves,
text_pages, prompt, changes, job_actions, job_batches, job_texts, typed_texts, key_bindings, layout, canvas,
screen_recording.
"""
