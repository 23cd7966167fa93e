"""The folder of embeddings: saved and loaded, replaced, refused, damaged."""

import numpy as np
import pytest
from stored_arrays import X, Y, check, names, run_python

from clorg_scale.arrays import row_slices
from clorg_scale.errors import InputError
from clorg_scale.store import load_embeddings, load_labels, save, save_embeddings


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2", "u1", "?"])
def test_save_and_load_keep_the_type(tmp_path, dtype):
    data = np.asfortranarray((X * 10).astype(dtype))[::2]
    metadata = {"model": "resnet18", "epochs": (1, 2), "accuracy": np.float32(0.5), "ids": np.arange(2)}
    save_embeddings(tmp_path / "new" / "store", data, Y[::2], metadata)
    stored = load_embeddings(tmp_path / "new" / "store")
    check(stored, data, Y[::2])
    assert isinstance(stored.embeddings, np.memmap)
    assert not stored.embeddings.flags.writeable
    assert stored.metadata == {"model": "resnet18", "epochs": [1, 2], "accuracy": 0.5, "ids": [0, 1]}
    assert names(tmp_path / "new" / "store") == ["embeddings.npy", "labels.npy", "metadata.json"]
    assert np.array_equal(np.load(tmp_path / "new" / "store" / "embeddings.npy"), data)


def test_save_without_labels_with_strings_and_with_one_class(tmp_path):
    save_embeddings(tmp_path / "a", X)
    check(load_embeddings(tmp_path / "a"), labels=None)
    words = np.array(["Ärmel", "b"], object)[Y % 2]
    save_embeddings(tmp_path / "b", X, words)
    check(load_embeddings(tmp_path / "b"), labels=words)
    save_embeddings(tmp_path / "c", X, np.zeros(50))
    assert load_labels(tmp_path / "c").tolist() == [0] * 50


def test_save_takes_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(save, "row_slices", lambda n, d, itemsize: row_slices(n, d, block_bytes=100))
    save_embeddings(tmp_path / "store", X, Y)
    check(load_embeddings(tmp_path / "store"))


def test_replacing_a_store_keeps_its_memory_maps_alive(tmp_path):
    save_embeddings(tmp_path / "store", X, Y)
    old = load_embeddings(tmp_path / "store")
    save_embeddings(tmp_path / "store", old.embeddings[:40], None, {"version": 2})
    check(old)
    new = load_embeddings(tmp_path / "store")
    check(new, X[:40], None)
    assert new.metadata == {"version": 2}
    assert len(names(tmp_path / "store")) == 2


def test_save_refuses_what_is_not_a_store(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    with pytest.raises(InputError, match=r"not empty and not a store of embeddings \('chapter1.tex' lies in it\)"):
        save_embeddings(tmp_path / "thesis", X)
    assert names(tmp_path / "thesis") == ["chapter1.tex"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="is a file"):
        save_embeddings(tmp_path / "file", X)
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "metadata.json").write_text('{"format": "something else"}')
    with pytest.raises(InputError, match="does not belong to a store"):
        save_embeddings(tmp_path / "foreign", X)


def test_save_that_fails_leaves_the_old_store_or_nothing(tmp_path):
    for wrong, sentence in (((X, Y[:9]), "There are 9 labels"), ((X, Y, {"a": {1j}}), "cannot be stored as JSON")):
        with pytest.raises(InputError, match=sentence):
            save_embeddings(tmp_path / "store", *wrong)
        assert names(tmp_path) == []
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        save_embeddings(tmp_path / "store", X, Y, {"loss": float("nan")})


def test_save_on_a_full_disk_leaves_the_old_store(tmp_path, small_disk):
    full = run_python(
        """
        import os, sys
        import numpy as np
        from clorg_scale.errors import InputError
        from clorg_scale.store import load_embeddings, save_embeddings
        store = sys.argv[1]
        for size, path in ((10, store), (10_000, store), (10_000, store + "2")):
            try:
                save_embeddings(path, np.ones((size, 4)), np.arange(size) % 2)
            except InputError as error:
                print(error)
        print(load_embeddings(store).embeddings.shape, sorted(os.listdir(store)), os.listdir(os.path.dirname(store)))
        """,
        tmp_path / "disk" / "store",
        prefix=small_disk,
    )
    assert full.stdout.count("the disk is full") == 2, full.stderr
    assert "(10, 4) ['embeddings.npy', 'labels.npy', 'metadata.json'] ['store']" in full.stdout


def test_unfinished_and_damaged_stores(tmp_path):
    store = tmp_path / "store"
    save_embeddings(store, X, Y)
    whole = (store / "embeddings.npy").read_bytes()
    (store / "embeddings.npy").write_bytes(whole[:-5])
    with pytest.raises(
        InputError, match=r"embeddings.npy is truncated: 1200 bytes of data are announced, but it has 1195"
    ):
        load_embeddings(store)
    np.save(store / "embeddings.npy", X[:5])
    with pytest.raises(InputError, match=r"has shape \(5, 6\), but its metadata.json says \(50, 6\)"):
        load_embeddings(store)
    (store / "embeddings.npy").unlink()
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_embeddings(store)
    record = (store / "metadata.json").read_text()
    (store / "metadata.json").write_text(record.replace("embeddings.npy", "../secret.npy"))
    with pytest.raises(InputError, match="names files outside its folder"):
        load_embeddings(store)
    (store / "metadata.json").write_text(record[:30])
    with pytest.raises(InputError, match="is not a store of embeddings"):
        load_embeddings(store)
    (store / "metadata.json").write_text('{"format": "clorg-scale embeddings 1"}')
    with pytest.raises(InputError, match="is incomplete; the store is damaged"):
        load_embeddings(store)
