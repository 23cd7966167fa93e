"""Files are written as a whole or not at all: killed, cut off, on a full disk."""

import os
import signal
import stat

import pytest
from stored_arrays import names, run_python

from clorg_scale.errors import InputError
from clorg_scale.store.atomic import write_whole


def test_write_whole_gives_the_file_its_name_only_at_the_end(tmp_path):
    target = tmp_path / "numbers.bin"
    with write_whole(target) as file:
        file.write(b"1234")
        assert not target.exists()
    assert target.read_bytes() == b"1234"
    assert names(tmp_path) == ["numbers.bin"]


def test_write_whole_text_is_utf8_with_unix_line_ends(tmp_path):
    with write_whole(tmp_path / "words.txt", "w") as file:
        file.write("Größe\nzwei\n")
    assert (tmp_path / "words.txt").read_bytes() == "Größe\nzwei\n".encode()


def test_write_whole_that_raises_leaves_the_old_file(tmp_path):
    target = tmp_path / "numbers.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with write_whole(target) as file:
            file.write(b"half of the new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["numbers.bin"]


def test_write_whole_obeys_the_umask_and_follows_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere" / "file")
    mask = os.umask(0o027)
    try:
        with write_whole(link) as file:
            file.write(b"x")
    finally:
        os.umask(mask)
    assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "elsewhere" / "file").stat().st_mode) == 0o640


def test_write_whole_survives_a_long_name(tmp_path):
    target = tmp_path / ("n" * 250)
    with write_whole(target) as file:
        file.write(b"x")
    assert target.read_bytes() == b"x"


def test_write_whole_explains_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="its folder does not exist"), write_whole(tmp_path / "no" / "file"):
        pass
    with pytest.raises(InputError, match="is not a file"), write_whole(tmp_path):
        pass
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="a part of its path is a file"),
        write_whole(tmp_path / "file" / "x"),
    ):
        pass


def test_write_whole_does_not_blame_the_target_for_an_unreadable_source(tmp_path):
    with (
        pytest.raises(FileNotFoundError),
        write_whole(tmp_path / "out") as file,
        (tmp_path.parent / "no_such_source").open("rb") as source,
    ):
        file.write(source.read())
    assert names(tmp_path) == []


def test_write_whole_killed_in_the_middle_leaves_the_old_file(tmp_path):
    target = tmp_path / "numbers.bin"
    target.write_bytes(b"old")
    killed = run_python(
        """
        import os, signal, sys
        from clorg_scale.store.atomic import write_whole
        with write_whole(sys.argv[1]) as file:
            file.write(b"x" * 1_000_000)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        target,
    )
    assert killed.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"


def test_write_whole_on_a_file_that_grows_too_large(tmp_path):
    limited = run_python(
        """
        import resource, sys
        from clorg_scale.errors import InputError
        from clorg_scale.store.atomic import write_whole
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            with write_whole(sys.argv[1]) as file:
                for _ in range(100):
                    file.write(b"x" * 10_000)
        except InputError as error:
            print(error)
        """,
        tmp_path / "large.bin",
    )
    assert "the largest file size allowed is exceeded" in limited.stdout, limited.stderr
    assert names(tmp_path) == []


def test_write_whole_on_a_full_disk(tmp_path, small_disk):
    full = run_python(
        """
        import os, sys
        from clorg_scale.errors import InputError
        from clorg_scale.store.atomic import write_whole
        target = sys.argv[1]
        with write_whole(target) as file:
            file.write(b"old")
        try:
            with write_whole(target) as file:
                file.write(b"x" * 1_000_000)
        except InputError as error:
            print(error)
        print(open(target, "rb").read(), os.listdir(os.path.dirname(target)))
        """,
        tmp_path / "disk" / "file.bin",
        prefix=small_disk,
    )
    assert "the disk is full; free some space" in full.stdout, full.stderr
    assert "b'old' ['file.bin']" in full.stdout


def test_a_state_that_does_not_fit_on_the_disk_gets_a_sentence(tmp_path):
    torch = pytest.importorskip("torch")
    import resource

    from clorg_scale.store.states import write_state

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match=r"state\.pt cannot be written: the largest file size"):
            write_state(tmp_path / "state.pt", {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    write_state(tmp_path / "state.pt", {"weights": torch.arange(3), "epoch": 2})
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert state["weights"].tolist() == [0, 1, 2]
