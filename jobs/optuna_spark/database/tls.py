"""The settings for TLS to MySQL, with the names that MySQL's own clients use. A setting is kept, or it is an error."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from optuna_spark.errors import TlsError

# From weak to strong. MySQL has a fifth mode, PREFERRED: it falls back to clear text, so nobody can rely on it.
# https://dev.mysql.com/doc/refman/8.4/en/connection-options.html#option_general_ssl-mode
MODES = ("DISABLED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
KEYS = (
    "ssl_mode (DISABLED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY), ssl_ca, ssl_cert and ssl_key (absolute paths of PEM"
    " files)"
)


@dataclass(frozen=True)
class TlsSettings:
    """Whether and how a connection to MySQL uses TLS.

    Attributes:
        ssl_mode: DISABLED: no TLS. REQUIRED: TLS, with any server. VERIFY_CA: TLS, and the server has a certificate
            that `ssl_ca` signed. VERIFY_IDENTITY: as VERIFY_CA, and the certificate is for the host's name. None: the
            user asked for nothing, so PyMySQL does as it does by default.
        ssl_ca: File with the certificates of the authorities that may sign the server's.
        ssl_cert: File with the client's certificate, for accounts that require one.
        ssl_key: File with the key of `ssl_cert`, without a passphrase.

    Raises:
        TlsError: The values do not fit each other.
    """

    ssl_mode: str | None = None
    ssl_ca: str | None = None
    ssl_cert: str | None = None
    ssl_key: str | None = None

    def __post_init__(self) -> None:
        if self.ssl_mode is not None and self.ssl_mode not in MODES:
            hint = ": PREFERRED falls back to clear text without a word" if self.ssl_mode == "PREFERRED" else ""
            raise TlsError(f"ssl_mode must be {', '.join(MODES[:-1])} or {MODES[-1]}, got {self.ssl_mode!r}{hint}")
        for name, path in self.paths().items():
            if not isinstance(path, str) or not path.startswith("/"):
                raise TlsError(f"{name} must be the absolute path of a PEM file, got {path!r}")
        if self.paths() and not self.asked:
            raise TlsError(
                f"{' and '.join(self.paths())} need ssl_mode REQUIRED, VERIFY_CA or VERIFY_IDENTITY, got"
                f" {self.ssl_mode or 'none'}: add it; VERIFY_IDENTITY is the strongest"
            )
        if self.verifies != (self.ssl_ca is not None):
            raise TlsError(
                f"ssl_ca and ssl_mode VERIFY_CA or VERIFY_IDENTITY belong together, got ssl_mode {self.ssl_mode}"
                f" {'without' if self.verifies else 'with'} ssl_ca: nothing else checks the server's certificate"
            )
        if (self.ssl_cert is None) != (self.ssl_key is None):
            only = "ssl_cert" if self.ssl_cert else "ssl_key"
            raise TlsError(f"ssl_cert and ssl_key belong together, got only {only}")

    @classmethod
    def from_keys(cls, given: Mapping[str, Any]) -> TlsSettings:
        """Pick the settings from other entries, such as a connection's extra or a URL's query.

        Raises:
            TlsError: A key that looks like one for TLS is unknown, or its value is wrong.
        """
        names = [field.name for field in fields(cls)]
        meant = {key: value for key, value in given.items() if "ssl" in key.lower() or "tls" in key.lower()}
        if unknown := sorted(set(meant) - set(names)):
            raise TlsError(f"{', '.join(map(repr, unknown))} is no key for TLS to MySQL: these are {KEYS}")
        if isinstance(meant.get("ssl_mode"), str):
            meant["ssl_mode"] = meant["ssl_mode"].upper()
        return cls(**meant)

    @property
    def asked(self) -> bool:
        """Whether the connection must use TLS."""
        return self.ssl_mode not in (None, "DISABLED")

    @property
    def verifies(self) -> bool:
        """Whether the server's certificate is checked."""
        return self.ssl_mode in ("VERIFY_CA", "VERIFY_IDENTITY")

    @property
    def strength(self) -> int:
        """Rank of the mode: a greater number is safer."""
        return MODES.index(self.ssl_mode or "DISABLED")

    def keys(self) -> dict[str, str]:
        """The settings that were given, as `from_keys` takes them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def paths(self) -> dict[str, str]:
        """The files that the settings name, by key."""
        return {name: value for name, value in self.keys().items() if name != "ssl_mode"}

    def context(self) -> ssl.SSLContext:
        """The SSL context for a connection.

        Raises:
            TlsError: A file cannot be read here, or does not hold what it should.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = self.ssl_mode == "VERIFY_IDENTITY"
        context.verify_mode = ssl.CERT_REQUIRED if self.verifies else ssl.CERT_NONE
        # Python 3.13 sets this flag by default. The certificates that MySQL makes for itself do not pass it.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        for name, path in self.paths().items():
            _check_readable(name, path)
        try:
            if self.ssl_ca:
                context.load_verify_locations(self.ssl_ca)
            if self.ssl_cert:
                # An empty password, because without one OpenSSL would ask at the terminal for a key's passphrase.
                context.load_cert_chain(self.ssl_cert, self.ssl_key, password="")
        except (OSError, ValueError) as error:
            raise TlsError(
                f"{', '.join(f'{name} {path}' for name, path in self.paths().items())}: the PEM files hold no"
                " certificate, or a key that needs a passphrase or does not belong to it"
                f" ({getattr(error, 'reason', None) or type(error).__name__})"
            ) from None
        return context


def _check_readable(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            return
    except OSError as error:
        raise TlsError(
            f"{name} {path} cannot be read on {socket.gethostname()} ({error.strerror}): it must be there on every"
            " machine that connects to MySQL"
        ) from None
