"""Addresses where no Dask scheduler is, and workers that cannot do the work: one sentence, soon."""

import http.server
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")

from command_line import assert_one_sentence, run

from clorg_scale import scheduler
from clorg_scale.distributed import connect, ordered_map
from clorg_scale.errors import InputError

pytestmark = pytest.mark.slow


@pytest.fixture
def files(tmp_path):
    labels = np.arange(60) % 3
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(60, 4)) + labels[:, None])
    np.save(tmp_path / "y.npy", labels)
    return tmp_path / "X.npy", "--labels", tmp_path / "y.npy"


@contextmanager
def listening(behavior):
    """A server of one socket; `behavior` gets each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    behavior(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


kept = []  # connections that stay open


def greet(text):
    def behavior(connection):
        connection.sendall(text)
        kept.append(connection)

    return behavior


@contextmanager
def http_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        server.RequestHandlerClass.log_message = lambda *_: None
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def dashboard():
    """The HTTP server of a scheduler, which is there without Bokeh, too."""
    with cluster(n_workers=0) as started:
        yield f"tcp://127.0.0.1:{started.scheduler.http_server.port}"


@contextmanager
def tls_server(tmp_path):
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=here", "-days", "2"]
    command = [*new, "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    def behavior(connection):
        try:
            kept.append(context.wrap_socket(connection, server_side=True))
        except ssl.SSLError:
            kept.append(connection)

    with listening(lambda connection: threading.Thread(target=behavior, args=(connection,), daemon=True).start()) as at:
        yield at


def cluster(**options):
    return distributed.LocalCluster(
        **{"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": "CRITICAL"} | options
    )


def test_a_port_that_never_answers_on_the_command_line(files, tmp_path):
    with listening(kept.append) as address:  # without an end to the waiting, the timeout of the tests is reached
        result = run("rld", *files, "--dask", address, "--out", tmp_path / "rld.json")
    assert_one_sentence(result, "accepts connections, but no Dask scheduler answers there within 8 s")
    assert not (tmp_path / "rld.json").exists()


@pytest.mark.parametrize("server", [http_server, dashboard])
def test_an_http_server(server):
    with server() as address, pytest.raises(InputError, match=r"An HTTP server answers at .*its own"), connect(address):
        pass


@pytest.mark.parametrize(
    ("behavior", "sentence"),
    [
        (greet(b"SSH-2.0-OpenSSH_9.6\r\n"), r"is not a Dask scheduler \(b'SSH-2.0"),
        (greet(b"220"), r"is not a Dask scheduler \(b'220"),
        (socket.socket.close, "closes connections, so it is not a Dask scheduler"),
    ],
)
def test_servers_of_other_kinds(behavior, sentence):
    with listening(behavior) as address, pytest.raises(InputError, match=sentence), connect(address):
        pass


def test_a_server_that_expects_tls(tmp_path):
    with tls_server(tmp_path) as address, pytest.raises(InputError, match="expects TLS; use tls://"):
        scheduler.check_scheduler(address)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("tls://127.0.0.1:8786", "needs certificates, and Dask's configuration names none"),
        ("tcp://127.0.0.1", "lacks a host or a port"),
        ("tcp://127.0.0.1:123456", "is not an address of a Dask scheduler"),
        ("gopher://127.0.0.1:70", "No Dask scheduler answers"),
    ],
)
def test_addresses_that_are_none(address, sentence):
    with pytest.raises(InputError, match=sentence), connect(address):
        pass


def test_certificates_that_cannot_be_read(tmp_path):
    import dask

    missing = {f"distributed.comm.tls.{key}": str(tmp_path / "none.pem") for key in ("ca-file", "client.cert")}
    with dask.config.set(missing), pytest.raises(InputError, match=r"certificates for tls://.* cannot be read"):
        scheduler.check_scheduler("tls://127.0.0.1:8786")


@contextmanager
def worker(address, path):
    """A real worker process that looks for packages in a folder first."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nworkers", "1", "--nthreads", "1"]
    process = subprocess.Popen(
        [*command, "--no-dashboard", "--no-nanny"],
        env=os.environ | {"PYTHONPATH": str(path), "PYTHONSAFEPATH": "1"},
        cwd=path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("raise ImportError('No module named clorg_scale')", "cannot import clorg-scale (No module named clorg_scale)"),
        ("__version__ = '0.0.7'", "have clorg-scale 0.0.7, and this process"),
    ],
)
def test_workers_without_this_version_of_the_package(files, tmp_path, source, sentence):
    (tmp_path / "packages" / "clorg_scale").mkdir(parents=True)
    (tmp_path / "packages" / "clorg_scale" / "__init__.py").write_text(source)
    with cluster(n_workers=0) as started, worker(started.scheduler_address, tmp_path / "packages"):
        result = run("rld", *files, "--dask", started.scheduler_address) if "raise" in source else None
        with distributed.Client(started) as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(InputError, match=re.escape(sentence)):
                ordered_map(client)
    if result:
        assert_one_sentence(result, "1 of the 1 Dask workers (the first is tcp://", sentence)


def test_versions_of_python_and_numpy():
    with cluster(n_workers=1) as started, connect(started.scheduler_address) as client:
        found = client.get_versions(packages=["numpy"])["workers"]
        scheduler.check_workers(client)
    ((address, versions),) = found.items()
    here = versions["packages"] | {"clorg_scale": __import__("clorg_scale").__version__}
    scheduler.refuse_other_versions({address: here})
    assert here["python"].startswith("3.")
    for package, version, sentence in (
        ("numpy", "1.26.4", "have NumPy 1.26.4"),
        ("python", "3.1.0.final.0", "have Python 3.1.0, and this process 3"),
    ):
        with pytest.raises(InputError, match=f"1 of the 2 Dask workers .the first is other. {sentence}"):
            scheduler.refuse_other_versions({address: here, "other": here | {package: version}})
