"""Payloads after the world outside the worker. They set `R` to what they got, or leave a mark.

A secret in `R`, the file `owned`, a connection, a byte in the pipe, an ended process: each is an effect.
"""

# ruff: noqa: E501  (a payload is read best in one piece)
FILES = {
    "reads": "R = open('@DIR@/secret.txt').read()",
    "reads by os": "import os\nR = os.read(os.open('@DIR@/secret.txt', os.O_RDONLY), 100)",
    "reads by pathlib": "import pathlib\nR = pathlib.Path('@DIR@/secret.txt').read_text()",
    "reads by io": "import io\nR = io.FileIO('@DIR@/secret.txt').read()",
    "reads by mmap": "import mmap, os\nfd = os.open('@DIR@/secret.txt', 0)\nR = mmap.mmap(fd, 0, prot=1)[:]",
    "reads by codecs": "import codecs\nR = codecs.open('@DIR@/secret.txt').read()",
    "reads by linecache": "import linecache\nR = linecache.getlines('@DIR@/secret.txt')",
    "reads by fileinput": "import fileinput\nR = list(fileinput.input('@DIR@/secret.txt'))",
    "reads by sqlite": "import sqlite3\nR = sqlite3.connect('file:@DIR@/secret.db?mode=ro', uri=True).execute('select word from t').fetchall()",
    "reads by libc": "import ctypes\nlibc = ctypes.CDLL(None)\nfd = libc.open(b'@DIR@/secret.txt', 0)\nbuffer = ctypes.create_string_buffer(64)\nlibc.read(fd, buffer, 64)\nR = buffer.value",
    "lists a folder": "import os\nR = [open('@DIR@/' + name).read() for name in os.listdir('@DIR@') if name.endswith('.txt')]",
    "walks up from here": "import os\nR = open(os.path.relpath('@DIR@/secret.txt')).read()",
    "writes": "open('@DIR@/owned', 'w').write('x')",
    "writes by os": "import os\nos.write(os.open('@DIR@/owned', os.O_CREAT | os.O_WRONLY), b'x')",
    "appends": "open('@DIR@/owned', 'a').write('x')",
    "makes a folder": "import os\nos.mkdir('@DIR@/owned')",
    "makes a link": "import os\nos.link('@DIR@/secret.txt', '@DIR@/owned')",
    "makes a symbolic link": "import os\nos.symlink('/', '@DIR@/owned')",
    "renames": "import os\nos.rename('@DIR@/spare.txt', '@DIR@/owned')",
    "makes a pipe file": "import os\nos.mkfifo('@DIR@/owned')",
    "writes by shutil": "import shutil\nshutil.copy('@DIR@/secret.txt', '@DIR@/owned')",
    "writes by sqlite": "import sqlite3\nsqlite3.connect('@DIR@/owned').execute('create table t (x)')",
    "deletes": "import os\nos.remove('@DIR@/spare.txt')\nopen('@DIR@/owned', 'w')",
    "writes through fork": "import os\nif os.fork() == 0:\n    open('@DIR@/owned', 'w').close()\n    os._exit(0)\nos.wait()",
}

SOCKETS = {
    "connects": "import socket\nsocket.create_connection(('127.0.0.1', @PORT@), 2)",
    "connects by libc": "import ctypes, struct\nlibc = ctypes.CDLL(None)\nfd = libc.socket(2, 1, 0)\nlibc.connect(fd, struct.pack('=HHI8x', 2, (@PORT@ >> 8) | (@PORT@ & 255) << 8, 0x100007f), 16)",
    "connects by urllib": "import urllib.request\ntry: urllib.request.urlopen('http://127.0.0.1:@PORT@/', timeout=0.2)\nexcept TimeoutError: pass",
    "connects by http": "import http.client\nhttp.client.HTTPConnection('127.0.0.1', @PORT@, timeout=1).connect()",
    "connects over ipv6": "import socket\nsocket.create_connection(('::ffff:127.0.0.1', @PORT@), 2)",
    "connects to a unix socket": "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect('@DIR@/door')",
    "connects without waiting": "import socket, select\ns = socket.socket()\ns.setblocking(False)\ns.connect_ex(('127.0.0.1', @PORT@))\nselect.select([], [s], [], 1)",
    "listens": "import socket\ns = socket.socket()\ns.bind(('127.0.0.1', 0))\ns.listen()\nR = 'BROKEN'",
    "sends a datagram": "import socket\nR = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9)) and 'BROKEN'",
    "talks to the kernel": "import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\nR = 'BROKEN'",
    "pair of sockets": "import socket\nsocket.socketpair()\nR = 'BROKEN'",
}

