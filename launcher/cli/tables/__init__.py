"""Tables on the standard output: the forms in which they are written, and which rows and columns.

Start reading at `forms.write_table`.
"""
