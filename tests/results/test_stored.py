"""Results on disk: numbers a person can read, arrays beside them, both of one result or a clear sentence."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from command_line import tree
from hypothesis import given, settings
from hypothesis import strategies as st
from records import record

import clorg_scale as cs
from clorg_scale.errors import InputError
from clorg_scale.results.readable import WIDTH, readable_json
from clorg_scale.results.stored import beside, read_document, read_stored, write_stored

OLD = Path(__file__).parent / "data" / "analysis-format-1.json"
"""Written by the version before the arrays had a file of their own."""

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=60,
)


@given(value=plain)
@settings(max_examples=150, deadline=None)
def test_readable_json_is_json(value):
    assert json.loads(readable_json(value)) == value


def test_readable_json_is_short_and_narrow():
    numbers = [round(0.1 * i, 1) for i in range(10_000)]
    text = readable_json({"numbers": numbers, "rows": [{"a": i, "b": [1, 2]} for i in range(50)]})
    assert max(map(len, text.splitlines())) <= WIDTH + 1  # a comma
    assert len(text.splitlines()) < 700
    assert ' {"a": 7, "b": [1, 2]},\n' in text


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        readable_json([1.0, float("nan")])


@dataclass(frozen=True)
class Inner:
    weights: npt.NDArray[np.float64]
    rows: npt.NDArray[np.int32] = field(metadata=beside())


@dataclass(frozen=True)
class Outer:
    name: str
    small: npt.NDArray[np.float64]
    names: npt.NDArray[np.str_]
    inner: Inner | None
    positions: list[float | None] = field(metadata=beside("float64"))
    columns: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict, metadata=beside())
    missing: npt.NDArray[np.float32] | None = field(default=None, metadata=beside())
    more: list[Inner] = field(default_factory=list)


def outer():
    inner = Inner(np.array([1.5, np.nan]), np.arange(5, dtype=np.int32))
    columns = {"a.b": np.array([1, np.nan], np.float32), "empty": np.empty(0, np.float32)}
    return Outer("é", np.array([[0.1, 2.0]]), np.array(["x", "long"]), inner, [1.0, None], columns)


def stored_again(result, path):
    write_stored(result, path, "test")
    document = read_document(path, "a test")
    assert document.pop("format") == "test"
    return read_stored(Outer, path, document, "a test")


def test_a_dataclass_comes_back_with_every_dtype(tmp_path):
    before, after = outer(), stored_again(outer(), tmp_path / "outer.json")
    assert (after.name, after.positions, after.missing, after.more) == (before.name, [1.0, None], None, [])
    for name in ("small", "names"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    np.testing.assert_array_equal(after.inner.weights, before.inner.weights)
    assert after.inner.rows.dtype == np.int32
    np.testing.assert_array_equal(after.inner.rows, before.inner.rows)
    assert after.columns.keys() == before.columns.keys()
    for key, values in before.columns.items():
        np.testing.assert_array_equal(after.columns[key], values)
        assert after.columns[key].dtype == np.float32
    assert stored_again(Outer("n", np.zeros((0, 2)), np.array(["x"]), None, []), tmp_path / "n.json").inner is None


# ---- analyses ------------------------------------------------------------------------------------------------------


def test_an_analysis_is_short_and_readable_and_its_arrays_have_names(tmp_path):
    analysis = record(n_map=10_000, n_communities=40)
    path = analysis.to_json(tmp_path / "analysis.json")
    lines = path.read_text().splitlines()
    assert len(lines) < 700  # 60,000 numbers of the map would take as many lines
    assert ' "class_homogeneity": {"1": 0.87, "10": 0.85, "100": 0.8, "1000": 0.53},' in lines
    with np.load(tmp_path / "analysis_arrays.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["point_map.x"], analysis.point_map.x)
        assert arrays["communities.class_by_community"].shape == (10, 40)
        assert set(json.loads(path.read_text())["arrays"]["contents"]) == set(arrays.files)
    assert cs.Analysis.from_json(tmp_path) == analysis


def test_values_of_points_are_kept(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)), np.arange(40) % 2
    y[:3] = -1
    analysis = cs.analyze(X, y, k=5, probes=[], map_points=30, output=tmp_path, temperatures=(1.0, 0.1))
    points = cs.Analysis.from_json(tmp_path).points
    np.testing.assert_array_equal(points["class_code"], y)
    np.testing.assert_allclose(points["local_density"], cs.rld(X, y, temperatures=(0.1,)).local_density[0], rtol=1e-5)
    assert np.bincount(points["community"]).tolist() == analysis.communities.sizes
    mapped = np.column_stack([points["map_x"], points["map_y"]])
    assert np.isfinite(mapped).all()
    on_map = np.column_stack([analysis.point_map.x, analysis.point_map.y])
    np.testing.assert_allclose(mapped[analysis.point_map.index], on_map, atol=1e-3)
    assert "points" not in analysis.to_dict()


def assert_holds(found, document):
    """All of a document is found; what is more came with later versions."""
    if isinstance(document, dict):
        for key, value in document.items():
            assert_holds(found[key], value)
    elif isinstance(document, list):
        assert len(found) == len(document)
        for ours, theirs in zip(found, document, strict=True):
            assert_holds(ours, theirs)
    else:
        assert found == document


def test_analyses_of_the_first_format_are_read():
    old = cs.Analysis.from_json(OLD)
    document = json.loads(OLD.read_text())
    assert document.pop("format") == "clorg-scale analysis 1"
    assert_holds(json.loads(json.dumps(old.to_dict())), document)
    assert old.points == {}
    assert None in old.point_map.local_density


def test_an_old_analysis_is_written_in_the_new_format(tmp_path):
    old = cs.Analysis.from_json(OLD)
    old.to_json(tmp_path / "analysis.json")
    assert cs.Analysis.from_json(tmp_path) == old


def damaged(folder, contents):
    (folder / "analysis_arrays.npz").write_bytes(contents)


def pickled(folder):
    np.savez(folder / "analysis_arrays.npz", x=np.array([{}], dtype=object))


def of_another(folder):
    record(seed=1).to_json(folder / "other.json")
    (folder / "other_arrays.npz").replace(folder / "analysis_arrays.npz")


def renamed_array(folder):
    with np.load(folder / "analysis_arrays.npz") as arrays:
        renamed = {name.replace("point_map.x", "point_map.z"): arrays[name] for name in arrays.files}
    np.savez(folder / "analysis_arrays.npz", **renamed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "analysis_arrays.npz").unlink(), "is missing, which holds the arrays"),
        (lambda folder: damaged(folder, b""), "is damaged"),
        (lambda folder: damaged(folder, b"PK\x03\x04 and no more"), "is damaged"),
        (pickled, "is damaged, or does not hold"),
        (of_another, "are not of the same result"),
        (renamed_array, "are not of the same result"),
    ],
)
def test_arrays_that_do_not_belong_to_the_numbers(tmp_path, change, sentence):
    record().to_json(tmp_path / "analysis.json")
    change(tmp_path)
    with pytest.raises(InputError, match=sentence):
        cs.Analysis.from_json(tmp_path)


def test_an_entry_of_the_arrays_that_is_no_object(tmp_path):
    path = record().to_json(tmp_path / "analysis.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"arrays": 3}))
    with pytest.raises(InputError, match="not of the same result"):
        cs.Analysis.from_json(tmp_path)


@pytest.mark.parametrize("nth", [0, 1])
def test_both_files_are_written_or_none(tmp_path, monkeypatch, nth):
    record().to_json(tmp_path / "analysis.json")
    before, synced = tree(tmp_path), []

    def full(_):
        synced.append(1)
        if len(synced) > nth:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="disk is full"):
        record(seed=1).to_json(tmp_path / "analysis.json")
    assert tree(tmp_path) == before


def test_a_pair_that_is_renamed_together_is_read(tmp_path):
    analysis = record()
    analysis.to_json(tmp_path / "analysis.json")
    for name in ("{}.json", "{}_arrays.npz"):
        shutil.move(tmp_path / name.format("analysis"), tmp_path / name.format("moved"))
    assert cs.Analysis.from_json(tmp_path / "moved.json") == analysis
