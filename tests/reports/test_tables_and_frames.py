"""Tables and data frames: what is a feature, what is left out, and that both are told."""

import json
import time

import numpy as np
import pytest
from command_line import assert_one_sentence, run

import clorg_scale as cs
from clorg_scale.arrays import as_embeddings
from clorg_scale.errors import InputError
from clorg_scale.store import load_labels

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")

N = 40
RNG = np.random.default_rng(0)
Y = np.arange(N) % 2
X = (RNG.normal(size=(N, 4)) + 3 * Y[:, None]).astype(np.float32)
NAMES = list("abcd")
FRAME = pd.DataFrame(X, columns=NAMES)


def columns_of(path, **options):
    stored = cs.load_embeddings(path, **options)
    np.testing.assert_array_equal(stored.embeddings, X)
    return stored.metadata["columns"]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(np.arange(N) * 1000, name="cell_id"),
        pd.Index(np.linspace(0, 1e6, N), name="time"),
        pd.Index([f"cell{i}" for i in range(N)], name="barcode"),
        pd.MultiIndex.from_arrays([np.arange(N) * 7, Y], names=["plate", "well"]),
        pd.Index(np.arange(N) * 1000),
        pd.RangeIndex(N, name="row"),
    ],
    ids=["integers", "floats", "text", "two levels", "without a name", "range"],
)
def test_an_index_is_no_feature(tmp_path, index):
    path = tmp_path / "x.parquet"
    FRAME.set_index(index).assign(label=Y).to_parquet(path)
    columns = columns_of(path)
    assert (columns["taken"], columns["labels"]) == (NAMES, "label")
    stored_as_columns = not isinstance(index, pd.RangeIndex)
    assert list(columns["left_out"].values()) == ["the index of the data frame"] * (index.nlevels * stored_as_columns)
    as_read = pq.read_table(path, columns=NAMES)  # brings the index with it
    np.testing.assert_array_equal(as_embeddings(as_read), X)
    expected = cs.rld(X, Y, temperatures=[0.1]).values[0]
    done = run("rld", path, "--temperatures", "0.1", "--json")
    assert json.loads(done.out)["values"][0] == pytest.approx(expected, abs=1e-6)


