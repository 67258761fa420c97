"""What one stage hands to another: a module for each kind of file, with its schema, path and functions.

No other module knows a key or a path of these files.
"""
