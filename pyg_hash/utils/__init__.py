"""What all floors share: checks, files, sparse matrices, optional packages."""
