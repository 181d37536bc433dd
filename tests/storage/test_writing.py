"""What is written appears whole or not at all, keeps rights, replaces regular files only, and says what went wrong."""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import bayeslmm as bl
from bayeslmm import StorageError
from bayeslmm.files import writing
from bayeslmm.files.exchange import exchange
from bayeslmm.files.writing import check_folder, clear, destination, replacing, write_bytes
from bayeslmm.output import write, write_boundary, write_fit

SMALL = "Yield ~ 1 + (1 | Batch)"
MODEL = bl.Model(SMALL, bl.load_dataset("Dyestuff"))
FIT = MODEL.fit()
CELL = bl.Cell("balanced", groups=6, size=5, icc=0.1)

type Save = Callable[[Path, bool], Any]


@pytest.fixture(scope="module")
def post() -> bl.Posterior:
    return MODEL.sample(40, random_seed=1)


@pytest.fixture(params=["model", "fit", ".nc", ".zarr"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def save(kind: str, post: bl.Posterior) -> Save:
    what = {"model": MODEL, "fit": FIT}.get(kind, post)
    return lambda path, overwrite=False: what.save(path, overwrite=overwrite)


def name(kind: str, stem: str = "a") -> str:
    return stem + (kind if kind.startswith(".") else "")


def formula(path: Path) -> str:
    return bl.load(path).formula


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_new_files_get_the_rights_of_new_files(save: Save, kind: str, tmp_path: Path, umask: None) -> None:
    save(tmp_path / name(kind), False)
    (tmp_path / "other").mkdir() if kind == ".zarr" else (tmp_path / "other").touch()
    assert (tmp_path / name(kind)).stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o700])
def test_rights_are_kept(save: Save, kind: str, mode: int, tmp_path: Path) -> None:
    path = tmp_path / name(kind)
    save(path, False)
    path.chmod(mode | 0o100 if kind == ".zarr" else mode)
    before = path.stat()
    save(path, True)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert formula(path) == SMALL


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_owner_and_group_are_kept(save: Save, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name(kind)
    save(path, False)
    os.chown(path, 65534, 65533)
    save(path, True)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65533)


def test_group_rights_are_not_given_to_another_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bytes(tmp_path / "a", b"old")
    path.chmod(0o664)
    found = list(path.stat())
    found[5] += 1
    monkeypatch.setattr(os, "chown", lambda *_: (_ for _ in ()).throw(PermissionError()))
    writing._keep_rights(path, os.stat_result(found))
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_files_protected_from_writing_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_bytes(tmp_path / "a", b"old")
    path.chmod(0o444)
    # For root nothing is protected.
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != path and allowed(p, mode))
    with pytest.raises(StorageError, match=r"protected.*-r--r--r--"):
        FIT.save(path, overwrite=True)
    assert path.read_bytes() == b"old"


def special(path: Path, what: str) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            here = Path.cwd()
            os.chdir(path.parent)
            server.bind(path.name)
            os.chdir(here)
    elif what == "device":
        path.symlink_to(os.devnull)
    else:
        path.mkdir()
        (path / "precious").write_text("kept")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("what", ["pipe", "socket", "device", "folder"])
