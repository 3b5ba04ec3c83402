"""Who vouches for a trace: signatures that stock ssh-keygen makes and checks, timestamps that stock openssl checks."""

import json
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from index_store.files import lock
from rlm.audit import verify
from rlm.audit.lines import canonical
from rlm.audit.signing import NAMESPACE, sign
from rlm.cli import main
from rlm.errors import RlmError
from tests.helpers.audit_sample import QUESTION, Script, sample_run
from tests.helpers.authority import make_authority, serving
from tests.rlm.audit.conftest import Command

pytestmark = [
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is not installed"),
    pytest.mark.skipif(not shutil.which("openssl"), reason="OpenSSL is not installed"),
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the keys of jane, bob and mallory, and `signers`, who are jane and bob."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("jane", "bob", "mallory"):
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)]
        subprocess.run(made, check=True)
    (folder / "signers").write_text(
        "".join(f"{name} {(folder / f'{name}.pub').read_text()}" for name in ("jane", "bob"))
    )
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return sample_run(tmp_path / "run")


@pytest.fixture
def rlm(command: Command) -> Any:
    def call(*arguments: object) -> tuple[int, str]:
        code, out, err = command("trace", *arguments)
        return code, out + err

    return call


def verified(rlm: Any, run: Path, *more: object) -> tuple[int, dict[str, Any]]:
    code, out = rlm("verify", run, "--json", *more)
    facts: dict[str, Any] = json.loads(out)
    return code, facts


def stock(run: Path, signers: Path, name: str, content: bytes | None = None, file: str = "head.json") -> int:
    """The exit code of the command that the documents tell a stranger to type."""
    words = [
        "-Y",
        "verify",
        "-f",
        str(signers),
        "-I",
        name,
        "-n",
        "raptor-rlm-trace",
        "-s",
        str(run / f"{file}.sig"),
    ]
    given = (run / file).read_bytes() if content is None else content
    return subprocess.run(["ssh-keygen", *words], input=given, capture_output=True).returncode


def test_stock_ssh_keygen_accepts_a_signed_head_and_refuses_an_altered_one(
    rlm: Any, run: Path, keys: Path
) -> None:
    assert rlm("sign", run, "--key", keys / "jane", "--as", "jane")[0] == 0
    assert stock(run, keys / "signers", "jane") == 0
    head = (run / "head.json").read_bytes()
    for at in range(0, len(head), 7):
        assert stock(run, keys / "signers", "jane", head[:at] + bytes([head[at] ^ 1]) + head[at + 1 :]) != 0
    assert stock(run, keys / "signers", "bob") != 0


def test_the_statement_says_what_is_signed_and_nothing_of_its_contents(
    rlm: Any, run: Path, keys: Path
) -> None:
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    raw = (run / "head.json").read_bytes()
    said = json.loads(raw)
    assert raw == canonical(said) + b"\n"
    assert sorted(said) == [
        "ended", "events", "format", "head", "index_digest", "signed_at", "signer", "started",
    ]  # fmt: skip
    assert said["head"] == verify(run).head and said["signer"] == "jane" and said["events"] == 45
    assert said["started"] < said["ended"]
    assert not any(word in raw.decode() for word in QUESTION.split() if len(word) > 6)


def test_verify_checks_the_signature_and_that_it_is_over_this_trace(rlm: Any, run: Path, keys: Path) -> None:
    signers = ("--allowed-signers", keys / "signers")
    assert verified(rlm, run)[1]["signed"] is None
    code, facts = verified(rlm, run, *signers)
    assert code == 1 and not facts["ok"] and facts["signed"]["ok"] is False
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    code, facts = verified(rlm, run, *signers)
    assert code == 0 and facts["ok"]
    assert facts["signed"] == {"by": "jane", "at": facts["signed"]["at"], "ok": True, "reason": "it is good"}
    assert "rewritten" not in facts["reason"]  # who signed the head vouches for all of it
    assert "signed by jane" in rlm("verify", run, *signers)[1]
    other = sample_run(run.parent / "other", hostile=" changed")
    for name in ("head.json", "head.json.sig"):
        shutil.copy(run / name, other / name)
    code, facts = verified(rlm, other, *signers)
    assert code == 1 and not facts["ok"] and "over another head" in facts["signed"]["reason"]


