"""Records, comparison, report and README: what is written is what was measured, and a slower machine is noticed."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from clorg_scale.bench.equal_quality import time_at
from clorg_scale.bench.harness.comparing import compare_records
from clorg_scale.bench.harness.figures import Figures
from clorg_scale.bench.harness.gpu_records import read_any_records
from clorg_scale.bench.harness.readme import IMAGES, updated_text
from clorg_scale.bench.harness.records import Record, read_records, write_records
from clorg_scale.bench.harness.report import fitted_exponent, write_report
from command_line import run

from clorg_scale.errors import InputError

ROOT = Path(__file__).resolve().parents[2]

FAST = Record(
    "knn",
    "mixture 1,000 x 8",
    "ours",
    "ours",
    size={"n": 1000, "d": 8},
    times=[1.0, 1.1, 0.9],
    quality={"recall": 0.99},
    memory=10**6,
    floor=0.5,
    machine={"processor": "A", "cores": 2},
)


def written(path, *records):
    write_records(path, records)
    return path


def committed():
    results = ROOT / "bench" / "results"
    paths = sorted([*results.glob("*.jsonl"), *results.glob("gpu_*.json"), *results.glob("analyze_*.json")])
    return [record for path in paths for record in read_any_records(path)]


# ---- records ---------------------------------------------------------------------------------------------------------


def test_records_come_back_as_they_were_written(tmp_path):
    other = replace(FAST, contender="FAISS", role="peer", quick=True, note="a\nb", times=[2.0], quality={})
    assert read_records(written(tmp_path / "r.jsonl", FAST, other)) == [FAST, other]
    line = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[0])
    assert line["seconds"] == 1.0
    assert line["spread"] == pytest.approx(0.1)


def test_the_last_record_of_a_measurement_counts_but_machines_and_sizes_stay_apart(tmp_path):
    later, elsewhere = replace(FAST, times=[3.0]), replace(FAST, machine={"processor": "B"})
    quick = replace(FAST, quick=True)
    assert read_records(written(tmp_path / "r.jsonl", FAST, elsewhere, quick, later)) == [later, elsewhere, quick]


@pytest.mark.parametrize(
    "text", ["", "{}\n", "[1]\n", "no json\n", '{"format": 1, "benchmark": "a"}\n', "\x00\x01"], ids=range(6)
)
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "r.jsonl").write_text(text)
    outcome = run("bench", "report", tmp_path / "r.jsonl", "--out", tmp_path / "page.html")
    assert outcome.code == 2
    assert "r.jsonl" in outcome.err
    assert not (tmp_path / "page.html").exists()


def test_times_that_are_no_times_are_refused(tmp_path):
    line = json.loads(FAST.to_json()) | {"times": [-1.0]}
    (tmp_path / "r.jsonl").write_text(json.dumps(line))
    with pytest.raises(InputError, match="not positive"):
        read_records(tmp_path / "r.jsonl")


# ---- comparison ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "quality", "tolerance", "code"),
    [
        ([1.05, 1.0, 1.1], 0.99, 0.1, 0),
        ([2.0, 2.1, 2.2], 0.99, 0.1, 1),
        ([2.0, 2.1, 2.2], 0.99, 1.5, 0),
        ([0.5, 2.1, 2.2], 0.99, 0.1, 0),  # slower, but within the noise
        ([0.5, 0.5, 0.5], 0.80, 0.1, 1),  # faster at a lower recall is no gain
        ([0.5, 0.5, 0.5], 0.80, 0.3, 0),
    ],
)
def test_exit_code_of_a_comparison(tmp_path, times, quality, tolerance, code):
    a = written(tmp_path / "a.jsonl", FAST)
    b = written(tmp_path / "b.jsonl", replace(FAST, times=times, quality={"recall": quality}))
    outcome = run("bench", "compare", a, b, "--tolerance", str(tolerance))
    assert outcome.code == code, outcome.out
    assert f"{sorted(times)[1]:.2f}  {min(times) / 1.1:.2f} - {max(times) / 0.9:.2f}" in outcome.out


def test_errors_that_grow_are_worse():
    a = replace(FAST, quality={"error": 1e-3})
    assert compare_records([a], [replace(a, quality={"error": 2e-3})], 0.1).failed
    assert not compare_records([a], [replace(a, quality={"error": 5e-4})], 0.1).failed


def test_what_is_in_one_file_only_and_other_machines_are_named(tmp_path):
    extra = replace(FAST, contender="FAISS")
    found = compare_records([FAST, extra], [replace(FAST, machine={"processor": "B", "cores": 2})], 0.1)
    assert found.only_before == ["knn: mixture 1,000 x 8, FAISS"]
    assert "processor: A A, B B" in found.text()
    a, b = written(tmp_path / "a.jsonl", extra), written(tmp_path / "b.jsonl", FAST)
    outcome = run("bench", "compare", a, b)
    assert outcome.code == 2
    assert "no measurement in common" in outcome.err


# ---- report and README -----------------------------------------------------------------------------------------------


def test_exponent_of_a_power_law():
    assert fitted_exponent([(n, 3 * n**1.7) for n in (10, 100, 5000)]) == pytest.approx(1.7)
    assert fitted_exponent([(10, 1), (10, 2)]) is None


def test_page_has_tables_plots_and_machines(tmp_path):
    efforts = [
        replace(FAST, contender=f"FAISS IVF nprobe={p}", role="peer", times=[p / 4], quality={"recall": 1 - 0.1 / p})
        for p in (1, 4, 16)
    ]
    growing = [
        replace(
            FAST,
            benchmark="rld-scaling",
            case="m",
            contender=f"ours, exact, n = {n:,}",
            size={"n": n, "d": 8},
            times=[n**2 / 1e6],
            quality={},
        )
        for n in (1000, 10_000)
    ]
    missing = replace(FAST, contender="<hnswlib>", role="missing", times=[], note="not installed", quick=True)
    elsewhere = replace(FAST, machine={"processor": "B", "cores": 64})
    write_report([FAST, elsewhere, missing, *efforts, *growing], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2
    assert "n^2.00" in page
    assert "Machines side by side" in page
    assert "&lt;hnswlib&gt;" in page
    assert "no figures to cite" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # self-contained


def test_figures_of_the_readme_are_those_of_the_committed_records():
    text = (ROOT / "README.md").read_text()
    records = committed()
    found, blocks = updated_text(text, records)
    assert blocks == 8
    assert found == text
    for name, draw in IMAGES.items():
        assert (ROOT / name).read_text() == draw(Figures(records))


def test_a_contender_of_just_that_name_is_found_rather_than_one_that_begins_so():
    one = next(r for r in committed() if (r.benchmark, r.contender) == ("knn", "ours, ivf to 0.99"))
    others = [replace(one, contender=one.contender + end, times=[1e3]) for end in ("9", "99")]
    assert Figures([others[0], one, others[1]]).find("knn", one.case, one.contender) == one
    assert Figures(others).find("knn", one.case, one.contender) == others[1]


def test_a_figure_of_the_readme_follows_its_record(tmp_path):
    records = [
        replace(r, times=[123.4]) if (r.benchmark, r.contender) == ("gcn", "ours, full batch") else r
        for r in committed()
    ]
    text, _ = updated_text((ROOT / "README.md").read_text(), records)
    assert "| 123 s |" in text


def test_missing_records_and_unknown_blocks_leave_the_readme_alone(tmp_path):
    page, readme = tmp_path / "page.html", tmp_path / "README.md"
    records = written(tmp_path / "r.jsonl", FAST)
    for block, sentence in (("measured", "lack rld"), ("nonsense", "no block"), (None, "has no block")):
        text = f"<!-- bench: {block} -->\nold\n<!-- /bench -->\n" if block else "text\n"
        readme.write_text(text)
        outcome = run("bench", "report", records, "--out", page, "--readme", readme)
        assert outcome.code == 2
        assert sentence in outcome.err
        assert readme.read_text() == text


def test_committed_records_say_where_they_come_from():
    for record in committed():
        assert record.machine.get("processor") or record.machine.get("gpu"), record.key
        assert record.versions or record.commit, record.key
        assert not record.quick
        assert record.times or record.quality or record.role == "missing"
        assert all(math.isfinite(seconds) for seconds in record.times)


# ---- equal quality ---------------------------------------------------------------------------------------------------


def test_time_at_a_quality_lies_between_the_efforts_around_it():
    curve = [(4.0, 0.9), (1.0, 0.5), (2.0, 0.4), (16.0, 0.95)]  # the third is slower and worse than the second
    assert time_at(curve, 0.7).seconds == pytest.approx(2.0)  # half way, in logarithms
    assert time_at(curve, 0.7).how == "interpolated"
    assert time_at(curve, 0.9) == (4.0, "measured")
    assert time_at(curve, 0.1) == (1.0, "its fastest effort, which is better")
    assert time_at(curve, 0.96) is None
