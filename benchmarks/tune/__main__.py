"""``python -m benchmarks.tune``."""

from .command import main

if __name__ == "__main__":
    main()
