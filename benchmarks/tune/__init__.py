"""Search for settings: ``python -m benchmarks.tune METHOD``.

``spaces.py`` says what is varied, ``objective.py`` what a setting is worth, ``command.py`` does the
search and writes down what came out.
"""

import sys
from pathlib import Path

# accuracy and the other scripts find each other by their bare names
_SCRIPTS = str(Path(__file__).resolve().parents[1])
if _SCRIPTS not in sys.path:
    sys.path.append(_SCRIPTS)
