"""What one stage hands to another: a module a kind of file, with its schema, its path, and how it is read and written.

No other module knows a key or a path of these files.
"""
