"""From a Tcl client's wishes to policies and sessions: what stands between the command table and the core proper."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from porttrace.errors import PorttraceError
from porttrace.filemap import Access, Action, Filemap, Rule
from porttrace.findings import Finding, FindingKind, Program, fix_line, merge
from porttrace.identity import Identity, privileged
from porttrace.policy import Decision, Ownership, Policy
from porttrace.procstat import executable
from porttrace.realpath import both_names
from porttrace.tclbridge import tcllist
from porttrace.tclbridge.inport import Answer, hidden_below, judge, open_places

if TYPE_CHECKING:
    from porttrace.defaults import Allowance
    from porttrace.registry import Registry
    from porttrace.session import Session
    from porttrace.tclbridge.client import Client, Edit
    from porttrace.trace import Trace
    from porttrace.usage import PhaseUsage

__all__ = ["Backend"]

_ACTIONS = {
    "allow": Action.ALLOW,
    "+": Action.ALLOW,
    "0": Action.ALLOW,
    "redirect": Action.REDIRECT,
    ">": Action.REDIRECT,
    "1": Action.REDIRECT,
    "ask": Action.ASK,
    "?": Action.ASK,
    "2": Action.ASK,
    "deny": Action.DENY,
    "hide": Action.DENY,
    "-": Action.DENY,
    "3": Action.DENY,
}
_ALIVE_EVERY = 20_000


class Backend:
    """Sessions, policies and owners for the clients of one process. Arguments as for ``commands.Core``."""

    def __init__(
        self, *, caller: tuple[int, int] | None, host_pid: int | None, alive: Callable[[], None] | None
    ) -> None:
        self.caller, self._host_pid, self._alive = caller, host_pid, alive
        self.stamped = False
        """Whether a report will tell when programs started."""
        self._session: Session | None = None
        self._told: set[str] = set()
        self._owners: dict[str, tuple[bytes, Ownership]] = {}
        self._closures: dict[tuple[object, ...], frozenset[str]] = {}

    # --- sessions ---

    def identity(self, client: Client) -> Identity:
        """The user that a client's children work as: the one it names, else the caller's effective user."""
        name = client.context.get("user", "")
        if name:
            return Identity.named(name)
        if self.caller is None:
            return Identity.current()
        import pwd

        uid, gid = self.caller
        try:
            return Identity.named(pwd.getpwuid(uid).pw_name)
        except (KeyError, PorttraceError):
            return Identity(uid, gid, (gid,), str(uid))

    def start(self, client: Client) -> Trace:
        """Compile the client's policy and publish it for the processes that are started from now on."""
        former = client.trace
        identity = self.identity(client)
        session = self._session_for(identity)
        policy = self.policy(client)
        workpath = Path(os.fsdecode(client.encode(client.workpath)))
        return session.start(
            policy,
            workpath,
            replaces=former if former in session.traces else None,
            identity=identity,
        )

    def _session_for(self, identity: Identity) -> Session:
        """The process's session, which serves phases of any user."""
        from porttrace.session import Session

        if self._session is None or self._session.closed:
            self._session = Session(identity, pid=self._host_pid)
            # the core itself is no leftover of a build, whoever it runs as
            self._session.spared.add(os.getpid())
            self._session.stamped = self.stamped
            self._session.alive = self._alive
        return self._session

    def recover(self, client: Client) -> None:
        """Begin the session now: its directory's place is made free, with what still runs there from a dead core."""
        self._session_for(self.identity(client))

    def account(self, trace: Trace) -> Iterator[tuple[str, str]]:
        """What else the user is told of a trace, as (level, text).

        What is so for every phase is told once by a process; which tiers were used, for each phase.
        """
        from porttrace.messages import printable
        from porttrace.tiers import tiers_line

        notices = [("warn", f"trace mode: {notice}") for notice in (*trace.session.notices, *trace.notices)]
        remarks = [("info", f"fence: {printable(remark)}") for remark in trace.remarks]
        for level, text in (*notices, *remarks):
            if text not in self._told:
                self._told.add(text)
                yield level, text
        of_phase = f"phase {trace.policy.phase}: " if trace.policy.phase else ""
        yield "info", of_phase + tiers_line(trace.tiers)

    @staticmethod
    def leftovers(trace: Trace | None) -> list[tuple[str, str]]:
        """What had to be ended with a trace that was stopped, or could not be, as (level, text)."""
        from porttrace.endings import told
        from porttrace.messages import printable

        ended = trace.stop().processes if trace is not None else []
        return [("warn", f"trace mode: {printable(line)}") for line in told(ended)]

    @staticmethod
    def prepare() -> None:
        """Import what the first trace needs while nobody waits for it."""
        from porttrace import closure, defaults, endings, listings, messages, noise, owners, session  # noqa: F401

    def begin(self) -> None:
        """Begin the session before there is anything to trace, while nobody waits for it."""
        from porttrace.defaults import base_os
        from porttrace.noise import classify
        from porttrace.places import known
        from porttrace.programs import usual

        if self.caller is not None:
            uid, gid = self.caller
            with contextlib.suppress(PorttraceError, OSError):  # fails again, and is said, where it is needed
                self._session_for(Identity(uid, gid, (gid,), str(uid)))
        known()
        usual()
        base_os("read")
        base_os("write")
        classify("/", "")

    def get_ready(self, registry: str, prefix: str) -> None:
        """Begin, and read what every phase of a port in this prefix needs, while nobody waits for it."""
        from porttrace.places import known

        self.begin()
        if registry:
            self._registry(registry, [])
            known(Path(prefix))

    def warm(self, client: Client, workpath: str) -> tuple[list[tuple[bytes, list[bytes]]], str]:
        """Do what each trace of the client's port needs and none has alone, while nobody waits for it.

        Where everything may be read in each of its phases, and the tiers that hold a phase, in words.
        """
        from porttrace.places import known
        from porttrace.tiers import tiers_line

        session = self._session_for(self.identity(client))
        former = client.workpath, client.context
        client.workpath, client.context = workpath, {**client.context, "tmpdir": ""}
        try:
            policy = self.policy(client, "")
        finally:
            client.workpath, client.context = former
        known(policy.prefix)
        return open_places(policy.read, os.fsencode(session.directory)), f"trace mode: {tiers_line(session.tiers)}"

    def get_ahead(self) -> None:
        """Make what the next trace needs in any case, while nobody waits for it."""
        if self._session is not None and not self._session.closed:
            self._session.get_ahead()

    def while_it_runs(self) -> None:
        """Make what a phase will need most likely, while one of its programs runs."""
        if self._session is not None and not self._session.closed and self._session.traces:
            self._session.traces[-1].get_ahead()

    def close(self) -> None:
        """End the session and remove its directory."""
        if self._session is not None:
            self._session.close()
            self._session = None

    # --- policies ---

    def policy(self, client: Client, phase: str | None = None) -> Policy:
        """The policy of a client's phase (default: its present one): defaults, allowances, then its own edits."""
        phase = client.context.get("phase", "") if phase is None else phase
        registry_path = client.context.get("registry", "")
        owners, closure = self._registry(registry_path, client.deps) if registry_path else (None, frozenset())
        policy = self._defaults(client, phase, owners, closure)
        policy.port, policy.phase = client.context.get("port", ""), phase
        policy.strict, policy.audit, policy.log = client.flag("strict"), client.flag("audit"), client.flag("log")
        policy.absent = client.flag("absent")
        policy.fence = client.fence
        policy.read, policy.write = self._edited(client, policy, phase)
        return policy

    def maps(self, client: Client, phase: str = "") -> dict[str, Filemap]:
        """The two filemaps as they are (or, before a trace, will be) for a phase."""
        if client.active:
            policy = self.policy(client, phase or None)
        else:
            policy = Policy()
            policy.read, policy.write = self._edited(client, policy, phase)
        return {"read": policy.read, "write": policy.write}

    def _defaults(self, client: Client, phase: str, owners: Ownership | None, closure: frozenset[str]) -> Policy:
        if client.base is not None:
            # MacPorts' own map, made for a library that never sees what the loader opens: no supervisor, which does.
            return Policy(
                client.base.copy(),
                client.base.copy(),
                owners=owners,
                closure=closure,
                dirs_visible=True,
                supervised=False,
            )
        from porttrace.defaults import phase_policy, run_defaults

        def place(key: str) -> bytes | None:
            value = client.context.get(key, "")
            return client.encode(value) if value else None

        workpath, prefix = client.encode(client.workpath), place("prefix")
        sdk = self._sdk(client)
        try:
            if prefix is None:
                read, write = run_defaults(workpath, place("tmpdir"), sdk=sdk)
                own = [Rule(p, Action.ALLOW, None, "context") for p in self._places(client, "extra")]
                seen = [Rule(p, Action.ALLOW, None, "context") for p in self._places(client, "readable")]
                return Policy(Filemap([*own, *seen, *read]), Filemap([*own, *write]), owners=owners, closure=closure)
            return phase_policy(
                phase=phase,
                prefix=prefix,
                workpath=workpath,
                portpath=place("portpath"),
                distpath=place("distpath"),
                portdbpath=place("portdbpath"),
                tmpdir=place("tmpdir"),
                ccache_dir=place("ccache_dir"),
                closure=closure,
                owners=owners,
                allowances=self._allowances(client),
                extra_read=self._places(client, "readable"),
                extra_write=self._places(client, "extra"),
                port=client.context.get("port", ""),
                sdk=sdk,
            )
        except ValueError as error:
            raise PorttraceError(str(error)) from None

    @staticmethod
    def _sdk(client: Client) -> Path | None:
        name = client.context.get("sdk", "")
        if not name:
            return None
        from porttrace.sdk import find_sdk

        database = client.context.get("portdbpath", "")
        if not database and (prefix := client.context.get("prefix", "")):
            database = prefix + "/var/macports"
        places = Path(os.fsdecode(client.encode(database))) if database else None
        return find_sdk(os.fsdecode(client.encode(name)), places)

    def _allowances(self, client: Client) -> list[Allowance]:
        from porttrace.defaults import Allowance

        out: list[Allowance] = []
        for entry in self._words(client, "allowances"):
            words = tcllist.split(entry)
            if len(words) not in (3, 4, 5) or words[0] not in ("read", "write", "hide", "redirect"):
                raise PorttraceError(
                    f"context allowances: {{kind path origin ?phase? ?target?}} wanted, not {{{entry}}}"
                )
            kind, path, origin, phase, target = [*words, "", ""][:5]
            out.append(
                Allowance(
                    kind,  # type: ignore[arg-type]
                    client.encode(path),
                    origin,
                    phase,
                    client.encode(target) if target else None,
                )
            )
        return out

    def _words(self, client: Client, key: str) -> list[str]:
        try:
            return tcllist.split(client.context.get(key, ""))
        except ValueError as error:
            raise PorttraceError(f"context {key}: {error}") from None

    def _places(self, client: Client, key: str) -> list[bytes]:
        return [client.encode(word) for word in self._words(client, key)]

    def _registry(self, path: str, names: list[str]) -> tuple[Ownership, frozenset[str]]:
        from porttrace.closure import chains_in
        from porttrace.owners import registry_identity

        key = (path, registry_identity(path), *names)
        if path in self._owners and self._owners[path][0] == key[1] and key in self._closures:
            return self._owners[path][1], self._closures[key]
        # As root where port only lowered its effective ids: the registry may be readable to nobody else.
        with privileged():
            owners = self._ownership(path)
        self._closures[key] = frozenset(chains_in(owners.needs, names))
        return owners, self._closures[key]

    def _ownership(self, path: str) -> Ownership:
        from porttrace.owners import ownership, registry_identity

        known = self._owners.get(path)
        if known is not None and known[0] == registry_identity(path):
            return known[1]
        with contextlib.ExitStack() as stack:

            @cache
            def registry() -> Registry:
                # Where the table is kept nothing is read, and SQLite not even loaded.
                from porttrace.registry import Registry

                return stack.enter_context(Registry.open(Path(path)))

            identity, owners = ownership(
                path, lambda: self._announced(registry().owners()), lambda: registry().dependency_graph()
            )
        self._owners = {path: (identity, owners)}  # one registry a process is the rule; a former table is not kept
        return owners

    def _announced(self, owners: Iterable[tuple[bytes, str]]) -> Iterator[tuple[bytes, str]]:
        """Pass the owners on, telling the caller now and then that the core is at work."""
        for number, row in enumerate(owners):
            if self._alive is not None and number % _ALIVE_EVERY == _ALIVE_EVERY - 1:
                self._alive()
            yield row

    def _edited(self, client: Client, policy: Policy, phase: str) -> tuple[Filemap, Filemap]:
        maps = {"read": policy.read.copy(), "write": policy.write.copy()}
        for edit in client.edits:
            if edit.phase in ("", phase):
                for name in edit.maps:
                    maps[name] = _apply(maps[name], edit)
        return maps["read"], maps["write"]

    # --- the port process itself ---

    def check(self, client: Client, access: str, path: bytes) -> tuple[str, bytes | None]:
        """The verdict on what the port process itself wants, and the path to use (None: as given)."""
        trace = client.trace
        assert trace is not None
        answer = judge(trace.image, access, path, trace.policy.audit)
        if answer.decision is not None and answer.finding is not None:
            found = self._finding(trace, answer.finding, answer.decision, answer.real)
            client.own = merge([client.own, [found]])
        self._note_use(client, access, answer)
        return answer.verdict, answer.physical

    @staticmethod
    def _note_use(client: Client, access: str, answer: Answer) -> None:
        """What the port process itself used counts like what its children used."""
        decision = answer.decision
        if decision is None:
            return
        if decision.rule is not None:
            client.rules_used.add((decision.rule.path, decision.rule.origin))
        if (
            answer.verdict == "ok"
            and decision.port
            and decision.action is Action.ALLOW
            and os.path.lexists(answer.real)
        ):
            client.use(decision.port, os.fsdecode(answer.real), "stat" if access == "lstat" else access)

    def usage(self, client: Client) -> PhaseUsage:
        """What the phase that has just ended used, was refused, and which of its allowances decided something."""
        from porttrace.usage import PhaseUsage

        found = client.findings()
        undeclared: dict[str, list[str]] = {}
        for finding in found:
            if finding.kind is FindingKind.UNDECLARED and finding.fix:
                paths = undeclared.setdefault(finding.fix, [])
                if finding.path not in paths:
                    paths.append(finding.path)
        allowances: list[tuple[str, str, str, bool]] = []
        for allowance in self._allowances(client):
            hit = any((rule.path, rule.origin) in client.rules_used for rule in allowance.rules())
            allowances.append((allowance.kind, os.fsdecode(allowance.path), allowance.origin, hit))
        return PhaseUsage(
            {port: {path: sorted(accesses) for path, accesses in paths.items()} for port, paths in client.used.items()},
            undeclared,
            sorted({finding.path for finding in found if finding.kind is FindingKind.UNOWNED}),
            allowances,
            not client.incomplete and all(finding.kind is not FindingKind.UNTRACED for finding in found),
        )

    @staticmethod
    def open_places(trace: Trace) -> tuple[list[tuple[bytes, list[bytes]]], ...]:
        """Directories below which everything may be read, and written, with exceptions; see `inport.open_places`."""
        session = os.fsencode(trace.session.directory)
        return open_places(trace.policy.read, session), open_places(trace.policy.write, session)

    def hidden_below(self, client: Client, path: bytes) -> bytes | None:
        """What of the tree at `path` the policy hides, the first of it; None where there is nothing."""
        assert client.trace is not None
        return None if client.trace.policy.audit else hidden_below(client.trace.image, path)

    def _finding(self, trace: Trace, access: str, decision: Decision, real: bytes) -> Finding:
        path, port = os.fsdecode(real), decision.port or ""
        phase = trace.policy.phase
        kind = self._kind(access, decision, real)
        rule = decision.rule
        if rule is None:
            described = "not listed: no rule allows it"
        else:
            described = f"{rule} ({rule.origin})" if rule.origin else str(rule)
        exe = executable(self._host_pid or os.getpid()) or "port"
        return Finding(
            kind,
            path,
            access,
            port,
            phase,
            1,
            [Program(exe, (), (os.path.basename(exe) + " itself",))],  # noqa: PTH119
            described,
            fix_line(kind, path, access, port, phase, described),
            trace.policy.port,
            audit=trace.policy.audit,
        )

    @staticmethod
    def _kind(access: str, decision: Decision, real: bytes) -> FindingKind:
        if Access(access).writes:
            return FindingKind.WRITE_OUTSIDE
        if decision.unowned:
            return FindingKind.UNOWNED
        if not os.path.lexists(real):
            return FindingKind.ABSENT
        return FindingKind.UNDECLARED if decision.port else FindingKind.HIDDEN


def _apply(filemap: Filemap, edit: Edit) -> Filemap:
    """`filemap` with one edit made."""
    if edit.verb == "load":
        return Filemap.from_bytes(edit.data, "loaded by Tcl")
    if edit.verb == "clear":
        return Filemap()
    names = both_names(edit.path) if not edit.literal else [edit.path]
    if edit.verb == "remove":
        for name in names:
            filemap.remove(name)
        return filemap
    rules = [Rule(name, _ACTIONS[edit.action], edit.target, "filemap command", literal=edit.literal) for name in names]
    if edit.verb == "append":
        filemap.extend(rules)
    elif edit.verb == "prepend":
        for rule in reversed(rules):
            filemap.prepend(rule)
    else:
        # The rule was there when the edit was made; where another phase's defaults lack it, the new one wins there.
        at = next((i for i, rule in enumerate(filemap) if rule.path in names), 0)
        for name in names:
            filemap.remove(name)
        for rule in reversed(rules):
            filemap.insert(min(at, len(filemap)), rule)
    return filemap
