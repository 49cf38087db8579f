"""What a trial computes: the built-in objectives, a folder each, a user's own, and the registry that knows them.

A built-in objective is one folder and one line in `registry`. Its folder has a module that Airflow may import, with
what is known before any trial runs (see `kind`), and one that trains, which only workers import.
"""
