"""Make code, tests and documentation from ``csrc/calls.table``.

usage: gen_calls.py TABLE {wrappers|ops.h|ops.c|tests|coverage|names|reals|interpose} [OUTPUT]

``wrappers``  C text of the plain wrappers and of all aliases
``ops.h``     ``enum pt_op``: one number for each row
``ops.c``     the names that go with the numbers
``tests``     C text of a helper program that makes each call once
``coverage``  Markdown table for ``docs/coverage.md``
``names``     every name with its form, one a line (for lists that other platforms and tiers need)
``reals``     macOS: declarations of the functions behind the wrappers, by their names in the symbol table
``interpose`` macOS: the plain wrappers, and the section ``__DATA,__interpose``
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

ACCESS = ("read", "stat", "exec", "list", "readlink", "write", "create", "delete", "rename", "link", "attributes")
READS = ACCESS[:5]
PLATFORMS = ("all", "linux", "darwin")


@dataclass
class PathArg:
    """One path parameter of a call."""

    name: str
    dirfd: str
    letters: str
    follow: str
    access: str


@dataclass
class Row:
    """One line of the table."""

    name: str
    form: str
    platform: str = "linux"
    machine: str = ""
    result: str = ""
    parameters: list[tuple[str, str]] = field(default_factory=list)
    signature: str = ""
    paths: str = ""
    after: str = ""
    test: str = ""
    line: int = 0

    @property
    def target(self) -> str:
        """The row that an alias stands for."""
        return self.form[1:].strip() if self.form.startswith("=") else ""

    @property
    def identifier(self) -> str:
        """The name in C: symbols of macOS hold a dollar sign."""
        return self.name.replace("$", "_")

    @property
    def refused(self) -> str:
        """When the call is refused whatever its paths are: an expression, or nothing."""
        m = re.search(r"\brefused(?:\?(\(.*\)))?$", self.after)
        return (m[1] or "1") if m else ""

    @property
    def then(self) -> str:
        """What is to be done when the call was made."""
        return re.sub(r"\s*\brefused.*", "", self.after)

    def path_args(self) -> list[PathArg]:
        args = []
        pattern = re.compile(r"(\w+)(?:@(\w+))?(?::([a-z0]*))?(?:\?(\(.*?\)))?=(\w+)(?:\s+|$)")
        at = 0
        while at < len(self.paths):
            m = pattern.match(self.paths, at)
            if not m or m[5] not in ACCESS:
                raise SystemExit(f"calls.table:{self.line}: cannot read the paths column at {self.paths[at:]!r}")
            letters = m[3] or ""
            follow = m[4] or ("1" if "f" in letters else "0")
            args.append(PathArg(m[1], m[2] or "AT_FDCWD", letters, follow, m[5]))
            at = m.end()
        return args


def split_parameters(text: str) -> list[tuple[str, str]]:
    """``(declaration, name)`` of each parameter; commas inside parentheses do not split."""
    parts, depth, current = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += c
    parts.append(current.strip())
    found = []
    for part in parts:
        m = re.search(r"\(\*(\w+)\)", part) or re.search(r"(\w+)(?:\[\w*\])?$", part)
        found.append((part, m[1] if m else ""))
    return found


def read(path: Path, platform: str = "linux") -> list[Row]:
    """The rows of one platform (``linux``, ``darwin``), or with ``any`` all of them."""
    rows: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in re.split(r"\s\|(?=\s|$)", line, maxsplit=5)]
        cells += [""] * (6 - len(cells))
        if len(cells) < 2 or len(cells) > 6:
            raise SystemExit(f"calls.table:{number}: {len(cells)} columns, at most 6 are known")
        form, _, where = (cell.strip() for cell in cells[1].partition("@"))
        where, _, machine = where.partition("/")
        if where not in ("", *PLATFORMS):
            raise SystemExit(f"calls.table:{number}: unknown platform {where!r}")
        row = Row(cells[0], form, where or "linux", machine, line=number, signature=cells[2], paths=cells[3])
        row.after, row.test = cells[4:]
        if row.form in ("plain", "hand"):
            m = re.match(r"(.*?)\s*\((.*)\)$", row.signature)
            if not m:
                raise SystemExit(f"calls.table:{number}: no signature of the form: result (parameters)")
            row.result = m[1]
            row.parameters = split_parameters(m[2])
        elif not row.target and row.form != "not":
            raise SystemExit(f"calls.table:{number}: unknown form {row.form!r}")
        if platform in ("any", row.platform) or row.platform == "all":
            rows.append(row)
    names = {row.name for row in rows if row.form != "not"}
    for row in rows:
        if row.target and row.target not in names:
            raise SystemExit(f"calls.table:{row.line}: {row.name} stands for {row.target}, which has no row")
    return rows


def wrapper(row: Row, name: str = "", *, holds: bool = True) -> str:
    """The text of a plain row's wrapper; `name`: of a twin of the row, which calls the twin's own function; `holds`:
    the platform can hold what was judged."""
    name = name or row.identifier
    args = row.path_args()
    held = holds and "h" in args[0].letters
    failure = "NULL" if "*" in row.result else "-1"
    declaration = ", ".join(d for d, _ in row.parameters)
    names = [n for _, n in row.parameters]
    out = [f"PT_EXPORT {row.result} PT_WRAP({name})({declaration})", "{"]
    out.append(f"\ttypedef {row.result} real_t({declaration});")
    out.append(f"\treal_t *real = PT_REAL(real_t, {name});")
    out.append(f"\tif (unlikely(!real)) {{\n\t\terrno = ENOSYS;\n\t\treturn {failure};\n\t}}")
    null = [a for a in args if "0" in a.letters]
    if null:
        judged = f"pt_judge_fd(PT_OP_{row.identifier}, {null[0].dirfd})"
        out.append(f"\tif (!{null[0].name}) {{\n\t\tint refused = {judged};\n\t\tif (!refused)")
        out.append(f"\t\t\treturn real({', '.join(names)});")
        out.append(f"\t\terrno = refused;\n\t\treturn {failure};\n\t}}")
    if held and args[0].access in READS:
        out += _looks_quickly(row, args[0], names)
    elif held:
        out += _changes_quickly(row, args[0], names)
    elif len(args) == 1 and not row.after:
        out += _goes_quickly(args[0], names)
    out += _judged(row, args, names, held=held)
    replaced = {a.name: f"at{n}.path" for n, a in enumerate(args)}
    replaced |= {a.dirfd: f"at{n}.dirfd" for n, a in enumerate(args) if a.dirfd != "AT_FDCWD"}
    call = ", ".join(replaced.get(n, n) for n in names)
    out.append(f"\t{row.result} result = {failure};" if "*" not in row.result else f"\t{row.result}result = NULL;")
    moves = row.then in ("link", "rename")
    begins = "\t\tpt_move_begins();\n" if moves else ""
    out.append(f"\tif (!error) {{\n{begins}\t\tresult = real({call});")
    out.append(f"\t\tif (result == {failure})\n\t\t\terror = errno;")
    if row.then:
        last = f"at{len(args) - 1}"
        out.append(f"\t\telse\n\t\t\tpt_after_{row.then}(&at0, &{last});")
    out.append("\t\tpt_move_ends();\n\t}" if moves else "\t}")
    if held:
        out.append("\tpt_let_go(held);")
    op = f"PT_OP_{row.identifier}"
    for n in reversed(range(len(args))):
        out.append(f"\tpt_done({op}, &at{n}, error);")
    out.append(f"\tif (result == {failure})\n\t\terrno = error;\n\treturn result;\n}}")
    return "\n".join(out) + "\n"


def _access(arg: PathArg) -> str:
    return f"PT_ACC_{arg.access.upper()}"


def _looks_quickly(row: Row, arg: PathArg, names: list[str]) -> list[str]:
    """Asked by the path, and believed unless a name has moved meanwhile."""
    given = f"{arg.dirfd}, &by, {_access(arg)}, copy"
    sure = {
        "0": f"pt.log ? PT_NOT_QUICK : pt_quick_held({given}, NULL, &generation)",
        "1": f"pt_quick_held_follow({given}, &generation)",
    }[arg.follow]
    call = ", ".join("by" if n == arg.name else n for n in names)
    return [
        f"\tchar copy[PT_COPY];\n\tconst char *by = {arg.name};\n\tuint64_t generation;",
        f"\tenum pt_held sure = {sure};\n\tif (likely(sure)) {{",
        f"\t\tint kept = errno;\n\t\t{row.result} seen = real({call});",
        "\t\tif (likely(pt_was_judged(sure, generation)))\n\t\t\treturn seen;\n\t\terrno = kept;\n\t}",
    ]


def _changes_quickly(row: Row, arg: PathArg, names: list[str]) -> list[str]:
    """Made on a descriptor of what was judged, where its path could be exchanged."""
    takes = "true" if arg.dirfd in names else "false"
    call = ", ".join({arg.name: "by", arg.dirfd: "way.dirfd"}.get(n, n) for n in names)
    by = f"pt_quick_changed({arg.dirfd}, {arg.name}, {_access(arg)}, {arg.follow}, {takes}, &way)"
    return [
        f"\tstruct pt_changing way;\n\tconst char *by = {by};\n\tif (likely(by)) {{",
        f"\t\t{row.result} done = real({call});",
        "\t\tpt_let_go(way.held);\n\t\treturn done;\n\t}",
    ]


def _goes_quickly(arg: PathArg, names: list[str]) -> list[str]:
    """Made by the path, where it is plainly allowed."""
    quick = "pt_quick" if arg.follow == "0" else "pt_quick_follow"
    return [f"\tif (likely({quick}({arg.dirfd}, {arg.name}, {_access(arg)})))\n\t\treturn real({', '.join(names)});"]


def _judged(row: Row, args: list[PathArg], names: list[str], *, held: bool) -> list[str]:
    """Each path judged, into ``at0`` and ``at1``, and what comes of it, into ``error``."""
    out = []
    for n, a in enumerate(args):
        flags = []
        if a.follow != "0":
            flags.append("PT_FOLLOW" if a.follow == "1" else f"({a.follow} ? PT_FOLLOW : 0)")
        if "x" in a.letters:
            flags.append("PT_EXCL")
        if "e" in a.letters:
            flags.append("PT_EMPTY")
        if "m" in a.letters:
            flags.append("PT_MAY_CREATE")
        if held and a.dirfd in names:
            flags.append("PT_TAKES_DIRECTORY")
        out.append(
            f"\tstruct pt_at at{n} = {{ .dirfd = {a.dirfd}, .path = {a.name}, .access = {_access(a)},"
            f" .flags = {' | '.join(flags) or '0'} }};"
        )
    op = f"PT_OP_{row.identifier}"
    out.append(f"\tint error = pt_judge({op}, &at0);")
    if len(args) == 2:
        out.append("\tat1.slab = NULL;\n\tif (!error)\n\t\terror = pt_judge(" + op + ", &at1);")
        swapped = "flags & RENAME_SWAP && " if "flags" in names else ""
        for a, one, other, unless in ((args[0], 0, 1, ""), (args[1], 1, 0, swapped)):
            if "r" in a.letters:
                out.append(f"\tif ({unless}!error)\n\t\terror = pt_judge_shown({op}, &at{one}, &at{other});")
    if row.refused:
        out.append(f"\tif (!error && {row.refused} && pt_refuses())\n\t\terror = EPERM;")
    if held:
        out.append("\tint held = -1;\n\tif (!error)\n\t\terror = pt_hold_path(&at0, &held);")
    return out


def alias(name: str, target: str) -> str:
    """Another name for a wrapper. In assembly: headers may give it a type of its own (struct stat64)."""
    return f'__asm__(".globl {name}\\n.set {name}, {target}");'


def wrappers(rows: list[Row]) -> str:
    by_name = {row.name: row for row in rows if row.form != "not"}
    text = ["/* Made from csrc/calls.table by csrc/gen_calls.py: do not edit. */"]
    text += [wrapper(row) for row in rows if row.form == "plain"]
    for row in rows:
        if row.target and by_name[row.target].form == "plain":
            text.append(alias(row.name, row.target))
    return "\n".join(text) + "\n"


def aliases_of(rows: list[Row]) -> str:
    """Symbol assignments for hand-written rows: an alias must be made in the object that defines its target."""
    out = ["/* Made from csrc/calls.table by csrc/gen_calls.py: do not edit. */"]
    hand = {row.name: [r.name for r in rows if r.target == row.name] for row in rows if row.form == "hand"}
    for name, others in hand.items():
        made = " ".join(alias(o, name) for o in others)
        out.append(f"#define PT_ALIASES_{name} {made}")
    return "\n".join(out) + "\n"


def reals(rows: list[Row]) -> str:
    """macOS: interposing leaves our own image alone, so the real function is called by name. Weak: not every
    system has every call, and the loader passes over a pair whose second half is missing."""
    out = ["/* Made from csrc/calls.table by csrc/gen_calls.py: do not edit. */"]
    for row in rows:
        if row.form != "not":
            text = f'extern void pt_real_{row.identifier}(void) __asm__("_{row.name}") __attribute__((weak_import));'
            out.append(_only(row, text))
    return "\n".join(out) + "\n"


def _only(row: Row, text: str) -> str:
    return f"#if defined(__{row.machine}__)\n{text}\n#endif" if row.machine else text


def interpose(rows: list[Row]) -> str:
    """macOS: wrappers, twins of wrappers, and what the loader is to exchange."""
    by_name = {row.name: row for row in rows if row.form != "not"}
    out = ["/* Made from csrc/calls.table by csrc/gen_calls.py: do not edit. */"]
    pairs = []
    for row in rows:
        target = by_name[row.target] if row.target else row
        if row.form == "not":
            continue
        own = target.form == "plain"
        if own:
            out.append(_only(row, wrapper(target, row.identifier, holds=False)))
        else:
            mine = f"pt_wrap_{target.identifier}"
            out.append(_only(row, f'extern void pt_hand_{row.identifier}(void) __asm__("_{mine}");'))
        replacement = f"pt_{'wrap' if own else 'hand'}_{row.identifier}"
        pairs.append(_only(row, f"\t{{ (void *){replacement}, (void *)pt_real_{row.identifier} }},"))
    out.append("static const struct { void *ours, *theirs; } pt_interpose[]")
    out.append('__attribute__((used, section("__DATA,__interpose"))) = {')
    return "\n".join([*out, *pairs, "};"]) + "\n"


def ops(rows: list[Row]) -> list[Row]:
    """One row for each name that is logged, whatever the platform: the numbers are the same everywhere."""
    return list({row.name: row for row in rows if row.form in ("plain", "hand")}.values())


def ops_h(rows: list[Row]) -> str:
    body = "".join(f"\tPT_OP_{row.identifier} = {n},\n" for n, row in enumerate(ops(rows), 1))
    return f"enum pt_op {{\n\tPT_OP_none = 0,\n{body}\tPT_OP_COUNT\n}};\n" + aliases_of(
        [r for r in rows if r.platform != "darwin"]
    )


def ops_c(rows: list[Row]) -> str:
    body = "".join(f'\t"{row.name}",\n' for row in ops(rows))
    count = len(ops(rows)) + 1
    return (
        '#include "calls.h"\n\n'
        f'const char *const pt_op_names[] = {{\n\t"",\n{body}}};\nconst unsigned pt_op_count = {count};\n'
    )


def switch(row: Row) -> tuple[str, bool]:
    """The flag that decides whether a row's last link is followed, and whether it is followed where the flag is set."""
    for a in row.path_args() if row.form == "plain" or "?(" in row.paths else []:
        m = re.search(r"& (\w+)", a.follow)
        if m:
            return m[1], not a.follow.startswith("(!")
    return "0", False


