"""Images in tar shards, in saved data sets of Hugging Face and in Parquet files: those of the files they came from."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest

pytest.importorskip("PIL.Image")
from PIL import Image

from clorg_scale.datasets import ImageFiles, load_images
from clorg_scale.datasets.decoding import decode_square
from clorg_scale.errors import InputError

SIZE = 16
NAMES = ["cat", "dog", "eel"]


def encoded(n, seed=0, kind="PNG"):
    """Pictures of noise, 24 x 30 pixels."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(n):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(file, kind)
        found.append(file.getvalue())
    return found


PICTURES, LABELS = encoded(12), [number * 7 % 3 for number in range(12)]


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(rows, label="cls"):
    for row in rows:
        yield f"{row:04}.png", PICTURES[row]
        text = {"cls": str(LABELS[row]), "name": NAMES[LABELS[row]], "json": json.dumps({"label": LABELS[row]})}[label]
        yield f"{row:04}.{'json' if label == 'json' else 'cls'}", text.encode()


def write_tars(folder, prefix="", **how):
    for part in range(3):
        write_tar(folder / f"{prefix}{part:03}.tar", samples(range(part * 4, part * 4 + 4), **how))


def features():
    return {"picture": {"_type": "Image"}, "label": {"names": NAMES, "_type": "ClassLabel"}}


def image_table(rows, **columns):
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": PICTURES[row], "path": None} for row in rows]
    return pa.table({"picture": pa.array(values, kind), "label": [LABELS[row] for row in rows]} | columns)


