"""``python -m benchmarks.tune``."""

from benchmarks.tune.command import main

if __name__ == "__main__":
    main()
