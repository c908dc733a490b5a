"""Graph-based cross-modal hashing on PyTorch Geometric."""

__version__ = "0.1.0"