def save_to_disk(folder, n_files=2):
    """The layout that Hugging Face's `Dataset.save_to_disk` writes."""
    import pyarrow as pa

    folder.mkdir(parents=True)
    names = [f"data-{part:05}-of-{n_files:05}.arrow" for part in range(n_files)]
    for name, rows in zip(names, np.array_split(np.arange(12), n_files), strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, image_table(rows).schema) as writer:
            writer.write_table(image_table(rows), max_chunksize=2)
    state = {"_data_files": [{"filename": name} for name in names], "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features()}))


def write_parquet(folder, prefix=""):
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    for part in range(2):
        table = image_table(range(6 * part, 6 * part + 6))
        info = json.dumps({"info": {"features": features()}})
        table = table.replace_schema_metadata({"huggingface": info})
        pq.write_table(table, folder / f"{prefix}{part}.parquet", row_group_size=4)


def written(kind, folder):
    """A set of all pictures in a form."""
    if kind == "tar":
        write_tars(folder)
        (folder / "classnames.txt").write_text("\n".join(NAMES))
    elif kind == "saved":
        pytest.importorskip("pyarrow")
        save_to_disk(folder)
    else:
        pytest.importorskip("pyarrow")
        write_parquet(folder)
    return folder


@pytest.mark.parametrize("kind", ["tar", "saved", "parquet"])
def test_images_are_those_that_were_packed(tmp_path, kind):
    images = load_images(str(written(kind, tmp_path / "x")), image_size=SIZE)
    assert isinstance(images, ImageFiles)
    assert (len(images), images.classes, images.unsplit) == (12, NAMES, True)
    np.testing.assert_array_equal(images.labels, LABELS)
    truth = np.stack([decode_square(content, SIZE, name="x") for content in PICTURES])
    np.testing.assert_array_equal(images.batch(np.arange(12)), truth)
    shard = pickle.loads(pickle.dumps(images.shard(slice(3, 9))))
    np.testing.assert_array_equal(shard.batch(np.array([4, 0, 5])), truth[[7, 3, 8]])
    np.testing.assert_array_equal(shard.labels, LABELS[3:9])
    spread = images.spread(3)
    np.testing.assert_array_equal(spread.batch(np.arange(3)), truth[[0, 4, 8]])
    assert len({images.digest(), images.first(11).digest(), shard.digest()}) == 3
    assert images.digest() == load_images(str(tmp_path / "x"), image_size=SIZE).digest()


@pytest.mark.parametrize(
    ("kind", "by"),
    [("tar", "names"), ("tar", "folders"), ("parquet", "names"), ("parquet", "folders"), ("saved", "folders")],
)
def test_splits(tmp_path, kind, by):
    for split, name in (("train", "train"), ("test", "validation")):
        folder, prefix = (tmp_path, f"{name}-") if by == "names" else (tmp_path / name, "")
        if kind == "tar":
            write_tar(folder / f"{prefix}0.tar", samples(range(8) if split == "train" else range(8, 12)))
        elif kind == "parquet":
            pytest.importorskip("pyarrow")
            write_parquet(folder, prefix)
        else:
            pytest.importorskip("pyarrow")
            save_to_disk(folder)
    train, test = (load_images(str(tmp_path), split, image_size=SIZE) for split in ("train", "test"))
    assert not train.unsplit
    assert not set(train.paths) & set(test.paths)
    assert (len(train), len(test)) == ((8, 4) if kind == "tar" else (12, 12))


def test_one_set_stands_for_both_with_a_warning(tmp_path):
    file = write_tar(tmp_path / "all.tar", samples(range(4)))
    with pytest.warns(UserWarning, match="its test images are its training images"):
        assert len(load_images(str(file), "test", image_size=SIZE)) == 4


@pytest.mark.parametrize("label", ["name", "json"])
def test_labels_are_names_or_in_json(tmp_path, label):
    write_tars(tmp_path, label=label)
    images = load_images(str(tmp_path), image_size=SIZE)
    np.testing.assert_array_equal(images.labels, LABELS)
    assert images.classes == (NAMES if label == "name" else ["0", "1", "2"])


def test_names_of_test_images_have_the_numbers_of_the_training_images(tmp_path):
    write_tar(tmp_path / "train-0.tar", [("a.png", PICTURES[0]), ("a.cls", b"dog")])
    test = [("b.png", PICTURES[1]), ("b.cls", b"ant"), ("c.png", PICTURES[2]), ("c.cls", b"dog")]
    write_tar(tmp_path / "test-0.tar", test)
    images = load_images(str(tmp_path), "test", image_size=SIZE)
    assert (images.classes, images.labels.tolist()) == (["dog", "ant"], [1, 0])


def test_what_is_no_image_and_no_label_is_left_out_with_a_word(tmp_path):
    evil = pickle.dumps(np.arange(3))
    members = [("a.png", PICTURES[0]), ("a.pyd", evil), ("a.pickle", evil), ("a.txt", b"a cat"), ("a.mask.png", b"")]
    write_tar(tmp_path / "x.tar", [*members, ("b.png", PICTURES[1])])
    with pytest.warns(UserWarning, match="were left out") as caught:
        images = load_images(str(tmp_path), image_size=SIZE)
    said = " ".join(str(warning.message) for warning in caught)
    assert "1 .pyd" in said
    assert "1 .pickle" in said
    assert "pickles are never loaded" in said
    assert f"All images of {tmp_path} have no label" in said
    np.testing.assert_array_equal(images.labels, [-1, -1])
    np.testing.assert_array_equal(images.batch(np.arange(1))[0], decode_square(PICTURES[0], SIZE, name="a"))


def refused(tmp_path, match, split="train"):
    with pytest.raises(InputError, match=match) as error:
        load_images(str(tmp_path), split, image_size=SIZE)
    assert "\n" not in str(error.value)


def test_bad_shards_are_refused_by_one_sentence(tmp_path):
    whole = write_tar(tmp_path / "a" / "x.tar", samples(range(4))).read_bytes()
    (tmp_path / "a" / "x.tar").write_bytes(whole[: len(PICTURES[0]) // 2 + 512])
    refused(tmp_path / "a", "x.tar is not a tar file, is compressed, or is truncated")
    (tmp_path / "a" / "x.tar").write_bytes(b"no tar" * 500)
    refused(tmp_path / "a", "x.tar is not a tar file")
    (tmp_path / "a" / "x.tar").rename(tmp_path / "a" / "x.tar.gz")
    refused(tmp_path / "a", "is compressed")
    refused(tmp_path / "a" / "x.tar.gz", "is compressed")
    write_tar(tmp_path / "b" / "x.tar", [("a.png", PICTURES[0]), ("a.jpg", PICTURES[1])])
    refused(tmp_path / "b", "has 2 images")
    write_tar(tmp_path / "c" / "x.tar", [("a.png", PICTURES[0]), ("a.json", b"{")])
    refused(tmp_path / "c", "a.json in .* is not a label")
    write_tar(tmp_path / "d" / "x.tar", [("a.png", PICTURES[0]), ("a.cls", b"99999999999999")])
    refused(tmp_path / "d", "are not numbers of classes")
    write_tar(tmp_path / "e" / "x.tar", [("a.cls", b"1")])
    refused(tmp_path / "e", "holds no images")
    write_tar(tmp_path / "f" / "test-0.tar", samples(range(4)))
    refused(tmp_path / "f", "has no images of the train split")


def test_an_image_that_cannot_be_decoded_is_named_and_can_be_left_out(tmp_path):
    write_tar(tmp_path / "x.tar", [*samples(range(3)), ("bad.png", b"no image"), ("bad.cls", b"0")])
    images = load_images(str(tmp_path), image_size=SIZE)
    with pytest.raises(InputError, match=r"bad\.png in .*x\.tar cannot be read"):
        images.batch(np.arange(4))
    kept = load_images(str(tmp_path), image_size=SIZE, skip_unreadable=True)
    assert (len(kept), kept.skipped) == (3, [f"bad.png in {tmp_path / 'x.tar'}"])


def test_bad_tables_are_refused_by_one_sentence(tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(image_table(range(3), other=pa.array([b"1", b"2", b"3"])), tmp_path / "two.parquet")
    refused(tmp_path / "two.parquet", r"has 2 columns of images \(picture, other\)")
    pq.write_table(pa.table({"label": [1, 2]}), tmp_path / "none.parquet")
    refused(tmp_path / "none.parquet", "has no column of encoded images")
    content = (tmp_path / "two.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "cut.parquet", "is missing, damaged or truncated")
    path_only = pa.array([{"bytes": None, "path": "/x.png"}], image_table([0]).schema.field("picture").type)
    pq.write_table(pa.table({"picture": path_only}), tmp_path / "paths.parquet")
    with pytest.warns(UserWarning, match="have no label"):
        images = load_images(str(tmp_path / "paths.parquet"), image_size=SIZE)
    with pytest.raises(InputError, match=r"There is no image in row 0 of .*paths\.parquet"):
        images.batch(np.arange(1))
    save_to_disk(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state | {"_indices_data_files": [{"filename": "i"}]}))
    refused(tmp_path / "saved", "is a selection of rows by a list of indices")
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../x"}]}))
    refused(tmp_path / "saved", "does not name the files")
