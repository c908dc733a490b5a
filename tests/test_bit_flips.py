"""One flipped bit, anywhere in a stored file, is noticed: the short form of ``bit_flips.py``."""

from bit_flips import flips


def test_no_flipped_bit_is_silent(tmp_path):
    counts, silent = flips(tmp_path, 200, seed=1)
    assert len(counts) > 12 and counts.total() >= 200
    assert {"build", "catalogue", "changes"} <= counts.keys()
    assert not silent
