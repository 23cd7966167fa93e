"""Limits on memory that somebody else has set, and the reason that is given where memory is refused."""

import errno
import math
import resource

import numpy as np
import pytest
from command_line import assert_one_sentence, run_process

from clorg_scale.arrays import available_memory, within_device_memory
from clorg_scale.arrays.limits import memory_left
from clorg_scale.errors import InputError, MissingDependencyError, lacks_memory, require
from clorg_scale.store.damage import explain_damage

V2 = "30 23 0:26 {root} {at} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 {root} {at} rw,relatime shared:9 - cgroup cgroup rw,memory\n"
CPU_V1 = "36 31 0:33 {root} {at} rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.fixture
def machine(tmp_path):
    """A process folder and a place where control groups are mounted; a space in its name."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "status").write_text(
        "VmPeak:\t 9000 kB\nVmSize:\t 8000 kB\nVmRSS:\t 1000 kB\nVmData:\t 500 kB\n"
    )
    return tmp_path


def mount(machine, groups, line, root="/"):
    at = str(machine / "control groups").replace(" ", "\\040")
    (machine / "proc" / "cgroup").write_text(groups)
    (machine / "proc" / "mountinfo").write_text(line.format(root=root, at=at))


def group(machine, path, used, *, cached=0, **limits):
    """A control group of version 2."""
    folder = machine / "control groups" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {cached}\nactive_file 0\n")
    for name, limit in ({"max": "max"} | limits).items():
        (folder / f"memory.{name}").write_text(f"{limit}\n")


def left(machine, **environment):
    return memory_left(machine / "proc", environment)


@pytest.mark.parametrize(
    ("inner", "middle", "outer", "expected"),
    [
        ({"max": 1000}, {}, {}, 900),
        ({}, {"max": 2000}, {}, 1900),  # Slurm's step has none, its job has
        ({"max": 5000}, {"max": 2000}, {"max": 1500}, 1400),
        ({"max": 5000, "high": 700}, {"max": 2000}, {}, 600),  # systemd's MemoryHigh
        ({}, {}, {}, math.inf),
        ({"max": 50}, {}, {}, 0),
    ],
)
def test_nested_groups(machine, inner, middle, outer, expected):
    mount(machine, "0::/system.slice/job_7/step_0\n", V2)
    group(machine, "system.slice/job_7/step_0", 100, **inner)
    group(machine, "system.slice/job_7", 100, **middle)
    group(machine, "system.slice", 100, **outer)
    assert left(machine) == expected


def test_files_that_are_cached_can_be_given_up(machine):
    mount(machine, "0::/a\n", V2)
    group(machine, "a", 800, cached=300, max=1000)
    assert left(machine) == 500


@pytest.mark.parametrize(
    ("path", "root"), [("/docker/7", "/docker/7"), ("/", "/"), ("/../../job", "/"), ("/host/docker/7", "/")]
)
def test_a_container_whose_group_is_mounted_as_the_root(machine, path, root):
    mount(machine, f"0::{path}\n", V2, root)
    group(machine, ".", 100, max=1000)
    assert left(machine) == 900


def test_version_1(machine):
    mount(machine, "4:memory:/slurm/job_7\n3:cpu,cpuacct:/elsewhere\n0::/\n", V1 + CPU_V1)
    for path, limit in (("slurm/job_7", 9223372036854771712), ("slurm", 5000)):
        folder = machine / "control groups" / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text("3000\n")
        (folder / "memory.stat").write_text("cache 1\ninactive_file 1\ntotal_inactive_file 400\n")
    assert left(machine) == 2400


def test_jobs_of_slurm(machine):
    used = 1000 * 1024
    assert left(machine, SLURM_MEM_PER_NODE="100") == (100 << 20) - used
    assert left(machine, SLURM_MEM_PER_CPU="10", SLURM_CPUS_ON_NODE="4") == (40 << 20) - used
    assert left(machine, SLURM_MEM_PER_NODE="0") == math.inf
    assert left(machine, SLURM_MEM_PER_NODE="much") == math.inf


@pytest.mark.parametrize("limit", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_limits_of_the_shell(limit):
    before = resource.getrlimit(limit)
    try:
        resource.setrlimit(limit, (1 << 44, before[1]))
        assert 1 << 43 < memory_left() < 1 << 44
        resource.setrlimit(limit, (6 << 30, before[1]))
        assert 0 <= available_memory() < 6 << 30
    finally:
        resource.setrlimit(limit, before)


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [650, 750])
def test_a_search_within_a_small_address_space_ends_in_a_sentence(tmp_path, monkeypatch, megabytes):
    """FAISS crashes where BLAS is refused its buffers."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.random.default_rng(0).normal(size=(20_000, 64)).astype(np.float32))
    size = megabytes * 10**6
    command = ("knn", "x.npy", "--k=50", "--index=flat", "--out=k.npz")
    done = run_process(*command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
    assert_one_sentence(done, "memory")
    assert not (tmp_path / "k.npz").exists()


def test_a_package_that_does_not_fit_is_not_missing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "too_large.py").write_text("raise ImportError('lib.so: failed to map segment from shared object')")
    (tmp_path / "no_exec.py").write_text(
        "raise ImportError('lib.so: failed to map segment from shared object: Operation not permitted')"
    )
    with pytest.raises(MemoryError, match=r"Training needs the package 'too_large', which cannot be loaded: lib\.so"):
        require("too_large", extra="train", purpose="Training")
    with pytest.raises(MissingDependencyError, match="needs the package 'no_exec'"):
        require("no_exec", extra="train", purpose="Training")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("No module named 'torch'"), False),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (ValueError("cannot allocate memory"), False),
    ],
)
def test_what_lacks_memory(error, expected):
    assert lacks_memory(error) is expected


@pytest.mark.parametrize("kind", [MemoryError, RuntimeError])
def test_main_memory_is_no_device(kind):
    @within_device_memory("the search")
    def search(message):
        raise kind(message)

    with pytest.raises(kind, match=r"^std::bad_alloc$"):
        search("std::bad_alloc")
    with pytest.raises(InputError, match="device ran out of memory"):
        search("std::bad_alloc: out_of_memory: CUDA error")


def test_refused_memory_does_not_pass_for_a_damaged_file():
    with pytest.raises(OSError, match="Cannot allocate memory"), explain_damage("x.h5 is damaged"):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")
    with pytest.raises(InputError, match="is damaged"), explain_damage("x.h5 is damaged"):
        raise OSError(errno.EIO, "Input/output error")
