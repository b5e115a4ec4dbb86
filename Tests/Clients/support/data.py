"""Bytes for packages and their checksums."""

import hashlib
import random


def some_bytes(size, seed=0):
    """Bytes that look random and are the same in every run."""
    return random.Random(seed).randbytes(size)


def sha256(data):
    return hashlib.sha256(data).hexdigest()
