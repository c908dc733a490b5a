"""Every table of the papers as one command: ``python -m benchmarks.accuracy TABLE``.

A table (``tables.py``) is methods x bits x label rates x seeds x data x
protocols. ``cell.py`` runs one of its cells, ``store.py`` keeps it as one JSON line, ``pool.py``
shares cells out to processes, ``summary.py`` makes means of them, ``page.py`` and ``figures.py``
what people read.
"""
