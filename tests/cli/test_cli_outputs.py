"""Results that cannot be written, and analyses that cannot be compared: one sentence, nothing spoiled."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from command_line import CONSOLE_SCRIPT, assert_one_sentence, run, run_process, tree
from mistakes import OUT, command, limited
from records import record

# ---- where results go ------------------------------------------------------------------------------------------


def test_output_folders_that_cannot_be(here):
    (here / "file").write_text("mine")
    (here / "loop").symlink_to("loop")
    record().to_json(here / "a.json")
    record(name="b").to_json(here / "b.json")
    before = tree(here)
    for out, words in (
        ("file", ("file", "another folder")),
        ("file/below/it", ("file/below/it", "is a file")),
        ("/proc/nothing/can/be/made/here", ("/proc/nothing/can/be/made/here",)),
        ("loop", ("loop",)),
        ("n" * 300, ("too long",)),
    ):
        for arguments in (
            ("analyze", "x.npy", "--labels", "y.npy", "--k", "5"),
            ("compare", "a.json", "b.json"),
            ("demo",),
        ):
            assert_one_sentence(run(*arguments, "--out", out), "cannot be written", *words)
            assert tree(here) == before


@pytest.mark.parametrize("name", ["rld", "knn", "communities"])
def test_output_files_that_cannot_be(here, name):
    (here / "file").write_text("mine")
    (here / "folder").mkdir()
    (here / "loop").symlink_to("loop")
    before = tree(here)
    for out, words in (
        ("folder", ("not a file",)),
        ("/dev/full", ("not a file",)),
        ("no/such/folder", ("folder does not exist",)),
        ("file/below", ("is a file",)),
        ("/proc/result", ("/proc/result",)),
        ("n" * 300, ("too long",)),
    ):
        assert_one_sentence(run(*command(name), "--out", out), "cannot be written", *words)
        assert tree(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_output_without_permission(here):
    closed = here / "closed"
    closed.mkdir(mode=0o555)
    assert_one_sentence(run(*command("rld"), "--out", closed / "result.json"), "not permitted")
    assert_one_sentence(run(*command("analyze"), "--out", closed / "results"), "not permitted")


@pytest.mark.parametrize(("name", "earlier"), [("rld", True), ("knn", False)])
def test_disk_full_for_a_file(here, name, earlier):
    assert run(*command(name)).code == 0  # whatever is compiled is kept now
    (here / OUT[name]).unlink()
    if earlier:
        (here / OUT[name]).write_bytes(b"earlier result")
    before = tree(here)
    assert_one_sentence(run_process(*command(name), **limited(64)), OUT[name], "cannot be written", "free some space")
    assert tree(here) == before


@pytest.mark.slow
def test_disk_full_for_an_analysis(here):
    """No folder is left where nothing could be kept; finished stages are kept, and used when there is space again."""
    arguments = command("analyze")
    assert run(*arguments, "--out", "undisturbed").code == 0
    largest_stage = max(path.stat().st_size for path in Path("undisturbed").glob("*-*.npz"))
    page = Path("undisturbed/report.html").stat().st_size
    assert largest_stage < page // 2
    before = tree(here)
    assert_one_sentence(run_process(*arguments, **limited(64)), "results", "cannot be written")
    assert tree(here) == before
    assert_one_sentence(run_process(*arguments, **limited(page // 2)), "report.html", "cannot be written")
    kept = tree(here / "results")
    assert not [name for name in kept if name.endswith(".tmp")]
    assert {name for name in kept if name.endswith(".npz")} == {
        path.name for path in Path("undisturbed").glob("*-*.npz")
    }
    assert run(*arguments).code == 0
    again = tree(here / "results")
    assert {name: again[name] for name in kept if name.endswith(".npz")} == {
        name: contents for name, contents in kept.items() if name.endswith(".npz")
    }
    earlier = tree(here / "results")
    assert_one_sentence(run_process(*arguments, "--seed", "1", **limited(64)), "cannot be written")
    assert tree(here / "results") == earlier


def test_disk_full_for_standard_output(here):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*CONSOLE_SCRIPT, "rld", "x.npy", "--labels", "y.npy"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "error: The output cannot be written: No space left on device.\n"


def test_a_reader_that_goes_away(here):
    """`clorg-scale ... | head` ends quietly."""
    process = subprocess.Popen([*CONSOLE_SCRIPT, "doctor"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 0)


# ---- comparisons -----------------------------------------------------------------------------------------------


def written(folder, **changes):
    """A folder with an analysis."""
    folder.mkdir()
    record(**changes).to_json(folder / "analysis.json")
    return folder


def altered(here, change):
    """A folder whose analysis.json was altered by hand."""
    folder = written(here / "altered", name="altered")
    file = folder / "analysis.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return folder


def refused_comparison(here, folders, *words):
    before = tree(here)
    assert_one_sentence(run("compare", *folders, "--out", "comparison"), *words)
    assert tree(here) == before


def test_comparisons_of_what_is_no_analysis(here):
    good = written(here / "good")
    (here / "empty").mkdir()
    refused_comparison(here, [good], "at least two")
    refused_comparison(here, [good, good], "twice")
    refused_comparison(here, [good, "empty"], "no analysis at empty/analysis.json", "clorg-scale analyze")
    refused_comparison(here, [good, "nowhere"], "nowhere")
    refused_comparison(here, [good, "x.npy"], "x.npy is not an analysis")
    for contents in (b"", b"\xff\xfe", b"[1, 2]", b"null", b"{}", b"[" * 100_000, b'{"format": "something else"}'):
        (here / "empty" / "analysis.json").write_bytes(contents)
        refused_comparison(here, [good, "empty"], "empty/analysis.json is not an analysis")
    whole = (good / "analysis.json").read_bytes()
    for share in (0.1, 0.5, 0.999):
        (here / "empty" / "analysis.json").write_bytes(whole[: int(share * len(whole))])
        refused_comparison(here, [good, "empty"], "empty/analysis.json is not an analysis")


ALTERATIONS = {
    "part missing": lambda document: document.pop("communities"),
    "part unknown": lambda document: document.update(extra=1),
    "inner part missing": lambda document: document["rld"].pop("values"),
    "text for a number": lambda document: document["rld"]["values"].__setitem__(0, "high"),
    "number for a list": lambda document: document["rld"].update(values=3),
    "nothing for a number": lambda document: document["communities"].update(modularity=None),
    "list too short": lambda document: document["rld"]["values"].pop(),
    "class too many": lambda document: document["classes"].append("another"),
    "not a number": lambda document: document["rld"]["values"].__setitem__(0, float("nan")),
    "k is not a number": lambda document: document["class_homogeneity"].update(ten=0.5),
    "interval of three": lambda document: document["probes"][0].update(accuracy_interval=[0.1, 0.2, 0.3]),
}


@pytest.mark.parametrize("change", ALTERATIONS)
def test_comparisons_of_an_altered_analysis(here, change):
    good = written(here / "good")
    refused_comparison(here, [good, altered(here, ALTERATIONS[change])], "altered/analysis.json is not")


def test_comparisons_of_different_data(here):
    good = written(here / "good")
    refused_comparison(here, [good, written(here / "classes", name="b", n_classes=4)], "different classes")
    fewer = altered(here, lambda document: document.update(n_points=9_999))
    refused_comparison(here, [good, fewer], "10000 and 9999 points", "same data")


def test_disk_full_for_a_comparison(here):
    folders = [written(here / "a", name="a"), written(here / "b", name="b")]
    before = tree(here)
    assert_one_sentence(run_process("compare", *folders, "--out", "c", **limited(64)), "cannot be written")
    assert tree(here) == before
