"""One HTML page with everything in it: no other file, no network. The page is ``porttrace/data/report.html``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from porttrace.codes import CODES, code_of
from porttrace.findings import FindingKind
from porttrace.formats.place import declared_in, one_line
from porttrace.learn import learn
from porttrace.report import noise_of

__all__ = ["as_html", "page_data", "script_data"]

_MOST_PORTS = 150


def _graph(report: Mapping[str, Any]) -> dict[str, Any]:
    """Ports with what is known of them, and who brings whom in."""
    phases = (report.get("context") or {}).get("phases", ())
    nodes: dict[str, dict[str, Any]] = {}
    edges: dict[tuple[str, str], None] = {}

    def node(name: str) -> dict[str, Any]:
        return nodes.setdefault(name.lower(), {"name": name, "states": [], "depth": None, "files": 0, "types": []})

    def state(name: str, what: str) -> dict[str, Any]:
        found = node(name)
        if what not in found["states"]:
            found["states"].append(what)
        return found

    for phase in phases:
        built = phase.get("port") or "command"
        state(built, "built")
        for _, kind, spec in declared_in(phase.get("portfile") or ""):
            if spec:
                types = state(spec.rpartition(":")[2], "declared")["types"]
                edges[(built.lower(), spec.rpartition(":")[2].lower())] = None
                if kind not in types:
                    types.append(kind)
        for name, chain in phase.get("chains", {}).items():
            if name == built.lower():
                continue  # a port sees its own files once it is installed
            found = state(name, "declared" if len(chain) == 1 else "indirect")
            if found["depth"] is None or found["depth"] < len(chain):
                found["depth"] = len(chain)
            for parent, child in zip([built.lower(), *chain], chain, strict=False):
                edges[(parent, child)] = None
        for name, paths in phase.get("used", {}).items():
            found = state(name, "used")
            found["name"], found["files"] = name, found["files"] + len(paths)
    for finding in report["findings"]:
        if finding.get("port") and finding["kind"] in ("undeclared-dependency", "undeclared-linkage"):
            state(finding["port"], "missing")
            edges[((finding.get("built") or "command").lower(), finding["port"].lower())] = None
        if finding.get("port") and finding["kind"] == "unused-dependency":
            state(finding["port"], "superfluous")
    for found in nodes.values():
        if found["depth"] is None:
            found["depth"] = 0 if "built" in found["states"] else 1
    kept = sorted(nodes, key=lambda key: ("indirect" in nodes[key]["states"], nodes[key]["depth"], key))[:_MOST_PORTS]
    return {
        "nodes": [nodes[key] | {"key": key} for key in kept],
        "edges": [list(edge) for edge in edges if edge[0] in kept and edge[1] in kept and edge[0] != edge[1]],
        "left_out": len(nodes) - len(kept),
    }


def _todo(findings: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """What to write into which port's Portfile: (port, lines). Of a missing dependency one type that serves all."""
    lines: dict[str, dict[str, None]] = {}
    for built, ports in learn(findings).ports.items():
        for name, kind in sorted(ports.items()):
            lines.setdefault(built, {})[f"depends_{kind}-append port:{name}"] = None
    for finding in findings:
        if finding["kind"] in (FindingKind.LINKAGE, FindingKind.WRONG_TYPE, FindingKind.UNUSED):
            known = lines.setdefault(finding.get("built") or "", {})
            known |= dict.fromkeys((finding.get("fix") or "").splitlines())
    return [[built, "\n".join(each)] for built, each in lines.items() if each]


def page_data(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script reads."""
    context = report.get("context") or {}
    return {
        "version": report.get("version", ""),
        "command": [str(word) for word in report.get("command", ())],
        "tiers": report.get("tiers", []),
        "stats": report.get("stats", {}),
        "findings": [
            {
                "code": code_of(f["kind"]).code,
                "level": code_of(f["kind"]).level,
                "kind": f["kind"],
                "noise": noise_of(f),
                "path": f["path"],
                "access": f["access"],
                "port": f.get("port") or "",
                "built": f.get("built") or "",
                "phase": f.get("phase") or "",
                "count": f.get("count", 1),
                "rule": f.get("rule") or "",
                "fix": f.get("fix") or "",
                "text": one_line(f),
                "programs": [
                    [p.get("chain") or [p["exe"]], p["exe"], p.get("count", 1)] for p in f.get("programs", ())
                ],
            }
            for f in report["findings"]
        ],
        "todo": _todo(report["findings"]),
        "codes": {code.code: [code.title, code.meaning, code.fix] for code in CODES.values()},
        "graph": _graph(report),
        "phases": [
            {
                "port": phase.get("port") or "",
                "phase": phase.get("phase") or "",
                "start": phase.get("start", 0),
                "seconds": phase.get("seconds", 0),
                "programs": phase.get("programs", []),
                "left_out": phase.get("programs_left_out", 0),
            }
            for phase in context.get("phases", ())
        ],
    }


def script_data(value: object) -> str:
    """JSON for a script element: ASCII only, and nothing in it that could end the element or begin another."""
    return json.dumps(value).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def as_html(report: Mapping[str, Any]) -> str:
    """The page. What came from the build (paths, names) is data for the script, never markup."""
    page = (files("porttrace") / "data" / "report.html").read_text(encoding="utf-8")
    data = script_data(page_data(report))
    name = os.path.basename(str((report.get("command") or ["report"])[-1]))  # noqa: PTH119 - of a command line
    title = "".join(char for char in name if char.isalnum() or char in "-_. @+") or "report"
    return page.replace("@TITLE@", title).replace("@DATA@", data)
