"""What a phase may see, derived from the registry."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porttrace.closure import (
    DEPTYPES_FOR_TARGET,
    Depspec,
    closure,
    closure_chains,
    library_file,
    provider,
)
from porttrace.registry import NewPort, Registry


def fill(file: Path, graph: dict[str, tuple[str, ...]]) -> Registry:
    registry = Registry.open(file, write=True)
    with registry.transaction():
        for name, needed in graph.items():
            registry.activate(registry.add(NewPort(name, "1", depends=needed)))
    return registry


def test_types_of_dependencies_by_target() -> None:
    fetch, extract, patch = "depends_fetch", "depends_extract", "depends_patch"
    lib, build, run, test = "depends_lib", "depends_build", "depends_run", "depends_test"
    expected = {
        "fetch": {fetch},
        "checksum": {fetch},
        "extract": {fetch, extract},
        "patch": {fetch, extract, patch},
        "configure": {fetch, extract, patch, lib, build},
        "build": {fetch, extract, patch, lib, build},
        "test": {fetch, extract, patch, lib, build, run, test},
        "destroot": {fetch, extract, patch, lib, build, run},
        "archive": {fetch, extract, patch, lib, build, run},
        "install": {lib, run},
        "activate": {lib, run},
    }
    assert {target: set(DEPTYPES_FOR_TARGET[target]) for target in expected} == expected


def test_the_closure_goes_all_the_way_whatever_the_case(tmp_path: Path) -> None:
    with fill(tmp_path / "r.db", {"A": ("b",), "B": ("C", "a"), "c": (), "stray": ("a",)}) as registry:
        assert closure(registry, ["a"]) == {"a", "b", "c"}
        assert closure(registry, ["Stray"]) == {"stray", "a", "b", "c"}
        assert closure(registry, ["not-installed", "C"]) == {"not-installed", "c"}
        assert closure(registry, []) == frozenset()


def test_the_chain_says_why(tmp_path: Path) -> None:
    graph = {"gtk": ("glib", "pango"), "pango": ("cairo",), "cairo": ("glib",), "glib": ("pcre",), "pcre": ()}
    with fill(tmp_path / "r.db", graph) as registry:
        chains = closure_chains(registry, ["gtk"])
    assert chains["gtk"] == ("gtk",)
    assert chains["pcre"] == ("gtk", "glib", "pcre"), "the shortest one"
    assert chains["cairo"] == ("gtk", "pango", "cairo")


def test_an_inactive_version_counts_only_where_none_is_active(tmp_path: Path) -> None:
    with Registry.open(tmp_path / "r.db", write=True) as registry:
        registry.add(NewPort("foo", "1", depends=("old",)))
        assert closure(registry, ["foo"]) == {"foo", "old"}
        registry.activate(registry.add(NewPort("foo", "2", depends=("new",))))
        assert closure(registry, ["foo"]) == {"foo", "new"}


names = st.integers(0, 11).map(lambda n: f"p{n}")


@settings(max_examples=60, deadline=None)
@given(
    graph=st.dictionaries(names, st.sets(names, max_size=3).map(tuple), max_size=12), start=st.sets(names, max_size=3)
)
def test_closure_equals_what_sql_says(
    tmp_path_factory: pytest.TempPathFactory, graph: dict[str, tuple[str, ...]], start: set[str]
) -> None:
    file = tmp_path_factory.mktemp("closure") / "r.db"
    with fill(file, graph) as registry:
        found = closure(registry, start)
        chains = closure_chains(registry, start)
    raw = sqlite3.connect(file)
    raw.execute("CREATE TEMP TABLE start (name TEXT)")
    raw.executemany("INSERT INTO start VALUES (?)", ((name,) for name in start))
    rows = raw.execute(
        "WITH RECURSIVE c(name) AS (SELECT name FROM start UNION SELECT d.name FROM c JOIN ports p ON p.name = c.name"
        " JOIN dependencies d ON d.id = p.id) SELECT name FROM c"
    ).fetchall()
    raw.close()
    assert found == {row[0] for row in rows}
    for name, chain in chains.items():
        assert chain[0] in start and chain[-1] == name
        for one, next_one in itertools.pairwise(chain):
            assert next_one in graph[one]


def test_depspecs() -> None:
    assert Depspec.parse("port:foo") == Depspec("port", "", "foo")
    assert Depspec.parse("bin:perl:perl5") == Depspec("bin", "perl", "perl5")
    for bad in ("foo", "bin:foo", "port:", "lib::x", "exe:a:b", "path:a/b:c:d"):
        with pytest.raises(ValueError, match=r"invalid depspec: .*; write port:NAME"):
            Depspec.parse(bad)
    assert library_file("libfoo.1", darwin=False) == "libfoo.so.1"
    assert library_file("libfoo.1", darwin=True) == "libfoo.1.dylib"


def test_a_file_dependency_is_the_port_that_has_the_file(tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    for relative in ("bin/tool", "lib/libz.so.1", "share/x/data", "bin/unowned"):
        file = prefix / relative
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        file.chmod(0o755)
    with Registry.open(tmp_path / "r.db", write=True) as registry:
        for name, relative in (("tool-devel", "bin/tool"), ("zlib-ng", "lib/libz.so.1"), ("x", "share/x/data")):
            registry.activate(registry.add(NewPort(name, "1", files=(bytes(prefix / relative),), depends=("base",))))
        assert provider(registry, "bin:tool:tool", prefix) == "tool-devel"
        assert provider(registry, "path:share/x/data:y", prefix) == "x"
        assert provider(registry, "lib:libabsent.9:zlib", prefix) == "zlib"
        assert provider(registry, "bin:no-such-program:tool", prefix) == "tool"
        assert provider(registry, "bin:sh:bash", prefix, path=["/bin"]) is None, "the system's own will do"
        assert provider(registry, "bin:unowned:tool", prefix) is None
        assert provider(registry, "port:X", prefix) == "x"
        assert provider(registry, "bin:sh:X", prefix) == "x", "an active port of that name comes first"
