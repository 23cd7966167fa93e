"""Checks of a Dask scheduler's address, and of this package on its workers, before any work.

Dask takes the first bytes of whatever answers for the length of a message, and waits for a port that accepts
connections and says nothing. A scheduler greets first; so a plain socket tells it from all else within seconds.
"""

from __future__ import annotations

import socket
import sys
import time
import weakref
from typing import Any, NoReturn
from urllib.parse import urlsplit

from clorg_scale.errors import InputError
from clorg_scale.installation import pip_line

__all__ = ["check_scheduler", "check_workers"]

CONNECT_SECONDS = 4.0
"""Seconds for a connection to be accepted."""

GREETING_SECONDS = 8.0
"""Seconds for the greeting of a scheduler, which may be busy."""

PROBE_SECONDS = 1.5
"""Seconds without a greeting after which it is asked whether it is an HTTP or TLS server, on other connections."""

_LONGEST_GREETING = 1 << 24

_PACKAGE = "clorg_scale"

_START = "start one with 'dask scheduler'"

_checked_workers: weakref.WeakKeyDictionary[Any, set[str]] = weakref.WeakKeyDictionary()
"""Addresses of the workers of each client that have been checked."""


def check_scheduler(address: str) -> None:
    """Check that a Dask scheduler answers at an address; those of protocols other than TCP and TLS pass.

    Parameters
    ----------
    address
        Such as ``"tcp://host:8786"``.

    Raises
    ------
    InputError
        If nothing answers, something else does, or the certificates for ``tls://`` are not configured.
    """
    if address.startswith("tls://"):
        _check_certificates(address)
    if not address.startswith("tcp://"):
        return
    host, port = _host_and_port(address)
    deadline = time.monotonic() + GREETING_SECONDS
    with _connected(address, host, port) as connection:
        greeting = _received(connection, PROBE_SECONDS)
        if greeting is None:
            _refuse_http(address, host, port)
            _refuse_tls(address, host, port)
            greeting = _received(connection, max(0.1, deadline - time.monotonic()))
    if greeting is None:
        raise InputError(
            f"The port at {address} accepts connections, but no Dask scheduler answers there within "
            f"{GREETING_SECONDS:.0f} s; check the address, or {_START}."
        )
    if not greeting:
        raise InputError(f"Whatever listens at {address} closes connections, so it is not a Dask scheduler; {_START}.")
    # A message begins with its length or the number of its parts, in 8 bytes.
    if len(greeting) < 8 or not 0 < int.from_bytes(greeting[:8], "little") < _LONGEST_GREETING:
        raise InputError(f"What answers at {address} is not a Dask scheduler ({greeting[:20]!r}); {_START}.")


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise InputError(f"{address!r} is not an address of a Dask scheduler ({error}).") from None
    if not host or not port:
        raise InputError(f"The address {address!r} lacks a host or a port; write for example tcp://host:8786.")
    return host, port


def _connected(address: str, host: str, port: int) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=CONNECT_SECONDS)
    except (OSError, UnicodeError) as error:
        raise InputError(f"No Dask scheduler answers at {address} ({_reason(error)}); {_START}.") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def _received(connection: socket.socket, seconds: float) -> bytes | None:
    """First bytes that arrive; empty where the connection was closed, None where nothing came in time."""
    connection.settimeout(seconds)
    try:
        return connection.recv(64)
    except TimeoutError:
        return None
    except OSError:
        return b""


def _refuse_http(address: str, host: str, port: int) -> None:
    """Say so if an HTTP server answers."""
    with _connected(address, host, port) as connection:
        try:
            connection.sendall(f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        except OSError:
            return
        answer = _received(connection, PROBE_SECONDS) or b""
    if answer.startswith(b"HTTP/"):
        raise InputError(
            f"An HTTP server answers at {address}, not a Dask scheduler (whose dashboard has a port of its own); "
            "give the address that 'dask scheduler' prints, by default port 8786."
        )


def _refuse_tls(address: str, host: str, port: int) -> None:
    """Say so if a TLS server answers."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent
    with _connected(address, host, port) as connection:
        connection.settimeout(PROBE_SECONDS)
        try:
            context.wrap_socket(connection).close()
        except OSError:
            return
    raise InputError(
        f"The server at {address} expects TLS; use tls:// instead of tcp://, with the certificates in Dask's "
        "configuration (distributed.comm.tls)."
    )


def _check_certificates(address: str) -> None:
    """Refuse TLS without the certificates of Dask's configuration."""
    from distributed import Security

    try:
        context = Security().get_connection_args("client").get("ssl_context")
    except (OSError, ValueError) as error:
        raise InputError(f"The certificates for {address} cannot be read ({_reason(error)}).") from None
    if context is None:
        raise InputError(
            f"{address} needs certificates, and Dask's configuration names none; set distributed.comm.tls.ca-file and "
            "distributed.comm.tls.client.cert and .key (DASK_DISTRIBUTED__COMM__TLS__CA_FILE and so on)."
        )


def check_workers(client: Any) -> None:
    """Check that all workers have this version of the package, and the Python and NumPy of this process.

    Workers that were checked before are not asked again.

    Parameters
    ----------
    client
        `distributed.Client`.

    Raises
    ------
    InputError
        If some worker lacks the package or has another version; says how many and which comes first.
    """
    present = set(client.nthreads())
    if present <= _checked_workers.get(client, set()):
        return
    try:
        found = client.get_versions(packages=["numpy"])["workers"]
        # By an expression: a function of this package could not be read where the package is missing.
        imported = client.run(eval, f"__import__({_PACKAGE!r}).__version__", on_error="return")  # noqa: S307
    except OSError:  # a worker has gone meanwhile; the next stage asks again
        return
    answered = {
        address: {**found.get(address, {}).get("packages", {}), _PACKAGE: version}
        for address, version in imported.items()
        if isinstance(version, (str, ImportError, AttributeError))
    }
    refuse_other_versions(answered)
    _checked_workers[client] = set(answered)


def refuse_other_versions(workers: dict[str, dict[str, Any]]) -> None:
    """Compare the versions on workers with those of this process.

    Parameters
    ----------
    workers
        By address: versions of ``"clorg_scale"`` (or the error of importing it), ``"python"`` (``"3.11.9.final.0"``)
        and ``"numpy"``; what is not known is not compared.

    Raises
    ------
    InputError
        As `check_workers`.
    """
    import numpy

    from clorg_scale.version import __version__

    lacking = [address for address, versions in workers.items() if not isinstance(versions[_PACKAGE], str)]
    if lacking:
        problem = " ".join(str(workers[lacking[0]][_PACKAGE]).split())
        _refuse(lacking, workers, f"cannot import clorg-scale ({problem}); install it there: {pip_line('dask')}")
    ours = {
        _PACKAGE: ("clorg-scale", __version__),
        "python": ("Python", f"{sys.version_info.major}.{sys.version_info.minor}"),
        "numpy": ("NumPy", ".".join(numpy.__version__.split(".")[:2])),
    }
    for package, (name, version) in ours.items():
        other = [
            address
            for address, versions in workers.items()
            if versions.get(package) is not None and not f"{versions[package]}.".startswith(f"{version}.")
        ]
        if other:
            theirs = workers[other[0]][package].removesuffix(".final.0")
            _refuse(other, workers, f"have {name} {theirs}, and this process {version}; install the same on all")


def _refuse(addresses: list[str], workers: dict[str, Any], what: str) -> NoReturn:
    raise InputError(f"{len(addresses)} of the {len(workers)} Dask workers (the first is {addresses[0]}) {what}.")
