"""``python -m pyg_hash`` is ``pyg-hash``."""

import sys

from pyg_hash.cli import main

sys.exit(main())
