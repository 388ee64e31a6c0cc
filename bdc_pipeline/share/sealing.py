"""Keeping what lies on a share from those who may read the share: AES-256-GCM under a key made from the team's secret.

Small things are sealed whole. Files of any size are sealed in chunks, each bound to its place and the last one marked, so
that chunks left out, moved, or cut off at the end are noticed.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bdc_pipeline.share.errors import ShareError

__all__ = ["NONCE_BYTES", "Key", "WrongSecret"]

NONCE_BYTES = 12
TAG_BYTES = 16
CHUNK = 1 << 20
PLACE = struct.Struct(">QB")

SCRYPT_COST = 1 << 15
"""32 MB and about 0.1 s for each guess at a secret (RFC 7914's advice for interactive use)."""


class WrongSecret(ShareError):  # noqa: N818  (what the secret is)
    """What lies on the share cannot be opened with this secret, or with none."""


class Readable(Protocol):
    """What chunks are read from."""

    def read(self, size: int, /) -> bytes | None:
        """At most `size` bytes."""


@lru_cache(maxsize=8)
def _derived(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=SCRYPT_COST, r=8, p=1, maxmem=SCRYPT_COST * 2048, dklen=32)


@dataclass(frozen=True, slots=True)
class Key:
    """A share's key. It shows itself to nobody: neither its repr nor an error holds it."""

    raw: bytes = field(repr=False)

    @classmethod
    def derive(cls, secret: str, salt: bytes) -> Key:
        """The key that `secret` makes with a share's own salt (scrypt; about 0.1 s the first time)."""
        return cls(_derived(secret, salt))

    def seal(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        """`data` sealed, with `header` bound to it; never twice under one nonce."""
        return AESGCM(self.raw).encrypt(nonce, data, header)

    def open(self, nonce: bytes, data: bytes, header: bytes) -> bytes:
        """What was sealed; `WrongSecret` when the key, the nonce, the data or the header is another."""
        try:
            return AESGCM(self.raw).decrypt(nonce, data, header)
        except InvalidTag:
            raise WrongSecret(
                "The share was written with another secret. Set the one that the team uses (BDC_SHARE_SECRET), or ask who set it up."
            ) from None

    def sealed_chunks(self, chunks: Iterator[bytes], header: bytes) -> Iterator[bytes]:
        """`chunks` (each at most 1 MB) sealed one by one under a key of this file alone."""
        seed = os.urandom(32)
        yield seed
        key = self._of_file(seed)
        number, current = 0, next(chunks, b"")
        for following in chunks:
            yield _framed(key.seal(_nonce(number), current, header + PLACE.pack(number, 0)), last=False)
            number, current = number + 1, following
        yield _framed(key.seal(_nonce(number), current, header + PLACE.pack(number, 1)), last=True)

    def opened_chunks(self, file: Readable, header: bytes) -> Iterator[bytes]:
        """The chunks that were sealed. EOFError when the file ends before its last chunk, `WrongSecret` as in `open`."""
        key = self._of_file(_exactly(file, 32))
        number, last = 0, False
        while not last:
            length, last = FRAME.unpack(_exactly(file, FRAME.size))
            if length > CHUNK + TAG_BYTES:
                raise EOFError
            yield key.open(_nonce(number), _exactly(file, length), header + PLACE.pack(number, last))
            number += 1

    def _of_file(self, seed: bytes) -> Key:
        """A key of one file, so that chunk numbers can be its nonces."""
        return Key(hashlib.blake2b(seed, key=self.raw, digest_size=32, person=b"bdc-share-file").digest())


FRAME = struct.Struct(">I?")


def _framed(sealed: bytes, *, last: bool) -> bytes:
    return FRAME.pack(len(sealed), last) + sealed


def _nonce(number: int) -> bytes:
    return number.to_bytes(NONCE_BYTES, "big")


def _exactly(file: Readable, size: int) -> bytes:
    data = file.read(size) or b""
    if len(data) < size:
        raise EOFError
    return data
