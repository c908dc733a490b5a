"""Every table of the papers as one command: ``python -m benchmarks.accuracy TABLE``.

A table (``tables.yaml``) is methods (``methods.yaml``) x bits x label rates x seeds x data x
protocols. ``cell.py`` runs its cells, ``store.py`` keeps each as one JSON line, ``summary.py``
makes means of them, ``page.py`` and ``figures.py`` what people read.
"""
