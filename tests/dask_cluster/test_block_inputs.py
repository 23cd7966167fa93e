"""Workers read embeddings themselves, and search partitions of points; nothing that grows with them passes here."""

import os
import pickle
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest

distributed = pytest.importorskip("distributed")

import clorg_scale as cs
from clorg_scale.arrays import local_copies
from clorg_scale.arrays.mapped import location_or_array
from clorg_scale.distributed import connect, ordered_map
from clorg_scale.errors import InputError
from clorg_scale.kept_results import map_keeping, with_kept
from clorg_scale.neighbors import memory
from clorg_scale.on_workers import _call
from clorg_scale.store.block_sources import block_source

pytestmark = pytest.mark.slow


def blobs(n=5_000, d=24, n_classes=5, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, n_classes, n)
    return (rng.standard_normal((n_classes, d))[codes] + rng.standard_normal((n, d))).astype(np.float32), codes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Embeddings, labels, and the folder they are stored in, in all formats."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    folder = tmp_path_factory.mktemp("stored")
    X, codes = blobs()
    np.save(folder / "X.npy", X)
    zarr.create_array(folder / "X.zarr", data=X, chunks=(700, 24))
    (folder / "X.parquet").mkdir()
    for part in range(2):
        rows = slice(2_500 * part, 2_500 * (part + 1))
        table = pa.table({"embeddings": list(X[rows]), "label": codes[rows]})
        pq.write_table(table, folder / "X.parquet" / f"{part}.parquet", row_group_size=1_000)
    return X, codes, folder


def stored_as(kind, folder):
    if kind == "dask":
        import dask.array as da

        # Blocks that workers read: each is a task of its own, of whole rows only after a rechunk.
        return da.from_array(np.load(folder / "X.npy", mmap_mode="r"), chunks=(900, 13))
    if kind == "zarr array":
        import zarr

        return zarr.open_array(folder / "X.zarr", mode="r")
    return f"file://{folder}/X.{kind}"


@pytest.fixture(scope="module")
def alone(data):
    X, codes, _ = data
    return cs.rld(X, codes, method="exact"), cs.knn(X, 10, index="flat")


@pytest.mark.parametrize("kind", ["dask", "zarr array", "npy", "zarr", "parquet"])
def test_the_numbers_are_those_of_one_process(client, data, alone, kind):
    X, codes, folder = data
    together = cs.rld(stored_as(kind, folder), codes, method="exact", client=client)
    np.testing.assert_allclose(together.values, alone[0].values, rtol=1e-6)
    assert together.n_points == len(X)
    if kind in ("dask", "npy"):
        table = cs.knn(stored_as(kind, folder), 10, index="flat", client=client)
        np.testing.assert_array_equal(table.indices, alone[1].indices)