def test_labels_in_the_table_are_no_feature_under_any_name(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.assign(species=Y, name="x", day=pd.Timestamp(0)).to_parquet(path)
    other = tmp_path / "y.csv"
    other.write_text("id,label\n" + "".join(f"{i},{y}\n" for i, y in enumerate(Y)))
    reasons = {"name": "text", "day": "timestamp[ns]"}
    for labels in ("species", f"{path}:species"):
        assert columns_of(path, labels=labels) == {"taken": NAMES, "left_out": reasons, "labels": "species"}
    assert cs.load_embeddings(path).metadata["columns"]["taken"] == [*NAMES, "species"]
    from_file = cs.load_embeddings(path, labels=other)
    assert from_file.metadata["label_columns"] == {"taken": ["label"], "left_out": {"id": "not chosen"}}
    assert from_file.labels.tolist() == Y.tolist()


def test_the_command_line_tells_the_columns(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.assign(species=Y, name="x", label="a").to_parquet(path)
    for command in (("rld", "--temperatures", "0.5"), ("communities", "--k", "5"), ("knn", "--k", "5")):
        done = run(command[0], path, *command[1:], *(() if command[0] == "knn" else ("--labels", "species")))
        assert done.code == 0
        assert f"{path}: embeddings from " in done.err
        assert "'name' (text), 'label' (a name of labels)" in done.err
    other = tmp_path / "y.tsv"
    other.write_text("class\tbatch\n" + "".join(f"{y}\t1\n" for y in Y))
    done = run("rld", path, "--labels", other, "--temperatures", "0.5", "--json")
    assert f"{other}: labels from 'class'; left out: 'batch' (not chosen).\n" in done.err
    assert json.loads(done.out)["n_points"] == N


def test_row_numbers_of_a_text_file_are_no_feature(tmp_path):
    path = tmp_path / "x.parquet"
    FRAME.to_csv(tmp_path / "x.csv")
    pd.read_csv(tmp_path / "x.csv", dtype=dict.fromkeys(NAMES, np.float32)).to_parquet(path)
    left_out = {"Unnamed: 0": "a column without a name in the text file it comes from"}
    assert columns_of(path) == {"taken": NAMES, "left_out": left_out}
    with pytest.warns(UserWarning, match="Columns a, b, c, d of the embeddings are used; left out: Unnamed: 0"):
        np.testing.assert_array_equal(as_embeddings(pd.read_parquet(path)), X)


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([[[1.0, 2.0]]] * N), "lists of lists"),
        (pa.array([["a", "b"]] * N), "lists of string"),
        (pa.array([[{"a": 1}]] * N), "lists of struct<a: int64>"),
        (pa.array([[]] * N), "lists of null"),
        (pa.array([{"a": 1}] * N), "struct<a: int64>"),
        (pa.array([None] * N), "null"),
        (pa.array([b"x"] * N), "binary"),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((N, 2, 3), np.float32)), "tensors of shape (2, 3)"),
        (pa.array([[np.datetime64(0, "us")]] * N), "lists of timestamp[us]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_beside_what_is_not_numeric_are_read(tmp_path, column, kind):
    path = tmp_path / "x.parquet"
    table = pa.Table.from_pandas(FRAME).append_column("other", column)
    pq.write_table(table, path)
    assert columns_of(path) == {"taken": NAMES, "left_out": {"other": kind}}
    assert_one_sentence(run("rld", f"{path}:other"), "x.parquet")
    pq.write_table(table.select(["other"]), path)
    assert_one_sentence(run("knn", path), "holds no two-dimensional array of numbers", f"'other' ({kind})")
    with pytest.raises(InputError):
        as_embeddings(table)


def test_a_column_of_lists_goes_before_numbers_beside_it(tmp_path):
    path = tmp_path / "x.parquet"
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 4)):
        table = pa.table({"id": np.arange(N), "words": [["a"]] * N, "emb": pa.array(list(X), kind), "label": Y})
        pq.write_table(table, path)
        assert columns_of(path) == {
            "taken": ["emb"],
            "left_out": {"id": "a column of numbers beside it", "words": "lists of string"},
            "labels": "label",
        }
        numbers = cs.load_embeddings(f"{path}:columns", labels=False)
        assert numbers.metadata["columns"]["taken"] == ["id"]
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(X)
    pq.write_table(pa.table({"emb": tensors, "y": pa.array([[int(y)] for y in Y])}), path, row_group_size=9)
    stored = cs.load_embeddings(path)
    np.testing.assert_array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == Y.tolist()
    np.testing.assert_array_equal(as_embeddings(tensors), X)
    np.testing.assert_array_equal(as_embeddings(pa.chunked_array([tensors[:7], tensors[7:]])), X)


def test_empty_lists_and_tables_without_rows(tmp_path):
    path = tmp_path / "x.parquet"
    empty = pa.array([[]] * N, pa.list_(pa.float32()))
    pq.write_table(pa.table({"emb": empty}), path)
    assert_one_sentence(run("rld", path), "at least 1 feature")
    with pytest.raises(InputError, match="at least 1 feature"):
        as_embeddings(empty)
    for kind in (pa.list_(pa.float32()), pa.float32()):
        pq.write_table(pa.table({"emb": pa.array([], kind)}), path)
        assert_one_sentence(run("knn", path), "holds no rows")
        with pytest.raises(InputError):
            as_embeddings(pa.table({"emb": pa.array([], kind)}))


def test_names_that_clash(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table([X[:, 0], X[:, 1]], names=["a", "a"]), path)
    assert_one_sentence(run("knn", path), "several columns named 'a'")
    parts = pa.array([{"b": 7.0}] * N)
    pq.write_table(pa.table({"a": parts, "a.b": X[:, 0], "c": X[:, 1]}), path)
    np.testing.assert_array_equal(cs.load_embeddings(path).embeddings, X[:, :2])


# --- frames in Python