def test_a_signature_that_nobody_checked_is_no_vouching(rlm: Any, run: Path, keys: Path) -> None:
    assert "the trace bears no signature" in rlm("verify", run)[1]
    rlm("sign", run, "--key", keys / "mallory", "--as", "jane")
    code, facts = verified(rlm, run)
    assert code == 0 and facts["signed"]["ok"] is None and "--allowed-signers" in facts["signed"]["reason"]
    assert "its signature was not checked" in facts["reason"]


@pytest.mark.parametrize(
    ("signer", "key", "words"),
    [
        ("jane", "mallory", "is that of no allowed signer"),
        ("jane", "bob", "the key is that of bob"),
        ("mallory", "mallory", "is that of no allowed signer"),
    ],
)
def test_a_name_is_worth_the_key_behind_it(
    rlm: Any, run: Path, keys: Path, signer: str, key: str, words: str
) -> None:
    rlm("sign", run, "--key", keys / key, "--as", signer)
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers")
    assert code == 1 and facts["signed"]["ok"] is False and words in facts["signed"]["reason"]


def test_several_sign_and_none_loses_a_signature(rlm: Any, run: Path, keys: Path) -> None:
    signers = ("--allowed-signers", keys / "signers")
    for name in ("mallory", "jane", "bob"):
        assert rlm("sign", run, "--key", keys / name, "--as", name)[0] == 0
    assert stock(run, keys / "signers", "bob", file="head.3.json") == 0
    code, facts = verified(rlm, run, *signers)
    assert code == 0 and facts["signed"]["by"] == "jane"
    assert [(one["by"], one["ok"]) for one in facts["signatures"]] == [
        ("mallory", False), ("jane", True), ("bob", True),
    ]  # fmt: skip
    assert verified(rlm, run, *signers, "--signer", "bob")[1]["signed"]["by"] == "bob"
    assert verified(rlm, run, *signers, "--signer", "mallory")[0] == 1
    code, facts = verified(rlm, run, *signers, "--signer", "carol")
    assert code == 1 and facts["signed"]["ok"] is False


def test_a_signer_signs_anew_only_by_force(rlm: Any, run: Path, keys: Path) -> None:
    line = ("sign", run, "--key", keys / "jane", "--as", "jane")
    assert rlm(*line)[0] == 0
    before = (run / "head.json.sig").read_bytes()
    code, said = rlm(*line)
    assert code == 2 and "jane has signed this trace already" in said and "--force" in said
    assert (run / "head.json.sig").read_bytes() == before
    assert rlm(*line, "--force")[0] == 0
    assert sorted(path.name for path in run.glob("head*")) == ["head.json", "head.json.sig"]
    assert stock(run, keys / "signers", "jane") == 0


def test_a_statement_changed_after_it_was_signed_is_refused(rlm: Any, run: Path, keys: Path) -> None:
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    said = json.loads((run / "head.json").read_bytes())
    (run / "head.json").write_bytes(canonical(said | {"signed_at": "2020-01-01T00:00:00+00:00"}) + b"\n")
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers")
    assert code == 1 and "was changed after it was signed" in facts["signed"]["reason"]


def test_a_statement_that_says_something_else_of_the_trace_is_told(rlm: Any, run: Path, keys: Path) -> None:
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    said = json.loads((run / "head.json").read_bytes())
    (run / "head.json").write_bytes(canonical(said | {"index_digest": "0" * 64}) + b"\n")
    (run / "head.json.sig").unlink()
    words = ["-Y", "sign", "-f", str(keys / "jane"), "-n", NAMESPACE, str(run / "head.json")]
    subprocess.run(["ssh-keygen", *words], check=True, capture_output=True)
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers")
    assert code == 1 and "over another 'index_digest'" in facts["signed"]["reason"]


def test_a_trace_that_is_not_as_it_was_written_is_not_signed(rlm: Any, run: Path, keys: Path) -> None:
    path = run / "trace.jsonl"
    path.write_bytes(path.read_bytes().replace(b"margin", b"profit", 1))
    code, said = rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    assert code == 2 and "nobody can vouch for it: line 1" in said
    assert not list(run.glob("head*"))


