"""Search for settings: ``python -m benchmarks.tune METHOD``.

``spaces.py`` says what is varied, ``objective.py`` what a setting is worth, ``command.py`` does the
search and writes down what came out.
"""