def test_polars():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({name: X[:, i] for i, name in enumerate(NAMES)})
    for data in (frame, frame.lazy(), frame.rechunk(), pl.concat([frame[:7], frame[7:]])):
        taken = as_embeddings(data)
        np.testing.assert_array_equal(taken, X)
        assert taken.dtype == np.float32
    for kind in (pl.List(pl.Float32), pl.Array(pl.Float32, 4)):
        column = pl.Series("emb", X.tolist(), dtype=kind)
        for data in (column, column.to_frame(), column.to_frame().lazy()):
            np.testing.assert_array_equal(as_embeddings(data), X)
        with pytest.warns(UserWarning, match="Column emb of the embeddings is used; left out: id, name"):
            taken = as_embeddings(pl.DataFrame({"id": np.arange(N), "emb": column, "name": ["x"] * N}))
        np.testing.assert_array_equal(taken, X)
    missing = frame.with_columns(a=pl.when(pl.int_range(N) == 3).then(None).otherwise(pl.col("a")))
    assert np.isnan(as_embeddings(missing)[3, 0])
    assert_rejected = {
        "not numeric": frame.with_columns(name=pl.lit("x"), day=pl.date(2020, 1, 1)),
        "1 missing values": pl.Series([[1.0, 2.0], None, [1.0, 2.0]]),
        "differ in length": pl.Series([[1.0, 2.0], [1.0], [1.0, 2.0]]),
        "lists of lists": pl.Series([[[1.0]], [[2.0]], [[3.0]]]),
    }
    for sentence, data in assert_rejected.items():
        with pytest.raises(InputError, match=sentence):
            as_embeddings(data)