def test_a_run_that_never_ended_is_signed_only_where_that_is_said(
    rlm: Any, tmp_path: Path, keys: Path
) -> None:
    script = Script(tmp_path / "run")
    script.open()
    script.budget("turn 1")
    script.trace.close()
    line = ("sign", tmp_path / "run", "--key", keys / "jane", "--as", "jane")
    code, said = rlm(*line)
    assert code == 2 and "the run never ended" in said and "--unclosed" in said
    assert rlm(*line, "--unclosed")[0] == 0
    statement = json.loads((tmp_path / "run" / "head.json").read_bytes())
    assert statement["ended"] is None and statement["events"] == 2
    facts = verified(rlm, tmp_path / "run", "--allowed-signers", keys / "signers")[1]
    assert facts["signed"]["ok"] is True


@pytest.mark.parametrize(
    "name", ["", " ", "a,b", "jan*", "!jane", 'ja"ne', "ja\nne", "x" * 500, "ja\udcffne", " jane"]
)
def test_a_name_that_ssh_keygen_could_not_look_up_is_refused(
    rlm: Any, run: Path, keys: Path, name: str
) -> None:
    code, said = rlm("sign", run, "--key", keys / "jane", "--as", name)
    assert code == 2 and "is no name of a signer" in said and not list(run.glob("head*"))


def test_a_key_that_cannot_sign_is_one_sentence_and_nothing_is_written(
    rlm: Any, run: Path, keys: Path, tmp_path: Path
) -> None:
    locked, open_to_all, none = tmp_path / "locked", tmp_path / "open", tmp_path / "none"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    shutil.copy(keys / "jane", open_to_all)
    open_to_all.chmod(0o644)
    none.write_bytes(b"\x00nothing of a key\xff")
    for key, words in (
        (locked, "it has a passphrase"),
        (open_to_all, "others can read it"),
        (none, "it is no key of OpenSSH"),
        (tmp_path / "nowhere", "there is no key"),
        (keys, "there is no key"),
    ):
        code, said = rlm("sign", run, "--key", key, "--as", "jane")
        assert code == 2 and words in said and len(said.splitlines()) == 1, said
    assert not list(run.glob("head*"))


def test_a_key_in_the_agent_signs_by_its_public_half(
    rlm: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "k"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    socket = tmp_path / "s"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.PIPE) as agent:
        try:
            assert agent.stdout and agent.stdout.readline()  # it listens now
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", str(key)], check=True, capture_output=True)
            key.unlink()
            assert rlm("sign", run, "--key", f"{key}.pub", "--as", "jane")[0] == 0
        finally:
            agent.kill()
    (tmp_path / "signers").write_text(f"jane {Path(f'{key}.pub').read_text()}")
    assert stock(run, tmp_path / "signers", "jane") == 0


