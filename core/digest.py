"""Content digests: the one way keys are made."""

import hashlib
import json
from pathlib import Path

DIGEST_CHARS = 32  # 128 bits: no collision among any number of records a store will see
CHUNK_BYTES = 1 << 20


def digest(value: object) -> str:
    """Hex digest of a JSON value; equal values give equal digests in every process.

    Args:
        value: Nested dicts, lists, strings, numbers, bools, None. Key order is irrelevant.

    Raises:
        TypeError: `value` holds something JSON cannot write.
        ValueError: `value` holds NaN or infinity.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARS]


def file_digest(path: Path) -> str:
    """Hex digest of a file's bytes."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()[:DIGEST_CHARS]
