"""Payloads after time and memory. Each either never ends, or takes more than a session may."""

# ruff: noqa: E501  (a payload is read best in one piece)
MEMORY = {
    "one long text": "R = 'x' * (1 << 31)",
    "a list that grows": "R = []\nwhile True: R.append('x' * 1000000)",
    "a list doubled": "R = [0]\nwhile True: R += R",
    "bytes": "R = bytearray(1 << 31)",
    "a dictionary": "R = {}\nwhile True: R[len(R)] = 'x' * 1000",
    "a range made a list": "R = list(range(1 << 40))",
    "a joined product": "import itertools\nR = ''.join('x' * 1000 for _ in itertools.count())",
    "a replaced text": "R = 'x' * 1000000\nwhile True: R = R.replace('x', 'xx')",
    "a padded number": "R = f'{1:>{1 << 31}}'",
    "a percent width": "R = '%*d' % (1 << 31 - 1, 1)",
    "combinations": "import itertools\nR = list(itertools.permutations(range(12)))",
    "a generator's tee": "import itertools\na, b = itertools.tee(itertools.count())\nfor x in a: pass",
    "a pattern's matches": "import re\nR = []\nwhile True: R.append(re.findall('.', 'x' * 100000))",
}

TIME = {
    "loop": "while True: pass",
    "loop that catches everything": "while True:\n    try:\n        while True: 1 / 0\n    except BaseException: pass",
    "power": "R = 10 ** 10 ** 8",
    "a number's digits": "R = (1 << (1 << 27)) // ((1 << (1 << 26)) + 1)",
    "factorial": "import math\nR = math.factorial(10 ** 7)",
    "catastrophic pattern": "import re\nre.match('(a+)+$', 'a' * 40 + '!')",
    "catastrophic pattern, nested": "import re\nre.match('(x+x+)+y', 'x' * 40)",
    "sum of a count": "import itertools\nR = sum(itertools.count())",
    "length of a range's members": "R = 5.5 in range(10 ** 12)",
    "sleep": "import time\ntime.sleep(10 ** 6)",
    "sorting that never agrees": "class A:\n    def __lt__(self, other): return True\nwhile True: sorted([A()] * 1000)",
    "equality that recurses": "class A:\n    def __eq__(self, other):\n        while True: pass\nA() == 1",
    "difflib": "import difflib\nwhile True: difflib.SequenceMatcher(None, 'ab' * 3000, 'ba' * 3000, autojunk=False).ratio()",
    "a hash that never ends": "class A:\n    def __hash__(self):\n        while True: pass\n{A(): 1}",
    "an iterator without end": "R = max(iter(int, 1))",
    "a message that never ends": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "last words that never end": "def f():\n    try: yield\n    finally:\n        while True: pass\nx = f()\nnext(x)\ndel x",
    "a fraction of a large power": "from fractions import Fraction\nR = Fraction('1e100000000')",
    "lines of one letter": "import textwrap\nwhile True: textwrap.wrap('a' * 10**6, width=1)",
    "text that never ends": "class A:\n    def __repr__(self):\n        while True: pass\nR = repr(A())",
}

OUTPUT = {
    "one line": "while True: print('x' * 100000)",
    "many small lines": "while True: print('x')",
    "nothing, often": "while True: print(end='')",
    "wide characters": "while True: print('\\U0001f600' * 10000)",
    "lone surrogates": "while True:\n    try: print('\\ud800' * 10000, end='')\n    except UnicodeError: pass",
    "growing lines": "n = 1\nwhile True:\n    print('x' * n)\n    n = min(n * 2, 1000000)",
}

RECURSION = {
    "function": "def f(): return f()\nwhile True:\n    try: f()\n    except RecursionError: pass",
    "nested list shown": "x = []\nfor _ in range(200000): x = [x]\nwhile True:\n    try: repr(x)\n    except RecursionError: pass",
    "nested list compared": "x, y = [], []\nfor _ in range(200000): x, y = [x], [y]\nwhile True:\n    try: x == y\n    except RecursionError: pass",
    "nested dictionary dumped": "import json\nx = {}\nfor _ in range(200000): x = {'x': x}\nwhile True:\n    try: json.dumps(x)\n    except RecursionError: pass",
    "nested tuple hashed": "x = ()\nfor _ in range(200000): x = (x,)\nwhile True:\n    try: hash(x)\n    except RecursionError: pass",
    "nested text parsed": "import json\nwhile True:\n    try: json.loads('[' * 200000)\n    except RecursionError: pass",
}

# These are judged by the parser: they end with an error or a death, in time, and the session goes on.
PARSE_BOMBS = {
    "brackets": "(" * 100_000 + ")" * 100_000,
    "minus signs": "R = " + "-" * 300_000 + "1",
    "nots": "R = " + "not " * 100_000 + "1",
    "lambdas": "R = " + "lambda: " * 50_000 + "1",
    "attributes": "R = x" + ".a" * 200_000,
    "calls": "R = f" + "()" * 100_000,
    "nested ifs": "".join(" " * i + "if 1:\n" for i in range(90)) + " " * 90 + "pass",
    "comparisons": "R = " + "1 < " * 200_000 + "2",
    "one long sum": "R = " + "1 + " * 300_000 + "1",
    "many lines": "x = 1\n" * 300_000,
    "one long name": "x" * 5_000_000,
    "one long import": "import " + "y" * 5_000_000,
    "one long attribute": "x._" + "y" * 5_000_000,
    "nested f-strings": "R = " + "f'{" * 90 + "1" + "}'" * 90,
    "walrus chain": "".join(f"(x{i} := " for i in range(5_000)) + "1" + ")" * 5_000,
    "decorators": "@f\n" * 100_000 + "def g(): pass",
    "null byte": "x = 1\x00",
    "unfinished text": "x = '" + "y" * 1_000_000,
}

FAMILIES = {
    "memory": MEMORY,
    "time": TIME,
    "output": OUTPUT,
    "recursion": RECURSION,
    "parse bombs": PARSE_BOMBS,
}
