"""Files that take data from other files of the machine: refused with the name of the other, read on request."""

import os

import numpy as np
import pytest
from command_line import assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.store import load_labels

h5py = pytest.importorskip("h5py")

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 3


@pytest.fixture
def secret(tmp_path):
    """A file elsewhere, in the formats that can be pointed to."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    with h5py.File(folder / "secret.h5", "w") as file:
        file["embeddings"], file["group/classes"] = X, Y
    X.tofile(folder / "secret.bin")
    np.save(folder / "secret.npy", X)
    return folder


def external_link(file, secret):
    file["embeddings"] = h5py.ExternalLink(str(secret / "secret.h5"), "embeddings")


def soft_link_through_an_external_one(file, secret):
    file["door"] = h5py.ExternalLink(str(secret / "secret.h5"), "/")
    file["embeddings"] = h5py.SoftLink("/door/embeddings")


def link_to_a_link(file, secret):
    with h5py.File(secret / "between.h5", "w") as between:
        between["x"] = h5py.ExternalLink("secret.h5", "embeddings")
    file["embeddings"] = h5py.ExternalLink(str(secret / "between.h5"), "x")


def external_storage(file, secret):
    file.create_dataset("embeddings", X.shape, "f4", external=[(str(secret / "secret.bin"), 0, X.nbytes)])


def virtual(file, secret):
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), "embeddings", X.shape)
    file.create_virtual_dataset("embeddings", layout)


def virtual_of_stored_elsewhere(file, secret):
    external_storage(file, secret)
    file.move("embeddings", "raw")
    layout = h5py.VirtualLayout(X.shape, "f4")
    layout[:] = h5py.VirtualSource(".", "raw", X.shape)
    file.create_virtual_dataset("embeddings", layout)


WAYS = [
    external_link,
    soft_link_through_an_external_one,
    link_to_a_link,
    external_storage,
    virtual,
    virtual_of_stored_elsewhere,
]


@pytest.mark.parametrize("way", WAYS)
def test_hdf5_that_reads_another_file(tmp_path, secret, way):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        way(file, secret)
        file["labels"] = Y
    with pytest.raises(InputError, match=r"lies in another file, .*(secret|between)\.(h5|bin).*allow_external=True"):
        cs.load_embeddings(f"{path}:embeddings")
    assert np.array_equal(cs.load_embeddings(f"{path}:embeddings", allow_external=True).embeddings, X)
    if way is not external_link:
        return
    for command in ("rld", "knn", "communities"):
        assert_one_sentence(run(command, path), "x.h5", str(secret), "--allow-external")
    assert_one_sentence(run("analyze", path, "--out", tmp_path / "out"), "--allow-external")
    assert_one_sentence(run("study", "temperature", path, "--out", tmp_path / "out"), "--allow-external")
    assert not (tmp_path / "out").exists()
    assert run("knn", path, "--allow-external").code == 0


def test_labels_that_lie_elsewhere(tmp_path, secret):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["embeddings"] = X
        file["labels"] = h5py.ExternalLink(str(secret / "secret.h5"), "group/classes")
    with pytest.raises(InputError, match=r"'labels' in .* lies in another file, .*secret.h5"):
        cs.load_embeddings(path)
    with pytest.raises(InputError, match=r"secret\.h5"):
        load_labels(path)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(InputError, match=r"secret\.h5"):
        cs.load_embeddings(tmp_path / "x.npy", labels=path)
    for stored in (cs.load_embeddings(path, allow_external=True).labels, load_labels(path, allow_external=True)):
        assert stored.tolist() == Y.tolist()


def test_categories_out_of_the_password_file(tmp_path):
    with h5py.File(tmp_path / "x.h5ad", "w") as file:
        file["X"] = X
        column = file.create_group("obs/labels")
        column.attrs["encoding-type"] = "categorical"
        column["codes"] = Y.astype(np.int8)
        column.create_dataset("categories", (3,), "S8", external=[("/etc/passwd", 0, 24)])
    outcome = run("rld", tmp_path / "x.h5ad")
    assert_one_sentence(outcome, "/etc/passwd", "--allow-external")
    assert "root:" not in outcome.err


def test_links_that_are_not_chosen_do_no_harm(tmp_path, secret):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["vectors"], file["labels"] = X, Y
        file["raw"] = h5py.ExternalLink(str(secret / "secret.h5"), "embeddings")
        file["gone"] = h5py.ExternalLink("nowhere.h5", "embeddings")
        file["same"] = h5py.SoftLink("/vectors/nothing")
        file["loop"] = h5py.SoftLink("/loop")
    assert np.array_equal(cs.load_embeddings(tmp_path / "x.h5").embeddings, X)
    with pytest.raises(InputError, match=r"nowhere\.h5, which does not exist"):
        cs.load_embeddings(f"{tmp_path}/x.h5:gone", allow_external=True)


def test_virtual_data_sets_within_one_file_are_its_own(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["parts/raw"] = X
        layout = h5py.VirtualLayout(X.shape, "f4")
        layout[:10] = h5py.VirtualSource(".", "parts/raw", X.shape)[:10]
        layout[10:] = h5py.VirtualSource(str(tmp_path / "x.h5"), "parts/raw", X.shape)[10:]
        file.create_virtual_dataset("embeddings", layout)
    assert np.array_equal(cs.load_embeddings(tmp_path / "x.h5").embeddings, X)


def test_external_links_to_what_never_ends(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    for number, target in enumerate(("pipe.h5", "/dev/zero")):
        path = tmp_path / f"{number}.h5"
        with h5py.File(path, "w") as file:
            file["embeddings"] = h5py.ExternalLink(target, "x")
        with pytest.raises(InputError, match="not a regular file"):
            cs.load_embeddings(path, allow_external=True)
        path.unlink()
        with h5py.File(path, "w") as file:
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_external(str(target).encode(), 0, X.nbytes)
            h5py.h5d.create(file.id, b"embeddings", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(X.shape), properties)
        with pytest.raises(InputError, match=r"not a regular file|does not exist"):
            cs.load_embeddings(path, allow_external=True)


# ---- folders


def zarr_store(path):
    zarr = pytest.importorskip("zarr")
    root = zarr.open_group(path, mode="w")
    root.create_array("embeddings", data=X, chunks=(10, 4))
    root.create_array("labels", data=Y + 1, chunks=(10,))
    return path


@pytest.mark.parametrize("part", ["embeddings/c/1/0", "embeddings/zarr.json", "labels/c", "labels", "zarr.json"])
def test_zarr_stores_with_links_that_lead_out(tmp_path, part):
    store = zarr_store(tmp_path / "x.zarr")
    (store / part).rename(tmp_path / "moved")
    (store / part).symlink_to(tmp_path / "moved")
    with pytest.raises(
        InputError, match=rf"{part} in .*x.zarr is a link to .*moved, outside the store.*allow_external"
    ):
        cs.load_embeddings(store)
    assert_one_sentence(run("rld", store), part, "moved", "--allow-external")
    stored = cs.load_embeddings(store, allow_external=True)
    assert np.array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == (Y + 1).tolist()
    assert run("rld", store, "--allow-external").code == 0


def test_zarr_stores_with_links_that_stay_within(tmp_path):
    store = zarr_store(tmp_path / "x.zarr")
    (store / "embeddings" / "c").rename(store / "data")
    (store / "embeddings" / "c").symlink_to("../data")
    (tmp_path / "named.zarr").symlink_to(store)
    assert np.array_equal(cs.load_embeddings(tmp_path / "named.zarr").embeddings, X)


def test_stores_of_this_package_whose_arrays_lie_elsewhere(tmp_path, secret):
    cs.save_embeddings(tmp_path / "store", X, Y)
    (tmp_path / "store" / "embeddings.npy").unlink()
    (tmp_path / "store" / "embeddings.npy").symlink_to(secret / "secret.npy")
    with pytest.raises(InputError, match=r"is a link to .*secret.npy, outside the store"):
        cs.load_embeddings(tmp_path / "store")
    assert np.array_equal(cs.load_embeddings(tmp_path / "store", allow_external=True).embeddings, X)
