"""Files that people send, hostile ones too, and the index that is made of them."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, strategies as st

from index_store.index import open_index
from rlm.serving.uploads import NAME_BYTES, safe_name
from tests.helpers.served import Served, wait_until
from tests.rlm.serving.test_api import events_of


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("notes.md", "notes.md"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\jane\\report.pdf", "report.pdf"),
        ("/absolute/x.txt", "x.txt"),
        ("..", "file"),
        ("...", "file"),
        ("", "file"),
        (None, "file"),
        (".bashrc", "bashrc"),
        ("a/", "file"),
        ("a\0b.txt", "a_b.txt"),
        ("a\r\nb.txt", "a__b.txt"),
        ("-rf", "-rf"),
        ("CON.txt", "_CON.txt"),
        ("Größe 1.md", "Größe 1.md"),
        (unicodedata.normalize("NFD", "Größe.md"), "Größe.md"),
        ("\u202egpj.exe", "gpj.exe"),
        ("x" * 500 + ".md", "x" * (NAME_BYTES - 3) + ".md"),
        ("x." + "y" * 500, "x." + "y" * 20),
        ("$(rm -rf ~).md", "(rm -rf _).md"),
    ],
)
def test_a_name_is_made_safe(name: str | None, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=400))
def test_every_name_names_a_file_in_its_folder(name: str) -> None:
    safe = safe_name(name)
    assert Path(safe).name == safe
    assert not safe.startswith(".")
    assert len(safe.encode()) <= NAME_BYTES + 2
    assert safe.isprintable()


def upload(client: httpx.Client, index: str, *files: tuple[str, bytes]) -> dict[str, Any]:
    """Send files, and wait until the job has ended."""
    reply = client.post(f"/api/indexes/{index}/documents", files=[("files", file) for file in files])
    assert reply.status_code == 202, reply.text
    job = reply.json()["job"]
    events = events_of(client.get(f"/api/jobs/{job}/events").text)
    ended: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
    return ended | {"events": [event for _, event in events], "files": reply.json()["files"]}


@pytest.mark.slow
def test_an_index_is_built_of_what_is_sent_updated_and_asked(served: Served) -> None:
    with served.client() as client:
        built = upload(
            client,
            "fresh",
            ("one.md", b"# One\n\nThe mast is red."),
            ("../two.md", b"# Two\n\nThe sail is blue."),
        )
        assert built["state"] == "done", built
        assert built["files"] == ["one.md", "two.md"]
        assert (
            [event["kind"] for event in built["events"]].count("build_progress")
            == built["done"]
            == built["of"]
        )
        assert client.get("/api/indexes/fresh").json()["documents"] == 2
        updated = upload(client, "fresh", ("three.md", b"# Three\n\nThe keel is green."))
        assert (updated["state"], updated["files"]) == ("done", ["three.md"]), updated
        told = client.get("/api/indexes/fresh").json()
        assert (told["documents"], told["generation"]) == (3, 2)
        assert sorted(d["doc"] for d in client.get("/api/indexes/fresh/documents").json()["documents"]) == [
            "one.md",
            "three.md",
            "two.md",
        ]
        mixed = upload(client, "fresh", ("four.md", b"# Four\n\nThe deck is oak."), ("bad.pdf", b"zz"))
        assert mixed["state"] == "done", mixed
        assert [one["file"] for one in mixed["report"]["refused"]] == ["bad.pdf"]
        assert str(served.server.settings.data) not in json.dumps(mixed)
        none = upload(client, "fresh", ("worse.pdf", b"zz"), ("odd.bin", b"\0\1"))
        assert none["state"] == "failed"
        assert none["error"].startswith("no file was taken, and the index stays at generation 3: ")
        assert all(f"{name}: " in none["error"] for name in ("worse.pdf", "odd.bin"))
        assert "bad.pdf" not in none["error"]
        kept = sorted(file.name for file in (served.server.settings.uploads / "fresh").iterdir())
        assert kept == ["four.md", "one.md", "three.md", "two.md"]
        assert client.get("/api/indexes/fresh").json()["generation"] == mixed["report"]["generation"] == 3
        failed = upload(client, "broken", ("nothing.bin", b"\0\1\2" * 99))
        assert failed["state"] == "failed"
        assert str(served.server.settings.data) not in json.dumps(failed)
        assert failed["error"].startswith("no file was taken: ")
        assert not any((served.server.settings.uploads / "broken").iterdir())
        assert client.get("/api/indexes/broken").status_code == 404


@pytest.mark.slow
def test_labels_of_an_upload_hold_for_its_files_and_stay_through_later_ones(served: Served) -> None:
    with served.client() as client:
        place = "/api/indexes/labelled/documents"
        bad = client.post(place, files={"files": ("all.zip", b"PK")}, data={"access": "hr"})
        assert (bad.status_code, "all.zip may hold several documents" in bad.json()["detail"]) == (400, True)
        assert (
            client.post(place, files={"files": ("a.md", b"x")}, data={"access": "*, hr"}).status_code == 400
        )
        pay = ("pay.md", b"# Pay\n\nThe cook has nine pounds.")
        sent = client.post(place, files={"files": pay}, data={"access": "legal, hr"})
        client.get(f"/api/jobs/{sent.json()['job']}/events")
        upload(client, "labelled", ("menu.md", b"# Menu\n\nThere is soup."))
        upload(client, "labelled", ("pay.md", b"# Pay\n\nThe cook has ten pounds."))
    opened = open_index(served.server.settings.made / "labelled")
    assert {d.id: d.meta.get("access") for d in opened.documents} == {
        "pay.md": "hr, legal",
        "menu.md": None,
    }
    assert "ten" in opened.document_text("pay.md")


@pytest.mark.slow
def test_a_build_that_is_cancelled_ends_with_all_that_it_started(served: Served) -> None:
    text = b"\n\n".join(b"Sentence number %d tells of a ship. It sails on." % n for n in range(20_000))
    with served.client() as client:
        reply = client.post("/api/indexes/large/documents", files={"files": ("large.txt", text)})
        job = reply.json()["job"]
        wait_until(lambda: _builds(served.server.settings.made / "large"))
        assert client.delete(f"/api/jobs/{job}").json()["state"] == "cancelled"
        assert not _builds(served.server.settings.made / "large")
        assert client.get("/api/indexes/large").status_code == 404


def _builds(index: Path) -> list[str]:
    """The processes whose command line names an index."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(index) in (process / "cmdline").read_bytes():
                found.append(process.name)
        except OSError:  # it has just ended
            continue
    return found


def test_what_is_no_upload_is_refused(served: Served) -> None:
    with served.client() as client:
        place = "/api/indexes/other/documents"
        assert client.post(place, json={}).status_code == 400
        assert client.post(place, files={"files": ("", b"x")}).status_code == 400
        assert client.post("/api/indexes/..%2fx/documents", files={"files": ("a", b"x")}).status_code == 404
        bad = client.post("/api/indexes/.hidden/documents", files={"files": ("a.md", b"x")})
        assert (bad.status_code, "cannot be called '.hidden'" in bad.json()["detail"]) == (400, True)
        cut = client.post(
            place, content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert cut.status_code == 400
        many = [("files", (f"{n}.md", b"x")) for n in range(served.server.settings.upload_files + 1)]
        assert client.post(place, files=many).status_code == 400
    assert not (served.server.settings.uploads / "other").exists()
