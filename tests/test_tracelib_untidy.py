"""Paths with "..", "." and "//": the second time the same answers, from the kernel or from what is kept."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tracelib_session import Session, compile_c

SOURCE = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	for (int round = 0; round < 3; round++)
		for (int i = 1; i < argc; i++) {
			struct stat st = { .st_ino = 0 };
			int stat_error = stat(argv[i], &st) ? errno : 0;
			int access_error = access(argv[i], R_OK) ? errno : 0;
			int fd = open(argv[i], O_RDONLY), open_error = fd < 0 ? errno : 0;
			close(fd);
			unsigned long inode = st.st_ino;
			printf("%d %s %lu %d %d %d\n", round, argv[i], inode, stat_error, access_error, open_error);
		}
	return 0;
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "look.c").write_text(SOURCE)
    return compile_c(tmp_path / "look.c", tmp_path / "look")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name in ("a/b/c", "other/deep", "hidden/dir", "soft"):
        (tree / name).mkdir(parents=True)
    for name in ("plain0", "plain1", "a/file", "a/b/file", "a/b/c/file", "other/file", "hidden/file", "plain"):
        (tree / name).touch()
    (tree / "link").symlink_to("a/b/c")
    (tree / "away").symlink_to("other/deep")
    (tree / "in").symlink_to("hidden/dir")
    return tree


def written(tree: Path) -> list[str]:
    """Each directory part that leads somewhere or nowhere, before each of a few last parts."""
    ways = (
        *(
            "a/b/..",
            "a/b/../..",
            "a/b/../b",
            "a/b/c/../..",
            "a//b",
            "a/./b",
            "./a",
            "//a",
            "a/b/c/../../..//a",
            "a/b/.",
        ),
        *("link/..", "away/..", "link/../..", "plain/..", "plain/.", "none/..", "none/.", "a/none/../..", "a/file/.."),
        *("hidden/..", "hidden/../a", "hidden/dir/..", "in/..", "a/../hidden", "a/b/../../hidden/dir/.."),
    )
    last = ("file", "none", "b", "b/", "b/file", "plain", "..", ".", "")
    return [f"{tree}/{way}/{name}" for way in ways for name in last] + [
        f"{tree}/a/../link",
        "/..",
        "/../",
        f"/..{tree}/plain",
    ]


@pytest.mark.parametrize("writable", [False, True])
def test_untidy_paths_mean_what_they_meant_the_first_time(program: Path, tree: Path, writable: bool) -> None:
    paths = written(tree)
    plain = subprocess.run([program, *paths], capture_output=True, text=True, check=True).stdout.splitlines()
    with Session(f"r:{tree}/hidden=-", f"w:{tree}={'+' if writable else '-'}", "r:/=+", "w:/=-") as session:
        traced = session.run(program, *paths).stdout.splitlines()
    hidden = {str((tree / name).stat().st_ino) for name in ("hidden", "hidden/dir", "hidden/file")}
    shutil.rmtree(tree / "hidden")  # what the program may see of the tree is what there is without it
    without = subprocess.run([program, *paths], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(traced) == len(plain) == len(without) == 3 * len(paths)
    assert traced == without
    assert plain != without and not {line.split()[2] for line in traced} & hidden


@pytest.mark.parametrize("writable", [False, True])
def test_what_can_be_exchanged_is_asked_for_again(tree: Path, tmp_path: Path, writable: bool) -> None:
    """A directory of the way becomes a link to a hidden place; the kernel would go there."""
    (tmp_path / "swap.c").write_text(
        r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	for (int i = 0; i < 2; i++) {
		char path[4096];
		snprintf(path, sizeof path, "%s%d", argv[1], i);
		printf("%d\n", access(path, R_OK) ? errno : 0);
		if (!i && (rmdir(argv[2]) || (argc > 3 && symlink(argv[3], argv[2]))))
			printf("not exchanged: %d\n", errno);
	}
	return argc >= 3 ? 0 : 1;
}
"""
    )
    program = compile_c(tmp_path / "swap.c", tmp_path / "swap")
    with Session(f"r:{tree}/hidden=-", f"w:{tree}={'+' if writable else '-'}", "r:/=+", "w:/=-") as session:
        done = session.run(program, tree / "soft/../a/../plain", tree / "soft", tree / "hidden/dir")
        assert done.stdout.split() == (["0", "2"] if writable else ["0", "not", "exchanged:", "13", "0"])
        if writable:  # and gone is gone, whatever lies beside it
            (tree / "soft").unlink()
            (tree / "soft").mkdir()
            assert session.run(program, tree / "soft/../a/../plain", tree / "soft").stdout.split() == ["0", "2"]


def test_steps_up_are_asked_for_once(program: Path, tree: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("NOT CHECKED: strace, which counts how often, is not on this machine")
    log = tmp_path / "log"
    paths = [f"{tree}/a/b/c/../../{name}" for name in ("b", "b/", "none", "file", "b/c/file")]
    with Session("w:/=-", "r:/=+") as session:
        argv = [
            "strace",
            "-qq",
            "-e",
            "trace=newfstatat,readlink,readlinkat",
            "-o",
            log,
            "-E",
            f"LD_PRELOAD={session.library}",
        ]
        subprocess.run([*argv, program, *paths], check=True, stdout=subprocess.DEVNULL)
    asked = [line.split('"')[1] for line in log.read_text().splitlines() if '"' in line]
    for way in ("a/b/c", "a/b"):
        assert asked.count(f"{tree}/{way}") <= 3, asked  # is it a link? a directory? and once by that name itself
