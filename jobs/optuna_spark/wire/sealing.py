"""What makes a connection the run's own: proofs of the run's secret, and frames sealed with keys made from it.

The worker speaks first. Its opening (random number and proof) is what tells a worker from a stranger before the
driver spends anything on it. The driver answers with a random number and a proof of its own over both numbers. Each
proof is an HMAC-SHA256 (RFC 2104) over the protocol's name and version, the role and the numbers; the secret never
travels. From secret and both numbers HKDF-SHA256 (RFC 5869) makes a key for each direction, with which every frame is
sealed: AES-256-GCM, the number of the frame as nonce (NIST SP 800-38D, 8.2.1), its length as associated data. So a
frame that was made up, altered, cut, repeated, left out or taken from elsewhere does not open. The worker's first
frame is its proof that it is there now: an opening alone could have been listened to.
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
VERSION = 4
NONCE = 32
TAG = 16  # what sealing adds to a frame

_PROTOCOL = struct.Struct(">8sH")
_INTRODUCTION = struct.Struct(f">{NONCE}s32s")
PROTOCOL_BYTES = _PROTOCOL.size
INTRODUCTION_BYTES = _PROTOCOL.size + _INTRODUCTION.size
LENGTH = struct.Struct(">I")


class WireError(TuningError):
    """The other side does not speak this protocol, does not know the secret, or has gone."""


class Introduction(NamedTuple):
    """How one side begins: its random number, and a proof over it."""

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
    """What each side begins with."""
    return _PROTOCOL.pack(MAGIC, VERSION)


def protocol_version(data: bytes) -> int | None:
    """The version that the other side speaks; None where it is another protocol."""
    magic, version = _PROTOCOL.unpack(data)
    return int(version) if magic == MAGIC else None


def opening(secret: bytes) -> Introduction:
    """A worker's first words."""
    nonce = secrets.token_bytes(NONCE)
    return Introduction(nonce, _proof(secret, b"worker", nonce))


def is_opening(secret: bytes, introduction: Introduction) -> bool:
    """Whether somebody said them who knows the secret; not when."""
    return hmac.compare_digest(introduction.proof, _proof(secret, b"worker", introduction.nonce))


def answer(secret: bytes, worker_nonce: bytes) -> Introduction:
    """The driver's answer to an opening."""
    nonce = secrets.token_bytes(NONCE)
    return Introduction(nonce, _proof(secret, b"driver", worker_nonce, nonce))


def is_answer(secret: bytes, worker_nonce: bytes, introduction: Introduction) -> bool:
    """Whether somebody who knows the secret gave it, now, to this worker."""
    return hmac.compare_digest(introduction.proof, _proof(secret, b"driver", worker_nonce, introduction.nonce))


def keys(secret: bytes, worker_nonce: bytes, driver_nonce: bytes) -> Keys:
    """The keys of a connection."""

    def key(direction: bytes) -> bytes:
        info = protocol_bytes() + direction
        return HKDF(SHA256(), length=32, salt=worker_nonce + driver_nonce, info=info).derive(secret)

    return Keys(key(b"to driver"), key(b"to worker"))


def _proof(secret: bytes, role: bytes, *nonces: bytes) -> bytes:
    # The role keeps one side's proof from being played back as the other's.
    return hmac.digest(secret, b"".join([protocol_bytes(), role, *nonces]), hashlib.sha256)


class Seal:
    """One direction of one connection: seals its frames, or opens them, in their order. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._numbers = itertools.count()

    def close(self, data: bytes) -> bytes:
        """A frame: four bytes of length, big-endian, and the sealed data."""
        header = LENGTH.pack(len(data) + TAG)
        return header + self._cipher.encrypt(self._nonce(), data, header)

    def open(self, header: bytes, sealed: bytes) -> bytes:
        """The data of the next frame.

        Raises:
            WireError: It is not the one that the other side sealed next.
        """
        try:
            return self._cipher.decrypt(self._nonce(), sealed, header)
        except InvalidTag:
            raise WireError("a frame was forged, altered, repeated or lost on its way") from None

    def _nonce(self) -> bytes:
        return next(self._numbers).to_bytes(12, "big")
