"""Which programs come to the supervisor: looked at before they start, and started as what was looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ground import BUSYBOX, NEEDS, Ground, a_ground

pytestmark = NEEDS


def test_a_script_of_the_build_is_no_machine_code(ground: Ground) -> None:
    """Its interpreter is looked at; for the script itself, a configure for instance, no supervisor is needed."""
    script = ground.base / "work" / "script"
    script.write_text("#!/bin/sh\ncat file\n")
    script.chmod(0o755)
    assert ground.run("/bin/sh", "-c", "./script").stdout == "work text\n"
    script.write_text("#\necho by the shell\n")
    spawn = (
        "import os\ntry:\n    os.posix_spawn('./script', ['s'], os.environ)\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    assert ground.run("/usr/bin/python3", "-c", spawn).stdout == "Exec format error\n"
    assert ground.run("/bin/sh", "-c", "./script").stdout == "by the shell\n"
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    assert not supervisor.running
    # a program that the build has made is another matter
    shutil.copy("/bin/cat", ground.base / "work" / "made")
    assert ground.run("/bin/sh", "-c", "./made file").stdout == "work text\n"
    assert supervisor.running


GO_NOTE = r"""
#include <stdio.h>
#include <string.h>
__asm__(".pushsection .note.go.buildid,\"a\",@note\n"
        ".balign 4\n.long 4, 6, 4\n.ascii \"Go\\0\\0id id\\n\\0\\0\"\n.popsection");
int main(void) {
    char line[200];
    for (FILE *f = fopen("/proc/self/status", "r"); fgets(line, sizeof line, f);)
        if (!strncmp(line, "Seccomp:", 8))
            fputs(line, stdout);
}
"""


def test_a_dynamic_program_of_go_is_supervised_whoever_it_belongs_to(ground: Ground) -> None:
    """Its runtime makes system calls past the C library; where C is linked in it has a loader as others have."""
    for name, source in (("go", GO_NOTE), ("other", GO_NOTE.replace("Go", "Oo"))):
        (ground.base / f"{name}.c").write_text(source)
        subprocess.run(["cc", "-O1", "-o", ground.base / name, ground.base / f"{name}.c"], check=True)
    for name, mode in (("other", "0"), ("go", "2")):
        program = str(ground.base / name)
        for words in ([program], ["/bin/sh", "-c", program], ["/usr/bin/env", program]):
            assert ground.run(*words).stdout.split() == ["Seccomp:", mode], words


def test_a_program_that_nobody_but_its_owner_can_read_is_held(ground: Ground) -> None:
    """A static one of root's, which cannot be looked at before."""
    program = Path(shutil.copy(BUSYBOX, ground.base))
    program.chmod(0o711)
    done = ground.run("/bin/sh", "-c", f"{program} cat file ../hidden/file; true")
    assert done.stdout == "work text\n"
    assert "No such file" in done.stderr


def test_without_memory_for_the_policy_a_program_is_held_all_the_same() -> None:
    """With less and less of it, until not even the C library finds room."""
    with a_ground("root" if os.geteuid() == 0 else "macports", more_rules=20_000) as ground:
        started = 0
        for kibibytes in range(12_000, 2_000, -250):
            done = ground.run("/bin/sh", "-c", f"ulimit -v {kibibytes}; exec cat ../hidden/file file")
            assert "hidden text" not in done.stdout, kibibytes
            started += done.stdout == "work text\n"
        assert 5 < started < 40
        supervisor = ground.trace._supervisor
        assert supervisor is not None
        assert supervisor.running, "some had the policy, and some had not"


def test_a_variable_that_names_a_file_outside_the_system_is_followed(ground: Ground) -> None:
    """The C library opens such by itself."""
    astray = (
        "TZ=:/var/x",
        "TZ=../x",
        "TZDIR=/var/x",
        "LOCPATH=/var/x",
        "LOCPATH=/usr/lib/locale/../x",
        "LANGUAGE=de:../x",
        "NLSPATH=/var/x/%N",
        "NLSPATH=/usr/share/%N:/var/x/%N",
        "DATEMSK=/var/x",
        "HOSTALIASES=/usr/x",
    )
    usual = (
        "TZ=Europe/Berlin",
        "TZ=:UTC",
        "TZDIR=/usr/share/zoneinfo",
        "LOCPATH=/usr/lib/locale",
        "LANGUAGE=de:en",
        "NLSPATH=/usr/share/locale/%N",
        "HOSTALIASES=/etc/hosts.alias",
        "LANG=de_DE.UTF-8",
    )
    for entries, mode in ((usual, "0"), (astray, "2")):
        for entry in entries:
            said = ground.run("/usr/bin/env", entry, "grep", "Seccomp:", "/proc/self/status").stdout
            assert said.split() == ["Seccomp:", mode], entry