def test_only_regular_files_are_replaced(save: Save, kind: str, what: str, overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / name(kind)
    special(path, what)
    before = os.lstat(path)
    with pytest.raises(StorageError, match=what) as caught:
        save(path, overwrite)
    assert str(path) in str(caught.value)
    after = os.lstat(path)
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert os.listdir(tmp_path) == [path.name]
    assert what != "folder" or (path / "precious").read_text() == "kept"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_does_not_replace_a_file(post: bl.Posterior, overwrite: bool, tmp_path: Path) -> None:
    path = tmp_path / "p.zarr"
    path.write_text("kept")
    with pytest.raises(StorageError, match="is a file"):
        post.save(path, overwrite=overwrite)
    assert path.read_text() == "kept"


def test_links_to_files_are_written_through(save: Save, kind: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link = tmp_path / "elsewhere" / name(kind, "b"), tmp_path / name(kind)
    save(file, False)
    link.symlink_to(file)
    before = file.stat().st_ino
    with pytest.raises(StorageError, match="overwrite=True"):
        save(link, False)
    save(link, True)
    assert link.is_symlink()
    assert file.stat().st_ino != before
    assert formula(link) == formula(file) == SMALL
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_to_nothing_and_circles_are_refused(save: Save, kind: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, circle = tmp_path / name(kind), tmp_path / name(kind, "c")
    link.symlink_to(tmp_path / "elsewhere" / "planted")
    circle.symlink_to(circle)
    for path in (link, circle):
        with pytest.raises(StorageError, match="link"):
            save(path, overwrite)
    assert not os.listdir(tmp_path / "elsewhere")


def test_the_name_of_what_is_written_first_cannot_be_planted(save: Save, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / name(kind)
    links = [tmp_path / f"{start}{path.name}.{os.getpid()}.{end}" for start in (".", "") for end in ("part", "tmp")]
    links += [tmp_path / f"{path.name}{end}" for end in (".part", ".tmp", "~")]
    for link in links:
        link.symlink_to(victim)
    seen = set[str]()
    for k in range(3):
        with pytest.MonkeyPatch.context() as patch:
            made = writing.tempfile.mkdtemp
            patch.setattr(writing.tempfile, "mkdtemp", lambda *a, _made=made, **k: seen.add(p := _made(*a, **k)) or p)
            save(path, k > 0)
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert all(link.is_symlink() for link in links)
    assert len(seen) == 3
    assert {Path(p).parent for p in seen} == {tmp_path}


def test_names_of_255_bytes(save: Save, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name(kind, "n" * (255 - len(name(kind, ""))))
    save(path, False)
    save(path, True)
    assert formula(path) == SMALL
    assert os.listdir(tmp_path) == [path.name]
    accents = tmp_path / name(kind, "\u00e9" * ((255 - len(name(kind, ""))) // 2))
    save(accents, False)
    assert formula(accents) == SMALL


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("n" * 256, "256 bytes|26[01] bytes|259 bytes"),
        ("a\0b", "no name of a file"),
        ("\ud800", "no name of a file"),
        ("missing/a", "does not exist"),
        ("file/a", "a file and no folder"),
    ],
)
def test_paths_that_cannot_be(save: Save, kind: str, stem: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=words):
        save(tmp_path / name(kind, stem), False)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("path", [3, None, b"bytes", ["a"], 1.5])
def test_what_is_no_path(path: Any) -> None:
    with pytest.raises(StorageError, match="no path"):
        FIT.save(path)


def test_all_who_save_to_one_path_at_once_succeed(save: Save, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name(kind)
    save(path, False)
    seen, done = list[bool](), threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.append(os.path.lexists(path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    repeats = 10 if kind in ("model", "fit") else 1
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(save, path, True) for _ in range(4 * repeats)]:
            future.result()
    done.set()
    watcher.join()
    assert all(seen)
    assert os.listdir(tmp_path) == [path.name]
    assert formula(path) == SMALL


def test_of_those_who_must_not_replace_one_wins(tmp_path: Path) -> None:
    path, start = tmp_path / "a", threading.Barrier(8)

    def attempt(k: int) -> int | None:
        target = destination(path)
        start.wait()
        try:
            with replacing(target) as part:
                part.write_text(str(k))
        except StorageError as error:
            assert "exists" in str(error)
            return None
        return k

    with ThreadPoolExecutor(8) as pool:
        winners = [k for k in pool.map(attempt, range(8)) if k is not None]
    assert [path.read_text()] == [str(k) for k in winners]
    assert os.listdir(tmp_path) == ["a"]


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = destination(tmp_path / "a")
    write_bytes(tmp_path / "a", b"first")
    with pytest.raises(StorageError, match="exists"), replacing(target) as part:
        part.write_bytes(b"second")
    assert (tmp_path / "a").read_bytes() == b"first"


def test_processes_that_save_to_one_path(tmp_path: Path) -> None:
    code = (
        "import bayeslmm as bl; m = bl.Model('Yield ~ 1 + (1 | Batch)', bl.load_dataset('Dyestuff'))\n"
        f"for _ in range(30): m.save({str(tmp_path / 'm')!r}, overwrite=True)"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(2)]
    for worker in workers:
        assert worker.communicate()[1] == b""
        assert worker.returncode == 0
    assert formula(tmp_path / "m") == SMALL
    assert os.listdir(tmp_path) == ["m"]


def whole_folders(place: Path, part: Path) -> None:
    for folder, text in ((place, "old"), (part, "new")):
        folder.mkdir(parents=True)
        (folder / "file").write_text(text)


def test_names_are_exchanged(tmp_path: Path) -> None:
    whole_folders(tmp_path / "a", tmp_path / "b")
    if not exchange(tmp_path / "a", tmp_path / "b"):
        assert sys.platform != "linux", "every file system of Linux that tests run on exchanges names"
        return
    assert [(tmp_path / k / "file").read_text() for k in "ab"] == ["new", "old"]
    assert not exchange(tmp_path / "a", tmp_path / "nothing")
    assert (tmp_path / "a" / "file").read_text() == "new"


@pytest.mark.parametrize("failing", [None, OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_stores_where_names_cannot_be_exchanged(
    failing: BaseException | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "exchange", lambda *_: False)
    place = tmp_path / "a.zarr"
    place.mkdir()
    (place / "file").write_text("old")
    rename, calls = os.rename, list[tuple[Path, Path]]()

    def second_fails(one: Path, two: Path) -> None:
        calls.append((one, two))
        if failing is not None and len(calls) == 3:
            assert not place.exists(), "the old one is away"
            raise failing
        rename(one, two)

    monkeypatch.setattr(os, "rename", second_fails)
    target = destination(place, overwrite=True, store=["file"])

    def replace() -> None:
        with replacing(target) as part:
            part.mkdir()
            (part / "file").write_text("new")

    if failing is None:
        replace()
    else:
        with pytest.raises(KeyboardInterrupt if isinstance(failing, KeyboardInterrupt) else StorageError):
            replace()
    assert (place / "file").read_text() == ("new" if failing is None else "old")
    assert os.listdir(tmp_path) == ["a.zarr"]


LIMITED = """
import os, resource, sys
import bayeslmm as bl
from bayeslmm.output import write, write_boundary, write_fit
from pathlib import Path
os.chdir(sys.argv[1])
model = bl.Model("Yield ~ 1 + (1 | Batch)", bl.load_dataset("Dyestuff"))
fit, post = model.fit(), model.sample(400, random_seed=1)
both, boundary, study = bl.compare(fit, post), fit.boundary(random_seed=1), bl.coverage_atlas()
# Bytecode of what is imported later would be cut off after 200 bytes, too, and stay so.
sys.dont_write_bytecode = True
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
calls = [
    lambda: model.save("model"), lambda: fit.save("fit"), lambda: fit.save("old", overwrite=True),
    lambda: post.save("p.nc"), lambda: post.save("p.zarr"), lambda: study.to_csv("t.csv"),
    lambda: write([("a", both)], Path("report/deep")), lambda: write_boundary(boundary, Path("boundary")),
    lambda: write_fit("a", fit, Path("estimates"), fit.tidy()),
    lambda: bl.coverage_study([bl.Cell("balanced", groups=6, size=5, icc=0.1)], 20, random_seed=1, store="store"),
]
for k, call in enumerate(calls):
    try:
        call()
    except bl.StorageError as error:
        assert "File too large. " in str(error) and isinstance(error.__cause__, OSError), error
    else:
        raise AssertionError(k)
print("all refused")
"""


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("precious")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("all refused\n", "")
    # The settings of the study, which are short, were written whole.
    assert sorted(os.listdir(tmp_path)) == ["old", "store"]
    assert os.listdir(tmp_path / "store") == ["study.json"]
    assert (tmp_path / "old").read_text() == "precious"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 200


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "bytes are free. Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, "Choose another folder"),
        (errno.EROFS, "can be written to"),
        (errno.EACCES, "you may write to"),
    ],
)
def test_errors_of_the_system_say_the_way_out(
    save: Save, kind: str, number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / name(kind)
    save(path, False)
    before = path.stat().st_ino
    for call in ("replace", "link", "rename") if number != errno.ENOSPC else ("mkdir",):
        monkeypatch.setattr(os, call, refuse)
    monkeypatch.setattr(writing, "exchange", lambda *_: False)
    with pytest.raises(StorageError, match=words) as caught:
        save(path, True)
    assert str(path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert path.stat().st_ino == before
    assert os.listdir(tmp_path) == [path.name]


def test_a_disk_that_is_found_full_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="No space left"):
        FIT.save(tmp_path / "a")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("odd")])
def test_nothing_is_left_of_what_is_stopped(error: BaseException, tmp_path: Path) -> None:
    target = destination(tmp_path / "a")
    with pytest.raises(type(error)), replacing(target) as part:
        part.write_text("half")
        raise error
    assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_is_removed_a_day_later(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from bayeslmm.files.writing import destination, replacing\n"
        f"with replacing(destination({str(tmp_path / 'a')!r})) as part:\n"
        "    part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code])
    (left,) = tmp_path.iterdir()
    FIT.save(tmp_path / "b")
    assert left.exists(), "it may still be written"
    others = [tmp_path / ".bayeslmm-mine", tmp_path / ".bayeslmm-link.part", tmp_path / ".bayeslmm-file.part"]
    others[0].mkdir()
    others[1].symlink_to(others[0])
    others[2].touch()
    long_ago = time.time() - 2 * 86_400
    for path in [*left.iterdir(), left, others[0], others[2]]:
        os.utime(path, (long_ago, long_ago))
    FIT.save(tmp_path / "b", overwrite=True)
    assert not left.exists()
    assert all(os.path.lexists(path) for path in others)


def test_what_another_user_left_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / ".bayeslmm-abc.part"
    left.mkdir()
    os.utime(left, (0, 0))
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    clear(tmp_path)
    assert left.exists()
    monkeypatch.undo()
    (left / "young").touch()
    os.utime(left, (0, 0))
    clear(tmp_path)
    assert left.exists()
    os.utime(left / "young", (0, 0))
    os.utime(left, (0, 0))
    clear(tmp_path)
    assert not left.exists()


def test_folders_are_looked_at_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.html").mkdir()
    check_folder(tmp_path / "new" / "deeper")
    check_folder(tmp_path, ["other.html"])
    for folder, names, words in (
        (tmp_path, ["report.html"], "is a folder"),
        (tmp_path / "new" / ("n" * 256), [], "256 bytes"),
        (tmp_path / "a\0b", [], "no name"),
        (3, [], "no path"),
    ):
        with pytest.raises(StorageError, match=words):
            check_folder(folder, names)
    assert os.listdir(tmp_path) == ["report.html"]

    def refuse(*_: object, **__: object) -> str:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(writing.tempfile, "mkdtemp", refuse)
    monkeypatch.setattr("studies.coverage.run.run_chunk", lambda _: pytest.fail("worked first"))
    with pytest.raises(StorageError, match="Read-only file system"):
        bl.coverage_study([CELL], 20, store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_finished_store_may_be_protected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bl.coverage_study([CELL], 20, random_seed=1, store=tmp_path)
    monkeypatch.setattr(os, "access", lambda *_: False)
    again = bl.coverage_study([CELL], 20, random_seed=1, store=tmp_path)
    assert again.table.equals(first.table)
    with pytest.raises(StorageError, match="cannot be written to"):
        bl.coverage_study([CELL], 40, random_seed=1, store=tmp_path)


def test_reports_replace_files_and_nothing_else(tmp_path: Path, post: bl.Posterior) -> None:
    both = bl.compare(FIT, post)
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "report.html").chmod(0o600)
    write([("a", both)], tmp_path)
    page = tmp_path / "report.html"
    assert page.read_text().startswith("<!doctype html>")
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    for call, file in (
        (lambda: write([("a", both)], tmp_path), "comparison.json"),
        (lambda: write_boundary(FIT.boundary(random_seed=1), tmp_path), "boundary.json"),
        (lambda: write_fit("a", FIT, tmp_path, FIT.tidy()), "fit.csv"),
        (lambda: bl.coverage_atlas().to_csv(tmp_path / "atlas.csv"), "atlas.csv"),
    ):
        (tmp_path / file).unlink(missing_ok=True)
        (tmp_path / file).mkdir()
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        with pytest.raises(StorageError, match="is a folder"):
            call()
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
