"""A timestamp authority by RFC 3161 that `openssl ts` makes: its certificates, and an HTTP server in front of it."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

_CONFIGURATION = """
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
[authority]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[tsa]
default_tsa = tsa1
[tsa1]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def make_authority(folder: Path, days: int = 30) -> Path:
    """An authority in `folder`; its root certificate, `ca.pem`."""
    (folder / "tsa.cnf").write_text(_CONFIGURATION)
    (folder / "serial").write_text("01\n")
    new = "-newkey rsa:2048 -nodes -config tsa.cnf"
    for line in (
        f"req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=root -days {days} -extensions ca",
        f"req {new} -keyout tsa.key -out tsa.csr -subj /CN=authority",
        "x509 -req -in tsa.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out tsa.pem "
        f"-days {days} -extfile tsa.cnf -extensions authority",
    ):
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)
    return folder / "ca.pem"


@contextmanager
def serving(folder: Path, spoil: bytes | None = None) -> Iterator[str]:
    """The address of the authority while the block runs. `spoil`: what it replies instead of a timestamp."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            (folder / "query").write_bytes(query)
            reply = "ts -reply -config tsa.cnf -section tsa1 -queryfile query -out reply"
            subprocess.run(["openssl", *reply.split()], cwd=folder, check=True, capture_output=True)
            body = (folder / "reply").read_bytes() if spoil is None else spoil
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