def test_sampled_rld_is_the_same(client, data):
    X, codes, folder = data
    one = cs.rld(X, codes, method="sampled", seed=3)
    together = cs.rld(stored_as("zarr", folder), codes, method="sampled", seed=3, client=client)
    np.testing.assert_allclose(together.values, one.values, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(together.stderr, one.stderr, rtol=1e-4, atol=1e-7)


def test_nothing_of_the_size_of_the_embeddings_leaves_the_workers(client, data, monkeypatch):
    """Neither does this process open the file, nor are more bytes sent or received than labels and a table take."""
    X, _, folder = data

    def refuse(source):
        raise AssertionError("this process has read the embeddings")

    monkeypatch.setattr(local_copies, "_whole", refuse)
    sent = []
    from distributed.comm.tcp import TCP

    write = TCP.write

    async def counted(self, msg, *args, **kwargs):
        n_bytes = await write(self, msg, *args, **kwargs)
        sent.append(n_bytes)
        return n_bytes

    monkeypatch.setattr(TCP, "write", counted)
    table = cs.knn(stored_as("npy", folder), 3, index="flat", client=client)
    # The scheduler lives in this process, too: whatever passes through either is counted.
    passed = sum(filter(None, sent))
    assert passed > table.indices.nbytes + table.distances.nbytes
    assert passed < 0.9 * X.nbytes


def test_copies_are_removed(client, data):
    _, _codes, folder = data
    source = block_source(f"file://{folder}/X.npy", has_workers=True)
    copy = local_copies.local_copy(source)
    path = local_copies._folder() / source.token
    assert path.stat().st_size == copy.nbytes
    arrived = pickle.loads(pickle.dumps(location_or_array(copy[5:, 2:])))
    np.testing.assert_array_equal(arrived, copy[5:, 2:])
    assert len(pickle.dumps(location_or_array(copy))) < 2_000
    del copy
    assert path.exists()  # another array is in it
    del arrived
    assert not path.exists()


def test_copies_of_killed_processes_are_removed_and_half_ones_written_again(data):
    X, _, folder = data
    stray = local_copies._folder() / "0123456789abcdef"
    stray.write_bytes(b"left")
    source = block_source(f"file://{folder}/X.npy", has_workers=True)
    half = local_copies._folder() / source.token
    half.write_bytes(bytes(1_000))
    np.testing.assert_array_equal(local_copies.local_copy(source), X)
    assert not stray.exists()


def test_the_worker_that_leads_may_die(data, alone):
    _, codes, folder = data
    with connect("local") as own:
        killed = []

        def strike():
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not killed:
                for address, tasks in own.processing().items():
                    if any(str(task).startswith("_call") for task in tasks):
                        time.sleep(0.3)
                        pid = own.run(os.getpid, workers=[address]).get(address)
                        if pid:
                            os.kill(pid, signal.SIGKILL)
                            killed.append(pid)
                            return
                time.sleep(0.02)

        killer = threading.Thread(target=strike)
        killer.start()
        together = cs.rld(f"file://{folder}/X.npy", codes, method="exact", client=own)
        killer.join()
    np.testing.assert_allclose(together.values, alone[0].values, rtol=1e-6)
    assert killed


def test_errors_and_warnings_of_the_worker_are_the_users(client, data):
    X, codes, folder = data
    bad = X.copy()
    bad[7, 3] = np.nan
    np.save(folder / "bad.npy", bad)
    with pytest.raises(InputError, match=r"NaN or infinite values in 1 of 5000 rows \(row 7\)"):
        cs.rld(f"file://{folder}/bad.npy", codes, client=client)
    with pytest.raises(InputError, match=r"nowhere\.npy does not exist"):
        cs.knn(f"file://{folder}/nowhere.npy", 3, client=client)
    with pytest.raises(InputError, match="has an unknown format"):
        cs.knn(f"file://{folder}/X.npz", 3, client=client)
    with pytest.warns(UserWarning, match="labels are -1"):
        cs.rld(f"file://{folder}/X.npy", codes - 1, method="exact", client=client)


def test_addresses_need_no_cluster(data, alone):
    import fsspec

    folder = data[2]
    with fsspec.open("memory://inputs/X.npy", "wb") as file:
        file.write((folder / "X.npy").read_bytes())
    np.testing.assert_array_equal(cs.knn("memory://inputs/X.npy", 10, index="flat").indices, alone[1].indices)


def set_variables(settings):
    os.environ.update(settings)


def test_a_server_of_objects(client, data, alone, monkeypatch):
    """Amazon's protocol, spoken by a real server on this machine."""
    server = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    _, codes, folder = data
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    try:
        host, port = running.get_host_and_port()
        settings = {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        client.run(set_variables, settings)
        store = s3fs.S3FileSystem()
        store.mkdir("bucket")
        store.put(str(folder / "X.npy"), "bucket/X.npy")
        store.put(str(folder / "X.zarr"), "bucket/X.zarr", recursive=True)
        for name in ("X.npy", "X.zarr"):
            together = cs.rld(f"s3://bucket/{name}", codes, method="exact", client=client)
            np.testing.assert_allclose(together.values, alone[0].values, rtol=1e-6)
    finally:
        running.stop()


def test_partitions_are_the_same_on_workers(client, data, monkeypatch):
    monkeypatch.setattr(memory, "PARTITION_POINTS", 1_500)
    monkeypatch.setattr(memory, "LEAST_PARTITION", 400)
    _, _, folder = data
    X = np.load(folder / "X.npy", mmap_mode="r")
    one = cs.knn(X, 10, index="partitioned")
    together = cs.knn(X, 10, index="partitioned", client=client)
    assert together.index == one.index
    assert "partitions=1," not in one.index
    assert together.measured_recall == one.measured_recall
    np.testing.assert_array_equal(together.indices, one.indices)
    np.testing.assert_array_equal(together.distances, one.distances)


def wait_a_little(folder, number):
    (folder / str(number)).touch()
    time.sleep(0.05)


def endless(embeddings, folder, client):
    for _ in ordered_map(client)(partial(wait_a_little, folder), range(100_000)):
        pass


def test_a_call_ends_with_the_process_that_made_it(client, data, tmp_path):
    """An interrupted client leaves in the middle; the worker that leads stops, and so do the others."""
    source = block_source(f"file://{data[2]}/X.npy", has_workers=True)
    leaving = distributed.Client(client.scheduler.address, set_as_default=False)
    call = leaving.submit(_call, pickle.dumps((endless, (tmp_path,), {})), source, "topic", pure=False)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 10 and time.monotonic() < deadline:
        time.sleep(0.05)
    del call
    leaving.close()
    time.sleep(5)
    done = len(list(tmp_path.iterdir()))
    assert done >= 10
    time.sleep(2)
    assert len(list(tmp_path.iterdir())) == done
    assert not any(client.processing().values())


def number_and_array(chunk):
    (number,) = chunk
    return number, np.full(1_000, float(number))


def number_and_sum(pair):
    return pair[0], pair[1].sum()


def test_what_workers_keep_is_made_again():
    with connect("local") as own:
        mapper = ordered_map(own)
        kept = [handle for _, handle in map_keeping(mapper, number_and_array, zip(range(20)))]
        os.kill(next(iter(own.run(os.getpid).values())), signal.SIGKILL)
        found = with_kept(mapper, number_and_sum, enumerate(kept))
        assert list(found) == [(number, 1_000.0 * number) for number in range(20)]
