"""The pages: functions that fill a template each; `launcher.web.rendering.PAGES` lists them.

Start reading at `page.Page`.
"""
