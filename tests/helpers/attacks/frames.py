"""Payloads that hold the worker's socket and write what they like on it: every frame may be forged."""

_SEND = """
import json, os, struct, time
def send(value, about=None):
    if isinstance(value, dict): value = {'nonce': about or cell['nonce']} | value
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    data = struct.pack('>I', len(body)) + body
    while data: data = data[os.write(@LINK@, data):]
def read():
    size = struct.unpack('>I', exactly(4))[0]
    return json.loads(exactly(size))
def exactly(size):
    data = b''
    while len(data) < size: data += os.read(@LINK@, size - len(data)) or os._exit(0)
    return data
done = {'t': 'done', 'status': 'ok', 'stdout': '', 'error': '', 'rule': None, 'line': None, 'answer': None,
        'truncated': False}
rejected = done | {'status': 'rejected', 'rule': 'import os', 'line': 1}
call = {'t': 'call', 'name': 'llm_query', 'args': [], 'kwargs': {}}
cell = read()
"""

_FORGED = {
    "a call that is not on the list": "send(call | {'name': 'os.system'})\nread()",
    "a dunder call": "send(call | {'name': '__class__'})\nread()",
    "a call whose name is a list": "send(call | {'name': ['llm_query']})",
    "arguments that are a text": "send(call | {'args': 'abc'})",
    "keywords that are a list": "send(call | {'kwargs': [1]})",
    "a kind that does not exist": "send({'t': 'exec', 'code': '1'})",
    "a kind that is a number": "send({'t': 1})",
    "a list": "send([1, 2, 3])",
    "null": "send(None)",
    "no kind": "send({})",
    "a status that does not exist": "send(done | {'status': 'root'})",
    "an answer of another shape": "send(done | {'answer': {'content': 1, 'citations': 2, 'ready': True}})",
    "an answer with more": "send(done | {'answer': {'content': '', 'citations': [], 'ready': True, 'usd': 0}})",
    "an error that is a number": "send(done | {'error': 5})",
    "a line without end": "send(done | {'line': 10 ** 40})",
    "a line below the first": "send(done | {'line': -1})",
    "a rule without end": "send(done | {'rule': 'x' * 1000000})",
    "a truth that is text": "send(done | {'truncated': 'yes'})",
    "output that is a list": "send({'t': 'out', 'text': ['x']})",
    "a size past every cap": "os.write(@LINK@, b'\\xff\\xff\\xff\\xff')",
    "a size and no body": "os.write(@LINK@, struct.pack('>I', 1000))",
    "half a size": "os.write(@LINK@, b'\\x00')",
    "an empty body": "send(b'')",
    "not a number": "send(b'{\"t\": NaN}')",
    "infinity": "send(b'{\"t\": 1e999}')",
    "a number without end": "send(b'[' + b'9' * 100000 + b']')",
    "depth": "send(b'[' * 100000 + b']' * 100000)",
    "depth in dictionaries": "send(b'{\"a\":' * 100000 + b'1' + b'}' * 100000)",
    "a million empty lists": "send(b'[' + b'[],' * 1000000 + b'[]]')",
    "pickle": "import pickle\nsend(pickle.dumps(print))",
    "utf-16": "send('{\"t\": \"done\"}'.encode('utf-16'))",
    "bytes that are no text": 'send(b\'{"t": "\\xff\\xfe"}\')',
    "one key twice": 'send(b\'{"t": "done", "t": "call"}\')',
    "a flood of calls": "while True: send(call)",
    "a flood of output": "while True: send({'t': 'out', 'text': 'x' * 1000000})",
    "a flood of nothing": "while True: os.write(@LINK@, b'\\x00' * 65536)",
    "calls that are never read": "for _ in range(100000): send(call)",
    "silence": "while True: pass",
    "hanging up": "os._exit(0)",
    "a second ending": "send(done)\nsend(done)",
    "an ending and one byte more": "send(done)\nos.write(@LINK@, b'\\x00')",
    "an ending without a nonce": "send(done | {'nonce': None})",
    "an ending with a guessed nonce": "send(done, '0' * 16)",
    "an ending with a part of the nonce": "send(done, cell['nonce'][:8])",
    "an ending with the nonce in a list": "send(done | {'nonce': [cell['nonce']]})",
    "an ending with the nonce in large letters": "send(done, cell['nonce'].upper() + ' ')",
    "a call without a nonce": "send(call | {'nonce': ''})\nread()",
    "a call with a guessed nonce": "send(call, 'f' * 16)\nread()",
    "output with a guessed nonce": "send({'t': 'out', 'text': 'said before'}, 'f' * 16)\nsend(done)",
    "output, then rejected": "send({'t': 'out', 'text': 'it ran'})\nsend(rejected)",
    "a call, then rejected": "send(call)\nread()\nsend(rejected)",
    "rejected with output": "send(rejected | {'stdout': 'it ran'})",
    "rejected with an answer": "send(rejected | {'answer': {'content': '', 'citations': [], 'ready': True}})",
    "rejected for no reason": "send(rejected | {'rule': None})",
    "rejected on a line that is a truth": "send(rejected | {'line': True})",
    "rejected twice": "send(rejected)\nsend(rejected)",
    "well, but for a reason": "send(done | {'rule': 'import os'})",
    "well, but with an error": "send(done | {'error': 'ValueError: x'})",
    "ill, but with a rule": "send(done | {'status': 'error', 'error': 'x', 'rule': 'import os'})",
    "ill, but with no error": "send(done | {'status': 'error'})",
    "a text without an end": "send(b',' * 500001 + b'\"' + b'\\\\\"' * 20000)",
    "a text without an end, of lines": "send(b',' * 500001 + b'\"\\\\\\n' * 20000)",
    "empty texts": "send(b',' * 500001 + b'\"\"' * 3700000)",
    "byte by byte": "for byte in struct.pack('>I', 2) + b'[]': os.write(@LINK@, bytes([byte])); time.sleep(0.05)",
    "an ending of an earlier nonce, twice": "send(done, cell['nonce'][::-1])\nsend(done)",
    "a status that is a list": "send(done | {'status': ['ok']})",
    "a kind that is a dictionary": "send(done | {'t': {'done': 1}})",
    "a mark before the text": "send(b'\\xef\\xbb\\xbf' + json.dumps(done | {'nonce': cell['nonce']}).encode())",
    "keys of half a character": "send({'t': 'out', 'text': '\\ud800', '\\udfff': 1})\nsend(done | {'status': 'root'})",
    "a line that is no whole number": "send(done | {'line': 1.0})",
    "the largest error": "send(done | {'status': 'error', 'error': 'e' * 8000000, 'line': True})",
}

FAMILIES = {"forged frames": {name: _SEND + code for name, code in _FORGED.items()}}