PROCESSES = {
    "forks": "import os\npid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\nR = 'BROKEN'",
    "runs a program": "import subprocess\nsubprocess.run(['touch', '@DIR@/owned'], check=True)",
    "runs a shell": "import os\nos.system('touch @DIR@/owned')",
    "opens a pipe to a program": "import os\nR = os.popen('cat @DIR@/secret.txt').read()",
    "spawns": "import os\nos.posix_spawn('/usr/bin/touch', ['touch', '@DIR@/owned'], {})\nos.wait()",
    "becomes another program": "import os\nos.execv('/usr/bin/touch', ['touch', '@DIR@/owned'])",
    "forks with a terminal": "import os, pty\npid, fd = pty.fork()\nif pid == 0: os._exit(0)\nR = 'BROKEN'",
    "starts a process by multiprocessing": "import multiprocessing, os\np = multiprocessing.get_context('fork').Process(target=os.mkdir, args=('@DIR@/owned',))\np.start()\np.join()",
    "starts a thread": "import threading\nt = threading.Thread(target=int)\nt.start()\nt.join()\nR = 'BROKEN'",
    "makes a program in memory": "import os\nfd = os.memfd_create('x')\nos.write(fd, b'#!/bin/sh\\ntouch @DIR@/owned\\n')\nR = 'BROKEN'",
    "maps memory that runs": "import mmap\nmmap.mmap(-1, 4096, prot=7)\nR = 'BROKEN'",
    "makes memory run later": "import ctypes, mmap\nm = mmap.mmap(-1, 4096)\nhere = ctypes.addressof(ctypes.c_char.from_buffer(m))\nassert ctypes.CDLL(None).mprotect(ctypes.c_void_p(here), 4096, 7) == 0\nR = 'BROKEN'",
    "lowers its limits again": "import resource as r\nsoft, hard = r.getrlimit(r.RLIMIT_NOFILE)\nr.setrlimit(r.RLIMIT_NOFILE, (hard, hard))\nR = 'BROKEN'",
    "looks at processes": "import os\nR = os.listdir('/proc') and open('/proc/self/environ').read() is not None and 'BROKEN'",
    "changes its name": "import ctypes\nassert ctypes.CDLL(None).prctl(15, b'kworker') == 0\nR = 'BROKEN'",
}

SIGNALS = {
    "ends a process": "import os, signal\nos.kill(@PID@, signal.SIGKILL)",
    "ends a process by pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open(@PID@), signal.SIGKILL)",
    "ends a process by libc": "import ctypes\nctypes.CDLL(None).kill(@PID@, 9)",
    "ends a process by queue": "import ctypes\nctypes.CDLL(None).sigqueue(@PID@, 9, None)",
    "traces and ends a process": "import ctypes, os, signal\nctypes.CDLL(None).ptrace(16, @PID@, 0, 0)\nos.kill(@PID@, signal.SIGKILL)",
    "ends a process through a shell": "import subprocess\nsubprocess.run(['kill', '-9', '@PID@'], check=False)",
    "ignores its processor limit": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nR = 'BROKEN'",
    "asks about its parent": "import os\nos.kill(os.getppid(), 0)\nR = 'BROKEN'",
}

DESCRIPTORS = {
    "writes to an open one": "import os\nos.write(@FD@, b'x')",
    "writes to a copy": "import os\nos.write(os.dup(@FD@), b'x')",
    "writes a vector": "import os\nos.writev(@FD@, [b'x'])",
    "writes by sendfile": "import os\nos.sendfile(@FD@, os.open('@DIR@/secret.txt', 0), 0, 5)",
    "writes after closing the others": "import os\nos.closerange(4, @FD@)\nos.write(@FD@, b'x')",
    "writes as a file": "open(@FD@, 'wb', buffering=0, closefd=False).write(b'x')",
    "writes by libc": "import ctypes\nctypes.CDLL(None).write(@FD@, b'x', 1)",
    "makes a pipe": "import os\nos.pipe()\nR = 'BROKEN'",
    "opens an event": "import os\nos.eventfd(1)\nR = 'BROKEN'",
    "copies its own": "import os\nos.dup(@LINK@)\nR = 'BROKEN'",
    "sends its own away": "import socket\ns = socket.socketpair()\nsocket.send_fds(s[0], [b'x'], [1])\nR = 'BROKEN'",
}

FAMILIES = {
    "files": FILES,
    "sockets": SOCKETS,
    "processes": PROCESSES,
    "signals": SIGNALS,
    "descriptors": DESCRIPTORS,
}
