"""The whole screen that `launcher top` shows; only `app` and `canvas` know Textual.

Start reading at `app.Top`.
"""
