"""The whole screen that `launcher top` shows; only `app` knows Textual.

Start reading at `app.Top`.
"""
