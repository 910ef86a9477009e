from __future__ import annotations

import io

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given
from hypothesis import strategies as st

from monolith.ingest.errors import SourceError
from monolith.ingest.hls.decryption import DecryptedBody

KEY, IV = bytes(range(16)), bytes(range(16, 32))


def encrypted(data: bytes) -> bytes:
    padder, encryptor = PKCS7(128).padder(), Cipher(algorithms.AES(KEY), modes.CBC(IV)).encryptor()
    return encryptor.update(padder.update(data) + padder.finalize()) + encryptor.finalize()


def decrypted(data: bytes, size: int, step: int, key: bytes = KEY) -> bytes:
    """By reads of `size`, from a source that gives `step` bytes at a time."""
    source = io.BytesIO(data)
    body = DecryptedBody(lambda _: source.read(step), key, IV)
    return b"".join(iter(lambda: body.read(size), b""))


@given(st.binary(max_size=400), st.integers(1, 100), st.integers(1, 100))
def test_what_was_encrypted_comes_back(data: bytes, size: int, step: int) -> None:
    assert decrypted(encrypted(data), size, step) == data


@pytest.mark.parametrize("data", [b"", encrypted(b"x" * 40)[:-3], encrypted(b"x" * 40)[:-16]])
def test_what_is_damaged_is_refused(data: bytes) -> None:
    with pytest.raises(SourceError, match="could not be decrypted"):
        decrypted(data, 64, 64)


def test_another_key_is_refused() -> None:
    with pytest.raises(SourceError, match="could not be decrypted"):
        decrypted(encrypted(b"x" * 40), 64, 64, key=bytes(16))