def test_where_ssh_keygen_is_missing_a_sentence_says_so(
    rlm: Any, run: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    monkeypatch.setenv("PATH", str(tmp_path))
    for line in (
        ("sign", run, "--key", keys / "jane", "--as", "bob"),
        ("verify", run, "--allowed-signers", keys / "signers"),
    ):
        code, said = rlm(*line)
        assert code == 2 and "ssh-keygen is not installed here" in said
    assert rlm("verify", run)[0] == 0


HOSTILE = [
    b"", b"{}", b"null", b"[" * 100_000, b"\xff\xfe", b'{"head":1}', b"x" * 100_000,
    canonical({"head": "0" * 64, "signer": "\x1b[31m\n", "signed_at": "never"}) + b"\n",
    canonical({"head": "0" * 64, "signer": "a\x00b", "signed_at": ""}) + b"\n",
    canonical({"head": "0" * 64, "signer": "-f", "signed_at": "\ud800"}) + b"\n",
]  # fmt: skip


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_statement_is_a_reason_and_no_error(
    rlm: Any, run: Path, keys: Path, content: bytes
) -> None:
    (run / "head.json").write_bytes(content)
    (run / "head.json.sig").write_bytes(content)
    code, said = rlm("verify", run, "--allowed-signers", keys / "signers")
    assert code == 1 and len(said.splitlines()) == 1 and "\x1b" not in said
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers")
    assert code == 1 and facts["signed"]["ok"] is False and facts["signed"]["reason"]
    assert rlm("sign", run, "--key", keys / "jane", "--as", "jane")[0] == 0  # into head.2.json
    assert verified(rlm, run, "--allowed-signers", keys / "signers")[0] == 0


@pytest.mark.parametrize("seed", range(8))
def test_whatever_lies_beside_a_trace_is_no_error(rlm: Any, run: Path, keys: Path, seed: int) -> None:
    """Every file that we write there, put there by a stranger: ours with some bytes changed, cut, or doubled."""
    chance = random.Random(seed)
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    rlm("note", run, "--by", "jane", "--verdict", "rejected")
    (run / "head.json.tsr").write_bytes(b"\x30\x82")
    (run / "check.json").write_bytes(b'{"head":"0","coverage":{"cited":[]}}')
    names = ("head.json", "head.json.sig", "head.json.tsr", "review.jsonl", "check.json")
    for name in chance.sample(names, chance.randint(1, len(names))):
        whole = (run / name).read_bytes()
        at, put = chance.randint(0, len(whole)), chance.randbytes(chance.randint(0, 9))
        changed = whole[:at] + put + whole[at + chance.randint(0, 9) :]
        (run / name).write_bytes(chance.choice([changed, changed, put, whole[:at], whole * 2]))
    for line in (
        ("verify", run, "--allowed-signers", keys / "signers"),
        ("verify", run, "--timestamp-ca", keys / "jane.pub"),
        ("verify", run, "--json"),
        ("show", run),
        ("note", run, "--list"),
        ("list", run.parent, "--json"),
        ("export", run, "--markdown"),
    ):
        code, said = rlm(*line)
        assert code in (0, 1, 2) and "Traceback" not in said


def test_two_who_sign_at_once_do_not_take_each_other_s_place(rlm: Any, run: Path, keys: Path) -> None:
    with lock(run, RuntimeError("nobody else is here")):
        code, said = rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    assert code == 2 and "somebody else signs in" in said and not list(run.glob("head*"))


def test_no_link_and_no_pipe_is_followed(rlm: Any, run: Path, keys: Path) -> None:
    (run / "head.json").symlink_to("/dev/zero")
    os.mkfifo(run / "head.2.json")
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers")
    assert code == 1 and [one["ok"] for one in facts["signatures"]] == [False, False]


def test_a_signature_that_cannot_hold_is_told_without_being_asked_for(
    rlm: Any, run: Path, keys: Path
) -> None:
    """A trace that was rewritten after it was signed has another head than the statement beside it."""
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    shutil.copy(sample_run(run.parent / "other", hostile=" changed") / "trace.jsonl", run / "trace.jsonl")
    code, said = rlm("verify", run)
    assert (
        code == 1 and "the trace is whole, but its signature does not hold: it is over another head" in said
    )
    (run / "head.json.sig").unlink()
    assert rlm("verify", run)[0] == 1


# -- timestamps --------------------------------------------------------------------------------------------


def test_a_timestamp_of_an_authority_verifies_offline(
    rlm: Any, run: Path, keys: Path, authority: Path
) -> None:
    with serving(authority) as url:
        assert rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", url)[0] == 0
    ca = authority / "ca.pem"
    words = [
        "-verify",
        "-in",
        str(run / "head.json.tsr"),
        "-data",
        str(run / "head.json"),
        "-CAfile",
        str(ca),
    ]
    assert subprocess.run(["openssl", "ts", *words], capture_output=True).returncode == 0
    code, facts = verified(rlm, run, "--allowed-signers", keys / "signers", "--timestamp-ca", ca)
    assert code == 0 and facts["timestamp"]["ok"] is True
    assert (
        facts["timestamp"]["at"].endswith("+00:00") and facts["timestamp"]["at"] >= facts["signed"]["at"][:16]
    )
    assert "by its timestamp" in rlm("verify", run, "--timestamp-ca", ca)[1]
    assert verified(rlm, run)[1]["timestamp"]["ok"] is None


def test_a_timestamp_of_something_else_or_of_nobody_known_is_refused(
    rlm: Any, run: Path, keys: Path, authority: Path, tmp_path: Path
) -> None:
    ca = authority / "ca.pem"
    assert rlm("verify", run, "--timestamp-ca", ca)[0] == 1
    with serving(authority) as url:
        rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", url)
    stranger = make_authority(tmp_path)
    code, facts = verified(rlm, run, "--timestamp-ca", stranger)
    assert code == 1 and facts["timestamp"]["ok"] is False and "does not hold" in facts["timestamp"]["reason"]
    token = (run / "head.json.tsr").read_bytes()
    rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--force")
    assert not (run / "head.json.tsr").exists()  # it was of the statement before
    (run / "head.json").write_bytes((run / "head.json").read_bytes().replace(b'"jane"', b'"jame"'))
    for reply, words in ((token, "something else"), (b"", "cannot be read"), (token[:-40], "cannot be read")):
        (run / "head.json.tsr").write_bytes(reply)
        code, facts = verified(rlm, run, "--timestamp-ca", ca)
        assert code == 1 and words in facts["timestamp"]["reason"], facts["timestamp"]


def test_a_timestamp_of_another_trace_s_statement_is_refused(
    rlm: Any, run: Path, keys: Path, authority: Path
) -> None:
    other, ca = sample_run(run.parent / "other", hostile=" changed"), authority / "ca.pem"
    with serving(authority) as url:
        rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", url)
    for path in run.glob("head*"):
        shutil.copy(path, other / path.name)
    code, facts = verified(rlm, other, "--timestamp-ca", ca)
    assert (
        code == 1
        and facts["timestamp"]["ok"] is False
        and "over another head" in facts["timestamp"]["reason"]
    )


def test_the_timestamp_of_any_signer_counts(rlm: Any, run: Path, keys: Path, authority: Path) -> None:
    rlm("sign", run, "--key", keys / "jane", "--as", "jane")
    with serving(authority) as url:
        rlm("sign", run, "--key", keys / "bob", "--as", "bob", "--timestamp", url)
    checks = ("--allowed-signers", keys / "signers", "--timestamp-ca", authority / "ca.pem")
    code, facts = verified(rlm, run, *checks)
    assert code == 0 and facts["signed"]["by"] == "bob" and facts["timestamp"]["ok"] is True


def test_any_changed_byte_of_a_timestamp_is_found(rlm: Any, run: Path, keys: Path, authority: Path) -> None:
    with serving(authority) as url:
        rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", url)
    token = (run / "head.json.tsr").read_bytes()
    at = verified(rlm, run)[1]["timestamp"]["at"]
    for place in range(30, len(token), len(token) // 12):
        spoilt = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        (run / "head.json.tsr").write_bytes(spoilt)
        code, facts = verified(rlm, run, "--timestamp-ca", authority / "ca.pem")
        assert code == 1 or facts["timestamp"]["at"] == at  # a byte around the token, which says nothing


def test_without_a_timestamp_nothing_is_signed(rlm: Any, run: Path, keys: Path, authority: Path) -> None:
    other = subprocess.run(
        ["openssl", "ts", "-query", "-data", str(run / "trace.jsonl"), "-cert"],
        capture_output=True,
        check=True,
    ).stdout
    (authority / "query").write_bytes(other)
    reply = "ts -reply -config tsa.cnf -section tsa1 -queryfile query -out other"
    subprocess.run(["openssl", *reply.split()], cwd=authority, check=True, capture_output=True)
    for spoil, words in (
        (b"", "gave no timestamp"),
        (b"<html>", "gave no timestamp"),
        ((authority / "other").read_bytes(), "of something else"),
    ):
        with serving(authority, spoil) as url:
            code, said = rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", url)
        assert code == 2 and words in said, said
    code, said = rlm("sign", run, "--key", keys / "jane", "--as", "jane", "--timestamp", "ftp://x")
    assert code == 2 and "is no address" in said
    assert not list(run.glob("head*"))


def test_signing_from_python_raises_one_error(run: Path, keys: Path) -> None:
    with pytest.raises(RlmError, match="is no name of a signer"):
        sign(run, keys / "jane", "")


def test_a_folder_in_the_place_of_a_statement_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "head.json").mkdir()
    assert main(["trace", "verify", str(run)]) == 1
    assert "head.json: it must be a plain file" in capsys.readouterr().out


def test_a_statement_over_another_head_is_told_also_beside_one_over_this(
    rlm: Any, run: Path, keys: Path
) -> None:
    for name in ("jane", "bob"):
        rlm("sign", run, "--key", keys / name, "--as", name)
    assert verified(rlm, run)[0] == 0
    said = json.loads((run / "head.json").read_bytes())
    (run / "head.json").write_bytes(canonical(said | {"head": "0" * 64}) + b"\n")
    code, facts = verified(rlm, run)
    assert code == 1 and "head.json does not hold: it is over another head" in facts["reason"]
