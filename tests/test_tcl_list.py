"""Tcl lists: the core's own reading and writing against Tcl's."""

from __future__ import annotations

import tkinter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porttrace.tclbridge import tcllist

TCL = tkinter.Tcl()
# No surrogates (they are no text), no NUL (tkinter has its own way with it; the wire's test has one).
WORDS = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0", max_codepoint=0xFFFF)
    | st.sampled_from('{}[]$"\\ \t\n\r\v\f;#'),
    max_size=12,
)


@given(st.lists(WORDS, max_size=6))
def test_tcl_reads_what_we_write(words: list[str]) -> None:
    TCL.setvar("ours", tcllist.join(words))
    assert int(TCL.eval("llength $ours")) == len(words)
    for number, word in enumerate(words):
        assert TCL.eval(f"lindex $ours {number}") == word


@given(st.lists(WORDS, max_size=6))
def test_we_read_what_tcl_writes(words: list[str]) -> None:
    TCL.setvar("words", "")
    TCL.eval("set out [list]")
    for word in words:
        TCL.setvar("word", word)
        TCL.eval("lappend out $word")
    assert tcllist.split(TCL.eval("string cat $out")) == words


@given(WORDS)
def test_agree_on_any_text(source: str) -> None:
    """What Tcl takes for a list we read alike; what it refuses we refuse."""
    TCL.setvar("source", source)
    try:
        length = int(TCL.eval("llength $source"))
    except tkinter.TclError:
        with pytest.raises(ValueError, match="list"):
            tcllist.split(source)
        return
    assert tcllist.split(source) == [TCL.eval(f"lindex $source {n}") for n in range(length)]


def test_values() -> None:
    value = {"a": 1, "b": [True, None, b"\xff"], "c d": "}"}
    assert tcllist.text(value) == "a 1 b {1 {} \xff} {c d} \\}"
    assert tcllist.split(tcllist.text(value)) == ["a", "1", "b", "1 {} \xff", "c d", "}"]
    assert tcllist.join(["#a", "", "x\\"]) == "{#a} {} x\\\\"