def test_polars_labels():
    pl = pytest.importorskip("polars")
    words = ["b", "a"] * (N // 2)
    expected = cs.rld(X, words, temperatures=[0.5]).values
    for kind in (pl.String, pl.Categorical, pl.Enum(["never", "b", "a"])):
        labels = pl.Series("label", words, dtype=kind)
        for data in (labels, labels.to_frame()):
            np.testing.assert_array_equal(cs.rld(X, data, temperatures=[0.5]).values, expected)
        with pytest.raises(InputError, match="1 missing values"):
            cs.rld(X, pl.Series([None, *words[1:]], dtype=kind))
    frame = pl.DataFrame(X, schema=NAMES)
    np.testing.assert_array_equal(cs.rld(frame, pl.Series(words), temperatures=[0.5]).values, expected)


def test_polars_parquet(tmp_path):
    pl = pytest.importorskip("polars")
    column = pl.Series("emb", X.tolist(), dtype=pl.Array(pl.Float32, 4))
    pl.DataFrame([column, pl.Series("label", Y).cast(pl.String).cast(pl.Categorical)]).write_parquet(
        tmp_path / "x.parquet"
    )
    stored = cs.load_embeddings(tmp_path / "x.parquet")
    np.testing.assert_array_equal(stored.embeddings, X)
    assert stored.labels.tolist() == [str(y) for y in Y]


def test_any_library_that_hands_out_arrow_data():
    class Relation:
        """As DuckDB, Ibis and others give their results."""

        def __arrow_c_stream__(self, requested_schema=None):
            return pa.Table.from_pandas(FRAME).__arrow_c_stream__(requested_schema)

    np.testing.assert_array_equal(as_embeddings(Relation()), X)


def test_arrow_tables_as_pandas_reads_them():
    table = pa.Table.from_pandas(FRAME.set_index(pd.Index(np.arange(N), name="id")))
    np.testing.assert_array_equal(as_embeddings(table), X)
    mixed = pa.table({"a": [1, None, 3], "b": [True, None, False], "c": pa.array([1.5, 2.5, 3.5], pa.float32())})
    np.testing.assert_array_equal(as_embeddings(mixed), [[1, 1, 1.5], [np.nan, np.nan, 2.5], [3, 0, 3.5]])


@pytest.mark.parametrize("wrap", [list, lambda rows: [tuple(row.tolist()) for row in rows]], ids=["arrays", "tuples"])
def test_a_frame_with_one_column_of_arrays(wrap):
    column = pd.Series(wrap(X))
    for data in (column, column.to_frame(), column.to_frame().to_numpy(), column.to_numpy()):
        np.testing.assert_array_equal(as_embeddings(data), X)
    with pytest.warns(UserWarning, match="Column emb of the embeddings is used; left out: id, label"):
        np.testing.assert_array_equal(as_embeddings(pd.DataFrame({"id": Y, "emb": column, "label": Y})), X)
    with pytest.raises(InputError, match="hold 1 missing values"):
        as_embeddings(pd.DataFrame({"emb": [None, *column]}))
    with pytest.raises(InputError, match="columns emb, more are not numeric"):
        as_embeddings(pd.DataFrame({"emb": column, "more": column}))


def test_frames_without_features():
    for data in (FRAME[[]], pa.table({}), pa.Table.from_pandas(FRAME[[]].set_index(pd.Index(Y, name="id")))):
        with pytest.raises(InputError, match="at least 1 feature"):
            as_embeddings(data)


def test_wide_frames_are_taken_at_once():
    pl = pytest.importorskip("polars")
    wide = pd.DataFrame(np.zeros((3, 5000), np.float32)).rename(columns=str)
    start = time.perf_counter()
    for data in (wide, pl.from_pandas(wide), pa.Table.from_pandas(wide)):
        assert as_embeddings(data).shape == (3, 5000)
    assert time.perf_counter() - start < 20  # a look at all columns for each of them takes minutes


def test_rows_of_several_types_are_not_rounded():
    rows = pd.Series([np.array([1, 2]), np.array([0.5, 1.5]), np.array([3, 4], np.int8)])
    np.testing.assert_array_equal(as_embeddings(rows), [[1, 2], [0.5, 1.5], [3, 4]])


def test_a_column_of_tensors():
    torch = pytest.importorskip("torch")
    rows = [torch.from_numpy(row) for row in X]
    for data in (rows, pd.Series(rows), pd.DataFrame({"emb": rows})):
        np.testing.assert_array_equal(as_embeddings(data), X)


# --- .pt


def test_tensors_in_files(tmp_path):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X)
    path = tmp_path / "x.pt"
    for stored, options in (
        (tensor, {}),
        (tensor, {"_use_new_zipfile_serialization": False}),
        (torch.nn.Parameter(tensor), {}),
        ({"features": tensor, "epoch": 3}, {}),
        ({"run": {"a": tensor}, "labels": torch.from_numpy(Y)}, {}),
        ((tensor, torch.from_numpy(Y)), {}),
    ):
        torch.save(stored, path, **options)
        np.testing.assert_array_equal(cs.load_embeddings(path).embeddings, X)
    torch.save({"embeddings": tensor.bfloat16(), "labels": ["a", "b"] * (N // 2)}, path)
    stored = cs.load_embeddings(path)
    np.testing.assert_array_equal(stored.embeddings, tensor.bfloat16().float().numpy())
    assert stored.labels.tolist() == ["a", "b"] * (N // 2)
    torch.save(torch.from_numpy(Y), tmp_path / "y.pt")
    assert load_labels(tmp_path / "y.pt").tolist() == Y.tolist()
    done = run("rld", path, "--labels", tmp_path / "y.pt", "--temperatures", "0.5", "--json")
    assert done.code == 0


def test_tensor_files_that_cannot_be_used(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "x.pt"
    touched = tmp_path / "touched"

    class Attack:
        def __reduce__(self):
            return touched.touch, ()

    for stored, sentence in (
        (Attack(), "Python objects, which are never unpickled"),
        ({"embeddings": torch.from_numpy(X), "object": Attack()}, "Python objects, which are never unpickled"),
        ({"epoch": 3}, "holds no tensor"),
        (torch.from_numpy(X).to_sparse(), "sparse tensor"),
    ):
        torch.save(stored, path)
        assert_one_sentence(run("knn", path), sentence)
    assert not touched.exists()
    torch.save(torch.from_numpy(X), path)
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-50], b"\x80\x04N."):
        path.write_bytes(damaged)
        assert_one_sentence(run("knn", path), "x.pt")
