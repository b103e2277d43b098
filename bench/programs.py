"""Small jobs of everyday programs, beside the builds of builds.py: what recall is measured on with ``--programs``.

No gdb: it cannot trace under strace. What is not installed is named and left out.
"""

# ruff: noqa: E501  (the scripts are clearer in long lines)

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

MAKE = """
all: one two
one two: %: %.c lib.h ; $(CC) -o $@ $<
"""
CMAKE = "cmake_minimum_required(VERSION 3.10)\nproject(t C)\nadd_library(l STATIC lib.c)\nadd_executable(one one.c)\n"
PYTHON = """
import glob, importlib, os, pathlib, shutil, sys, tempfile, zipfile
print(sorted(e.name for e in os.scandir("src") if e.is_file()))
shutil.copytree("src", "copy", symlinks=True); shutil.copy2("src/one.c", "copy/again.c")
list(pathlib.Path("src").rglob("*.c")); glob.glob("src/**/*.h", recursive=True); pathlib.Path("copy/again.c").touch()
with zipfile.ZipFile("m.zip", "w") as z: z.writestr("inzip.py", "x = 1")
sys.path.insert(0, "m.zip"); importlib.import_module("inzip")
with tempfile.TemporaryDirectory(dir=".") as d: pathlib.Path(d, "f").write_text("x"); os.link(d + "/f", d + "/g")
shutil.make_archive("arch", "gztar", "src"); os.replace("copy/again.c", "copy/new.c"); shutil.rmtree("copy")
os.stat("src", dir_fd=os.open(".", os.O_RDONLY)); os.chmod("m.zip", 0o600); os.utime("m.zip"); os.truncate("m.zip", 3)
os.walk("src"); shutil.which("cc"); os.path.realpath("src/way/one.c"); os.getxattr("m.zip", "user.x") if 0 else None
"""
PERL = """
use File::Find; use File::Copy; use File::Path qw(make_path remove_tree); use File::Temp qw(tempfile); use Cwd qw(abs_path getcwd);
find({ wanted => sub { -d $_ and 1 }, no_chdir => 1 }, "src"); finddepth(sub { lstat }, "src");
make_path("p/q/r"); copy("src/one.c", "p/c"); move("p/c", "p/d"); chmod 0600, "p/d"; utime 1, 2, "p/d"; my ($fh, $n) = tempfile("tmpXXXXXX", DIR => "p");
opendir(my $d, "src"); my @e = readdir $d; abs_path("src/way"); remove_tree("p"); my @g = glob("src/*.c"); -e "none"; -x "/bin/sh";
open(my $p, "-|", "cat src/one.c | tr a b"); my @l = <$p>; symlink("a", "l"); readlink "l"; unlink "l"; rename "none", "nowhere";
"""


@dataclass(frozen=True)
class Program:
    """`script` runs under sh in a directory with a small tree `src`; it has the interface of a Build."""

    name: str
    needs: str
    script: str
    source: str = "a small tree"

    def tree(self, cache: Path) -> Path:
        """The directory to copy: made anew, because it is ours."""
        top = cache / "programs.tree"
        shutil.rmtree(top, ignore_errors=True)
        src = top / "src"
        (src / "deep/er/still").mkdir(parents=True)
        (src / "deep/er/still/x.h").write_text("#define X 1\n")
        for name in ("one", "two"):
            (src / f"{name}.c").write_text('#include "lib.h"\nint main(void) { return lib(0); }\n')
        (src / "lib.h").write_text("static inline int lib(int x) { return x; }\nint far(int);\n")
        (src / "lib.c").write_text('#include "lib.h"\nint far(int x) { return x + 1; }\n')
        (src / "way").symlink_to("deep/..")
        (src / "dangling").symlink_to("none")
        (src / "Makefile").write_text(MAKE)
        (src / "CMakeLists.txt").write_text(CMAKE)
        (src / "use.py").write_text(PYTHON)
        (src / "use.pl").write_text(PERL)
        (src / "run.sh").write_text("for i in 1 2 3; do (cd src && ls *.c >/dev/null; . ./env.sh) & done; wait\n")
        (src / "env.sh").write_text("test -f one.c && [ -d deep ] && X=$(cat lib.h)\n")
        (src / "x.po").write_text(
            'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr "b"\n'
        )
        (src / "one.rs").write_text('fn main() { print!("{}", include_str!("lib.h")); }\n')
        (src / "configure.ac").write_text("AC_INIT([t],[1])\nAC_PROG_CC\nAC_OUTPUT\n")
        (src / "in.m4").write_text("define(`x', `y')include(`lib.h')sinclude(`none')x\n")
        (src / "use.tcl").write_text(
            "foreach f [glob src/*] { catch { file stat $f s }; file type $f }\nfile mkdir a/b; file copy src/one.c a/b; file rename a/b a/c\n"
            "file delete -force a; cd src; pwd; exec ls; source [file join . empty.tcl]\n"
        )
        (src / "empty.tcl").write_text("\n")
        (src / "use.js").write_text(
            "const fs=require('fs');fs.readdirSync('src');fs.mkdirSync('j/k',{recursive:true});fs.copyFileSync('src/one.c','j/k/c');"
            "fs.renameSync('j/k/c','j/d');fs.rmSync('j',{recursive:true});fs.existsSync('none');require('./lib2.js');\n"
        )
        (src / "lib2.js").write_text("module.exports=1\n")
        (src / "Use.java").write_text("class Use { public static void main(String[] a) {} }\n")
        for path in (src, *src.rglob("*")):  # what a tool does must not depend on how long ago the tree was made
            os.utime(path, (1_000_000_000, 1_000_000_000), follow_symlinks=False)
        return top


