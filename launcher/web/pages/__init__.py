"""The pages: each is a module that fills a template of its name, and a line in `registry`.

Start reading at `page.Page`.
"""