def test_the_launcher_holds_to_what_it_looked_at(ground: Ground) -> None:
    """Scripts and links that the build can write: as without porttrace, but for the name of the process."""
    work = ground.base / "work"
    show = "#!/bin/sh -e\ncat /proc/$$/comm; tr '\\0' '|' </proc/$$/cmdline\n"
    for name, text in (("script", show), ("outer", f"#!{work}/script for outer\n"), ("plain", show[13:])):
        (work / name).write_text(text)
        (work / name).chmod(0o755)
    (work / "link").symlink_to("/bin/sh")
    real = Path(os.path.realpath("/bin/sh")).name
    assert ground.run("./script", "a b").stdout == "sh\n/bin/sh|-e|./script|a b|"
    assert ground.run("./outer").stdout == f"sh\n/bin/sh|-e|{work}/script|for outer|./outer|"
    assert ground.run("./link", "script").stdout == f"{real}\n./link|script|"
    supervisor = ground.trace._supervisor
    assert supervisor is not None
    assert not supervisor.running
    assert ground.run("./plain").stdout == "sh\n/bin/sh|./plain|"
    assert supervisor.running, "nothing says what the kernel will find there"
    (work / "script").chmod(0o644)
    done = ground.run("./script")
    assert (done.returncode, done.stdout, done.stderr) == (126, "", "porttrace-launch: ./script: Permission denied\n")


EXCHANGE = "for (1 .. 200000) { for ('static', 'plain') { link $_, 'n'; rename 'n', 'x' } }"


def test_the_launcher_starts_no_script_that_has_become_a_program(ground: Ground) -> None:
    work = ground.base / "work"
    (work / "plain").write_text("#!/bin/true\n")
    (ground.base / "static.c").write_text(
        f'#include <stdio.h>\nint main(void) {{ FILE *f = fopen("{ground.base}/hidden/file", "r");'
        ' puts(f ? "read" : "hidden"); return 0; }\n'
    )
    subprocess.run(["cc", "-static", "-o", work / "static", ground.base / "static.c"], check=True)
    for name in ("plain", "static"):
        (work / name).chmod(0o755)
        shutil.chown(work / name, work.stat().st_uid)  # or the kernel lets the build user make no link to it
    os.link(work / "plain", work / "x")
    with subprocess.Popen([*ground.trace.launch_argv, "/usr/bin/perl", "-e", EXCHANGE], cwd=work) as other:
        said = [ground.run("./x").stdout for _ in range(400)]
        other.kill()
    assert set(said) == {"", "hidden\n"}


ELSEWHERE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
int main(int argc, char **argv) {
    posix_spawn_file_actions_t actions;
    char *words[] = {"cat", "../file", "../../hidden/file", NULL}, *none[] = {NULL};
    pid_t pid;
    int status = 1;
    posix_spawn_file_actions_init(&actions);
    if (argc > 1) posix_spawn_file_actions_addfchdir_np(&actions, open("there", O_RDONLY));
    else posix_spawn_file_actions_addchdir_np(&actions, "there");
    if (posix_spawn(&pid, "./tool", &actions, NULL, words, none)) return 1;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}
"""


@pytest.mark.parametrize("how", [[], ["by descriptor"]])
def test_a_program_that_is_started_from_elsewhere_is_looked_at_there(ground: Ground, how: list[str]) -> None:
    """Here its name is a harmless script, there a static program that wants the hidden file."""
    (ground.base / "spawner.c").write_text(ELSEWHERE)
    spawner = ground.base / "spawner"
    subprocess.run(["cc", "-o", spawner, ground.base / "spawner.c"], check=True)
    (ground.base / "work" / "tool").write_text("#!/bin/true\n")
    (ground.base / "work" / "there").mkdir()
    shutil.copy(BUSYBOX, ground.base / "work" / "there" / "tool")
    (ground.base / "work" / "tool").chmod(0o755)
    done = ground.run(str(spawner), *how)
    assert done.stdout == "work text\n"
    assert "can't open '../../hidden/file'" in done.stderr
