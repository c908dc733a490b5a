"""What is fast and what is good, measured: ``python -m benchmarks.NAME`` is one question each.

``measure.py`` and ``record.py`` are what all benchmarks of speed share; ``accuracy`` has the tables
of the papers, ``tune`` the search for settings. What is committed of all this is in ``results``.
"""