def tests(rows: list[Row]) -> str:
    """A table of functions; the harness in tests/calls/main.c runs them by name. Its descriptors and flag come in."""
    out = ["/* Made from csrc/calls.table by csrc/gen_calls.py: do not edit. */"]
    by_name = {row.name: row for row in rows if row.form != "not"}
    tested = [row for row in rows if row.test]
    for row in tested:
        expression = row.test.replace("AT_FDCWD", "DP", 1).replace("AT_FDCWD", "DQ", 1)
        compared = "(intptr_t)" if not re.search(r"[?<]", expression) else ""
        resulting = row.result or next((r.result for r in rows if r.name == row.target), "")
        failure = "== 0" if "*" in resulting else "< 0"
        value = f"({expression})"
        out.append(f"static int call_{row.name}(void)\n{{\n\treturn {compared}{value} {failure} ? -1 : 0;\n}}")
    out.append("static const struct call calls[] = {")
    flags = {row.name: switch(by_name[row.target] if row.target else row)[0] for row in tested}
    out += [
        f'\t{{ "{row.name}", call_{row.name}, {int("AT_FDCWD" in row.test)}, {flags[row.name]} }},' for row in tested
    ]
    out.append("};")
    return "\n".join(out) + "\n"


def coverage(rows: list[Row]) -> str:
    out = ["| call | other names | what it does with a path | wrapper |", "|---|---|---|---|"]
    for row in rows:
        if row.form in ("plain", "hand"):
            others = " ".join(f"`{r.name}`" for r in rows if r.target == row.name)
            paths = row.paths.replace("|", "\\|")
            what = f"`{paths}`" if paths else "keeps descriptors known" if not row.refused else ""
            if row.refused:
                what += ", " * bool(what) + "refused" + (f" where `{row.refused}`" if row.refused != "1" else "")
            how = "from the table" if row.form == "plain" else "its own"
            out.append(f"| `{row.name}` | {others} | {what} | {how} |")
    out += ["", "## Deliberately not", "", "| names | why |", "|---|---|"]
    out += [f"| `{row.name}` | {row.signature} |" for row in rows if row.form == "not"]
    return "\n".join(out) + "\n"


def names(rows: list[Row]) -> str:
    return "".join(f"{row.name} {row.form}\n" for row in rows)


MAKERS = {
    "wrappers": wrappers,
    "ops.h": ops_h,
    "ops.c": ops_c,
    "tests": tests,
    "coverage": coverage,
    "names": names,
    "reals": reals,
    "interpose": interpose,
}
PLATFORM = {"ops.h": "any", "ops.c": "any", "reals": "darwin", "interpose": "darwin"}


def main(argv: list[str]) -> None:
    if len(argv) not in (3, 4) or argv[2] not in MAKERS:
        raise SystemExit(f"usage: gen_calls.py TABLE {{{'|'.join(MAKERS)}}} [OUTPUT]")
    text = MAKERS[argv[2]](read(Path(argv[1]), PLATFORM.get(argv[2], "linux")))
    if len(argv) == 4:
        Path(argv[3]).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main(sys.argv)
