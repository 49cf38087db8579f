"""The handshake and the encryption of a connection between driver and worker.

1. The worker speaks first. It sends its opening: a nonce (random bytes) and a proof that it knows the run's secret. So
   the driver can tell a worker from a stranger before it spends anything on the connection.
2. The driver answers with a nonce of its own, and a proof over both nonces.
3. Both sides derive a key for each direction from the secret and both nonces, by HKDF-SHA256 (RFC 5869).
4. Each frame is sealed with AES-256-GCM. Its number is the cipher's nonce (NIST SP 800-38D, 8.2.1), its length is
   associated data. A frame that was forged, altered, cut, repeated, left out or taken from elsewhere does not open.

A proof is an HMAC-SHA256 (RFC 2104) over the protocol's name and version, the sender's role and the nonces. The secret
itself never travels. An opening alone may be a recorded one; the first frame that opens proves that the worker is
really there.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
import struct
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from optuna_spark.errors import TuningError

MAGIC = b"OPTSPARK"
VERSION = 5  # of handshake and messages: driver and worker must have the same
NONCE = 32
TAG = 16  # what sealing adds to a frame

_PROTOCOL = struct.Struct(">8sH")
_INTRODUCTION = struct.Struct(f">{NONCE}s32s")
PROTOCOL_BYTES = _PROTOCOL.size
INTRODUCTION_BYTES = _PROTOCOL.size + _INTRODUCTION.size
LENGTH = struct.Struct(">I")


class WireError(TuningError):
    """The other side does not speak this protocol, does not know the secret, or has gone away."""


class Introduction(NamedTuple):
    """The first bytes of one side: its nonce, and its proof of the secret."""

    nonce: bytes
    proof: bytes

    def to_bytes(self) -> bytes:
        return protocol_bytes() + _INTRODUCTION.pack(*self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Introduction:
        """Read what follows the protocol's name and version."""
        return cls(*_INTRODUCTION.unpack(data))


class Keys(NamedTuple):
    """One key for each direction of one connection."""

    to_driver: bytes
    to_worker: bytes


def new_secret() -> bytes:
    """A secret for one run."""
    return secrets.token_bytes(32)


def protocol_bytes() -> bytes:
    """The protocol's name and version, with which each side begins."""
    return _PROTOCOL.pack(MAGIC, VERSION)


def protocol_version(data: bytes) -> int | None:
    """The version that the other side speaks; None if it speaks another protocol."""
    magic, version = _PROTOCOL.unpack(data)
    return int(version) if magic == MAGIC else None


def opening(secret: bytes) -> Introduction:
    """A worker's introduction."""
    nonce = secrets.token_bytes(NONCE)
    return Introduction(nonce, _proof(secret, b"worker", nonce))


def is_opening(secret: bytes, introduction: Introduction) -> bool:
    """Whether the sender of an opening knows the secret. It may be a recorded opening."""
    return hmac.compare_digest(introduction.proof, _proof(secret, b"worker", introduction.nonce))


def answer(secret: bytes, worker_nonce: bytes) -> Introduction:
    """The driver's introduction, as the answer to an opening."""
    nonce = secrets.token_bytes(NONCE)
    return Introduction(nonce, _proof(secret, b"driver", worker_nonce, nonce))


def is_answer(secret: bytes, worker_nonce: bytes, introduction: Introduction) -> bool:
    """Whether the sender of an answer knows the secret. It is no recorded answer: its proof covers our nonce."""
    return hmac.compare_digest(introduction.proof, _proof(secret, b"driver", worker_nonce, introduction.nonce))


def keys(secret: bytes, worker_nonce: bytes, driver_nonce: bytes) -> Keys:
    """The two keys of a connection."""

    def key(direction: bytes) -> bytes:
        info = protocol_bytes() + direction
        return HKDF(SHA256(), length=32, salt=worker_nonce + driver_nonce, info=info).derive(secret)

    return Keys(key(b"to driver"), key(b"to worker"))


def _proof(secret: bytes, role: bytes, *nonces: bytes) -> bytes:
    # The role keeps one side's proof from being played back as the other's.
    return hmac.digest(secret, b"".join([protocol_bytes(), role, *nonces]), hashlib.sha256)


class Seal:
    """Seals or opens the frames of one direction of a connection, in their order. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._numbers = itertools.count()

    def close(self, data: bytes) -> bytes:
        """Seal data as a frame: four bytes of length, big-endian, then the sealed data."""
        header = LENGTH.pack(len(data) + TAG)
        return header + self._cipher.encrypt(self._nonce(), data, header)

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """Open the next frame, and return its data.

        Raises:
            WireError: It is not the frame that the other side sealed next.
        """
        try:
            return self._cipher.decrypt(self._nonce(), sealed, header)
        except InvalidTag:
            raise WireError("a frame was forged, altered, repeated or lost on its way") from None

    def _nonce(self) -> bytes:
        # Never sent: both sides count. A lost or repeated frame gets another number there, and does not open.
        return next(self._numbers).to_bytes(12, "big")
