"""Every table of the papers as one command: ``python -m benchmarks.accuracy TABLE``.

A table (``tables.py``, ``ablations.py``) is methods x bits x label rates x seeds x data x
protocols. ``cell.py`` runs one of its cells, ``chosen.py`` settles what a row leaves open,
``store.py`` keeps it as one JSON line, ``pool.py`` shares cells out to processes, ``summary.py``
makes means of them, ``page.py`` and ``figures.py`` what people read.
"""

import sys
from pathlib import Path

# the scripts beside this folder, which some of it uses, find each other by their bare names
_SCRIPTS = str(Path(__file__).resolve().parents[1])
if _SCRIPTS not in sys.path:
    sys.path.append(_SCRIPTS)
