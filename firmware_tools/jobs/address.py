"""Where a cluster is, and how one talks to it."""

import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from firmware_tools.errors import UserError

CERTIFICATES = "KENYON_CERTIFICATES"
"""Environment variable: a folder with the certificate and the key that all of a cluster have."""
PORT = 8786
SECONDS = 5
"""In which somebody must answer."""
DEFAULT = f"tcp://127.0.0.1:{PORT}"


@dataclass(frozen=True)
class Address:
    """Where a scheduler listens.

    Whoever reaches a cluster can have it run anything. So without TLS only processes of this
    machine do, and with TLS only those that have the key.

    Attributes
    ----------
    scheme : str
        tcp, or tls.
    host : str
    port : int
    """

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The address of a text.

        Raises
        ------
        UserError
            It is none, or one of another machine without TLS.
        """
        try:
            parts = urlsplit(text)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in ("tcp", "tls") or not host or port is None:
            raise UserError(f"address must be tcp://HOST:PORT or tls://HOST:PORT, not {text}")
        if scheme == "tcp" and not _is_loopback(host):
            raise UserError(
                f"{text}: address must be tls://{host}:{port}, because without TLS only "
                "127.0.0.1 is safe (docs/cluster.md)"
            )
        return cls(scheme, host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def own_host(self) -> str | None:
        """Where a worker listens: on the loopback too, or on the address that leads there."""
        return self.host if self.scheme == "tcp" else None

    def check(self) -> None:
        """Refuse an address where no scheduler listens, or one that does not take our key.

        Schedulers speak first: dask itself would wait for ever.

        Raises
        ------
        UserError
            It is so.
        """
        security = self.security()
        try:
            plain = socket.create_connection((self.host, self.port), timeout=SECONDS)
        except OSError as error:
            raise UserError(
                f"{self}: cluster cannot be reached ({error}); kenyon cluster start starts one"
            ) from None
        with plain:
            try:
                talk: socket.socket = plain
                if security is not None:
                    context: ssl.SSLContext = security.get_connection_args("client")["ssl_context"]
                    talk = context.wrap_socket(plain)
                with talk:
                    if not talk.recv(8):
                        raise ConnectionError("it said nothing")
            except OSError as error:
                raise UserError(f"{self}: must be a cluster's scheduler ({error})") from None

    def security(self) -> Any:
        """Certificate and key as dask wants them; None without TLS.

        Raises
        ------
        UserError
            There are none.
        """
        if self.scheme == "tcp":
            return None
        from distributed.security import Security

        if CERTIFICATES not in os.environ:
            raise UserError(f"{self}: {CERTIFICATES} must name the folder of cert.pem and key.pem")
        cert, key = (Path(os.environ[CERTIFICATES]) / name for name in ("cert.pem", "key.pem"))
        for path in (cert, key):
            if not path.is_file():
                raise UserError(f"{path}: must exist (docs/cluster.md)")
        files = {f"tls_{who}_cert": str(cert) for who in ("client", "scheduler", "worker")}
        files |= {f"tls_{who}_key": str(key) for who in ("client", "scheduler", "worker")}
        return Security(tls_ca_file=str(cert), require_encryption=True, **files)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