def _p(name: str, needs: str, script: str) -> Program:
    return Program(name, needs, script)


PROGRAMS = [
    _p("python files", "python3", "python3 src/use.py && python3 -m compileall -q src && python3 -m venv --without-pip v"),
    _p("git", "git", "cd src && git init -q . && git add -A && git -c user.name=n -c user.email=e@x commit -qm m && "
       "git clone -q . ../other && git gc -q && cd ../other && git status && git log && git rm -q one.c && git stash -q || true"),
    _p("rsync", "rsync", "rsync -a src/ to/ && touch src/one.c && rsync -a --delete --link-dest=../src src/ linked/"),
    _p("tar and cpio", "tar", "tar --xattrs -cf a.tar src && mkdir x && tar --xattrs -xpf a.tar -C x && tar -dvf a.tar && "
       "if command -v cpio >/dev/null; then find src | cpio -o -H newc > b.cpio && mkdir y && cd y && cpio -id < ../b.cpio; fi"),
    _p("find and coreutils", "find", "find src -newer src/one.c -exec ls -l {} + ; find src -type l -exec readlink -f {} \\; ; "
       "install -D -m 600 src/one.c i/j/k && install -d i/e && cp -al src hard && mv hard soft && ln -sfn src/deep ln && "
       "ln -sfn src ln && stat -L ln && du -s src && touch -h -d yesterday ln && chmod -R u+w soft && chown -hR 0 soft; "
       "mkfifo ff && rm -rf soft && mktemp -d -p . && truncate -s 9 t && split -b 3 t s. && cat s.* | sort -u -T . && "
       "dd if=t of=u bs=1 count=2 && sync u && realpath src/way && test -e none || test -x /bin/sh && df . && shred -u u && ls -laR src"),
    _p("perl files", "perl", "perl src/use.pl"),
    _p("parallel shell", "sh", "sh src/run.sh; dash src/run.sh; bash src/run.sh; echo src/*/*.h; "
       "bash -c 'shopt -s globstar; echo src/**; cat < src/one.c > o; [[ -f o && src/one.c -nt o ]]; exec 3<>o; echo x >&3; pushd src; popd'; "
       "cat <<X >h\nhere\nX\nfor f in src/*; do test -L $f; done; (umask 077; : > priv); find src -name '*.c' | xargs -P2 -n1 wc -l"),
    _p("make, ar and linkers", "make", "cd src && make -j2 && cc -c lib.c one.c && ar rcs libl.a lib.o && ranlib libl.a && "
       "cc -o three one.o -L. -ll && cc -shared -fPIC -o libs.so lib.c && strip three && objcopy three four && nm -D libs.so && "
       "readelf -d libs.so && for l in bfd gold lld; do cc -fuse-ld=$l -o $l one.o lib.o || true; done; ld -r -o r.o one.o lib.o && "
       "cc -flto -O2 -save-temps -o five one.c && g++ -x c++ -c two.c && size four && ldd three"),
    _p("cmake and ninja", "ninja", "cmake -G Ninja -S src -B b && cmake --build b && ninja -C b -t clean && cmake --install b --prefix i || true"),
    _p("busybox", "busybox", "B=busybox; $B sh -c 'busybox ls -l src; busybox find src; busybox cp -a src c; busybox tar -cf t.tar src; "
       "busybox rm -r c; busybox vi -h || true; busybox install -d q; busybox mv q r; busybox ln -s r l; busybox sed -i s/a/b/ src/one.c'"),
    _p("autoreconf and m4", "autoreconf", "cd src && m4 in.m4; autoconf && ./configure -q"),
    _p("texts", "patch", "cp src/one.c n.c; sed -i.bak s/lib/LIB/ n.c; diff -u src/one.c n.c > p.diff; patch -b src/one.c p.diff; diff -r src .; "
       "file src/*; awk '{print > \"aw\"}' src/one.c; grep -r lib src; msgfmt -o x.mo src/x.po; pkg-config --list-all; gzip -k n.c; "
       "xz -k n.c; bzip2 -k n.c; zcat n.c.gz; cmp n.c n.c.bak; comm src/one.c src/two.c; tee a b < n.c; cksum n.c; sha256sum -c none; true"),
    _p("archivers", "zip", "zip -qr a.zip src && unzip -q a.zip -d u && unzip -l a.zip; zstd -q src/one.c -o o.zst && zstd -qd o.zst -o o.c; "
       "lz4 -q src/one.c o.lz4; mkdir -p d/DEBIAN d/usr && printf 'Package: p\\nVersion: 1\\nArchitecture: all\\nMaintainer: m <m@x>\\nDescription: d\\n' "
       "> d/DEBIAN/control && dpkg-deb -b d d.deb && dpkg-deb -x d.deb e && dpkg-deb -I d.deb"),
    _p("fetchers and keys", "curl", "curl -s -o c.c file://$PWD/src/one.c; curl -s file://$PWD/none; wget -q -O w file:///none; openssl dgst -sha256 src/one.c; "
       "openssl genrsa -out k.pem 1024; ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -lf key.pub; true"),
    _p("editors", "ed", "printf '1s/lib/LIB/\\nw\\nq\\n' | ed -s src/one.c; ex -s -c 's/lib/LIB/' -c wq src/two.c; echo '1+1' | bc; ctags -f t src/one.c; less src/lib.h | cat; true"),
    _p("manuals", "groff", "printf '.TH A 1\\n.so src/lib.h\\nx\\n' > a.1; groff -man -Tascii a.1; man -l a.1; pod2man src/use.pl p.1; gettext a; prove -v src/none.t; true"),
    _p("rust", "rustc", "rustc --crate-type lib --emit metadata -o m.rmeta src/one.rs; rustc -C linker=none src/one.rs; true"),
    _p("caches", "fc-cache", "ldconfig -N -f none -C c; fc-cache -r -y none; mkdir -p s && glib-compile-schemas s; gtk-update-icon-cache -q -f src; gcov none; lsof -v; unshare true; script -qc true l; true"),
    _p("gawk", "gawk", "gawk 'BEGIN { while ((getline l < \"src/one.c\") > 0) n++; print n > \"o\"; close(\"o\"); \"cat src/lib.h\" | getline x; print x | \"sort\"; "
       "system(\"test -e none\"); getline y < \"none\" }' && gawk -i inplace '{ print }' o; gawk -l filefuncs 'BEGIN { stat(\"src\", d); chdir(\"src\") }'; true"),
    _p("bison and flex", "bison", "printf '%%%%\\ns: ;\\n%%%%\\n' > g.y; bison -d g.y; printf '%%%%\\nx ;\\n' > l.l; flex l.l; true"),
    _p("sqlite", "sqlite3", "sqlite3 d.db 'create table t(a); insert into t values(1); pragma journal_mode=wal; insert into t values(2); vacuum;'"),
    _p("tcl", "tclsh", "tclsh src/use.tcl"),
    _p("node", "node", "node src/use.js"),
    # without the file in /tmp that the first of the two runs leaves to the second
    _p("java", "javac", "javac -J-XX:-UsePerfData -d c src/Use.java && java -XX:-UsePerfData -cp c Use"),
    _p("other shells", "zsh", "zsh -fc 'echo src/**/*.c; . src/env.sh'; ksh -c '. src/run.sh' || true"),
    _p("ccache", "ccache", "export CCACHE_NOSTATS=1; CCACHE_DIR=$PWD/cc ccache cc -c src/one.c -o o.o && CCACHE_DIR=$PWD/cc ccache cc -c src/one.c -o o.o"),
    _p("ruby", "ruby", "ruby -rfileutils -e 'FileUtils.cp_r(\"src\",\"r\"); Dir.glob(\"src/**/*\"); FileUtils.rm_rf(\"r\"); require \"json\"'"),
]  # fmt: skip
