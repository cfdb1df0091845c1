"""The whole screen that `launcher top` shows; only `app` and `widgets` know Textual.

Start reading at `app.Top`.
"""
