"""Live asks: the same answers as the image, whatever clients do."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_policy import random_path, random_rule, reference

from porttrace.askserver import Answer, Asked, AskServer, ask
from porttrace.filemap import Action, Filemap, Rule
from porttrace.policy import Image, Ownership, Policy

FILES = [
    (f"/opt/p/{directory}/f{n}".encode(), f"port{n % 7}") for n in range(60) for directory in ("bin", "lib", "a/b")
]
CLOSURE = frozenset({"port1", "PORT3", "port5"})


def policy(strict: bool = False) -> Policy:
    read = Filemap(
        [
            Rule(b"/opt/p/lib/f5", Action.DENY),
            Rule(b"/opt/p", Action.ASK, live=True),
            Rule(b"/usr", Action.ALLOW),
        ]
    )
    write = Filemap([Rule(b"/work", Action.ALLOW), Rule(b"/opt/p/var", Action.ASK, live=True)])
    return Policy(read, write, prefix=Path("/opt/p"), owners=Ownership(FILES), closure=CLOSURE, strict=strict)


@pytest.fixture
def server() -> Iterator[AskServer]:
    with tempfile.TemporaryDirectory(prefix="porttrace-test-", dir="/tmp") as name:
        path = Path(name) / "socket"
        server = AskServer(path, {os.geteuid()})
        for number, strict in ((1, False), (2, True)):
            image = Image(policy(strict).compile())
            owners = dict(FILES)
            server.policies[number] = Asked(image, owners.get, strict)
        server.path = path  # type: ignore[attr-defined]
        yield server
        server.close()


def where(server: AskServer) -> Path:
    return server.path  # type: ignore[attr-defined,no-any-return]


def test_a_dependency_is_allowed_another_port_is_not(server: AskServer) -> None:
    assert ask(where(server), 1, b"/opt/p/bin/f3") == Answer(Action.ALLOW, False, "port3")
    assert ask(where(server), 1, b"/opt/p/bin/f2") == Answer(Action.DENY, False, "port2")
    assert ask(where(server), 1, b"/opt/p/bin/nobodys") == Answer(Action.ALLOW, True, "")
    assert ask(where(server), 2, b"/opt/p/bin/nobodys") == Answer(Action.DENY, True, "")
    assert ask(where(server), 1, b"/elsewhere").action is Action.DENY
    assert ask(where(server), 1, b"/work/x", "write").action is Action.ALLOW


@pytest.mark.parametrize("number", [1, 2])
def test_answers_equal_the_images(server: AskServer, number: int) -> None:
    image = Image(policy(strict=number == 2).compile())
    random.seed(number)
    paths = [path for path, _ in FILES] + [
        b"/".join(
            [
                b"",
                *random.choices(
                    [b"opt", b"p", b"usr", b"bin", b"f3", b"f2", b"var", b"work", b"\xff"], k=random.randint(1, 6)
                ),
            ]
        )
        for _ in range(2000)
    ]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(os.fspath(where(server)))
        for path in paths:
            for which, byte in (("read", b"\0"), ("write", b"\1")):
                client.send(b"%d\0" % number + byte + path)
                answer = Answer.from_bytes(client.recv(512))
                decision = image.decide(path, "read" if which == "read" else "write")
                if Path(os.fsdecode(path)).is_dir() and decision.rule and decision.rule.action is Action.ASK:
                    continue
                assert answer.action == decision.action, (path, which)
                assert answer.unowned == decision.unowned, (path, which)
                if decision.rule and decision.rule.action is Action.ASK:
                    assert answer.port == (decision.port or "")


def test_matcher_reference_and_socket_agree(server: AskServer) -> None:
    """More than 100,000 questions about random filemaps: the C matcher, ten lines of Python, and the socket."""
    rng = random.Random(2012)
    cases = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(os.fspath(where(server)))
        while cases < 100_000:
            maps = [[random_rule(rng) for _ in range(rng.randint(0, 12))] for _ in range(2)]
            image = Image(Policy(Filemap(maps[0]), Filemap(maps[1])).compile())
            server.policies[9] = Asked(image, {}.get, False)
            for path in {random_path(rng, 5) for _ in range(400)}:
                for number, which in enumerate(("read", "write")):
                    at = reference(maps[number], path)
                    wanted = maps[number][at].action if at is not None else Action.DENY
                    decision = image.decide(path, "read" if which == "read" else "write")
                    assert decision.rule == (maps[number][at] if at is not None else None), (maps, path)
                    client.send(b"9\0" + bytes([number]) + path)
                    answer = Answer.from_bytes(client.recv(512))
                    # nobody owns anything here: what is asked about is allowed, and said to be unowned
                    assert answer.action == (Action.DENY if wanted is Action.DENY else Action.ALLOW), (maps, path)
                    assert answer.unowned == (wanted is Action.ASK), (maps, path)
                    cases += 1


def test_a_directory_is_never_refused_by_ask(tmp_path: Path) -> None:
    directory = os.fsencode(tmp_path.resolve())
    owners = [(directory, "other"), (directory + b"/file", "other")]
    (tmp_path / "file").touch()
    one = Policy(Filemap([Rule(directory, Action.ASK, live=True)]), Filemap(), owners=Ownership(owners))
    asked = Asked(Image(one.compile()), dict(owners).get, strict=True)
    assert asked.answer(directory, "read").action is Action.ALLOW
    assert asked.answer(directory + b"/file", "read") == Answer(Action.DENY, False, "other")


def test_an_answer_is_live(server: AskServer) -> None:
    installed: dict[bytes, str] = {}
    server.policies[3] = Asked(Image(policy().compile()), installed.get, False)
    assert ask(where(server), 3, b"/opt/p/new").unowned
    installed[b"/opt/p/new"] = "port2"
    assert ask(where(server), 3, b"/opt/p/new") == Answer(Action.DENY, False, "port2")


GARBAGE = [
    b"x",
    b"\0",
    b"1\0",
    b"1\0\0",
    b"1\0\2/opt",
    b"1\0\0relative",
    b"1\0\0/a\0b",
    b"99\0\0/opt/p",
    b"-1\0\0/opt/p",
    b"9" * 30 + b"\0\0/opt",
    "٣".encode() + b"\0\0/opt",
    b"1\0\0/" + b"x" * 30000,
    os.urandom(500),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_costs_only_its_senders_connection(server: AskServer, garbage: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(5)
        client.connect(os.fspath(where(server)))
        client.send(garbage)
        assert client.recv(512) == b""
    assert ask(where(server), 1, b"/opt/p/bin/f3").port == "port3"


def test_a_failing_registry_leaves_the_client_to_its_image(server: AskServer) -> None:
    def broken(path: bytes) -> str | None:
        raise RuntimeError("database is locked")

    server.policies[4] = Asked(Image(policy().compile()), broken, False)
    with pytest.raises(ValueError):
        ask(where(server), 4, b"/opt/p/bin/f3")
    assert ask(where(server), 1, b"/opt/p/bin/f3").port == "port3"


def test_peers_that_sleep_or_do_not_read_hold_up_nobody(server: AskServer) -> None:
    sleepers = []
    for _ in range(300):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.setblocking(False)
        client.connect(os.fspath(where(server)))
        sleepers.append(client)
        if len(sleepers) < 20:
            while True:  # ask and never read
                try:
                    client.send(b"1\0\0/opt/p/bin/f3")
                except OSError:
                    break
        else:
            time.sleep(0.0005)
    begin = time.monotonic()
    assert ask(where(server), 1, b"/opt/p/bin/f3").port == "port3"
    assert time.monotonic() - begin < 2
    for client in sleepers:
        client.close()
    assert ask(where(server), 1, b"/opt/p/bin/f2").port == "port2"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to ask as another user")
def test_other_users_are_not_answered(server: AskServer) -> None:
    where(server).chmod(0o666)
    where(server).parent.chmod(0o755)

    def attempt(uid: int) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                os.setresuid(uid, uid, uid)
                ask(where(server), 1, b"/opt/p/bin/f3")
                os._exit(0)
            except (OSError, ValueError):
                os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert attempt(65534) == 9
    server.uids.add(65534)
    assert attempt(65534) == 0


def test_close_ends_the_thread_and_the_clients(server: AskServer) -> None:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(5)
    client.connect(os.fspath(where(server)))
    server.close()
    with contextlib.suppress(ConnectionResetError):  # it was never accepted
        assert client.recv(10) == b""
    server.close()
    assert not server._thread.is_alive()
