"""Payloads after an object that leads out of the language: each leaves it in `R`.

`llm_query` is a Python function and `context` an object with methods, as in a session.
"""

# ruff: noqa: E501  (a payload is read best in one piece)
import sys

DUNDER = {
    "classes below object": "R = ().__class__.__base__.__subclasses__()",
    "classes through a string": "R = ''.__class__.__mro__[-1].__subclasses__()",
    "classes of a class": "class Note: pass\nR = Note.__bases__[0].__subclasses__()",
    "globals of a call": "R = llm_query.__globals__",
    "globals of a method": "class Note:\n    def read(self): pass\nR = Note.read.__globals__",
    "globals of an init": "class Note:\n    def __init__(self): pass\nR = Note().__init__.__globals__",
    "globals through a decorator": "import functools\n@functools.lru_cache\ndef f(): pass\nR = f.__wrapped__.__globals__",
    "builtins of a function": "def f(): pass\nR = f.__builtins__",
    "code of a function": "def f(): return 1\nR = f.__code__",
    "closure of a call": "def outer(x):\n    def inner(): return x\n    return inner\nR = outer(1).__closure__[0]",
    "dictionary of a class": "class Note: pass\nR = Note.__dict__",
    "metaclass of a class": "R = int.__class__",
    "reduce protocol": "R = (1).__reduce_ex__(4)[0].__globals__",
    "getattribute by hand": "R = object.__getattribute__(llm_query, '__globals__')",
    "self of a builtin": "R = print.__self__",
    "module by its name": "import json\nR = json.__loader__.__init__.__globals__",
    "function of a bound method": "class Note:\n    def read(self): pass\nR = Note().read.__func__.__globals__",
    "init subclass": "class Note:\n    def __init_subclass__(cls): pass\nR = Note.__init_subclass__.__func__.__globals__",
    "descriptor get": "class Note:\n    @property\n    def size(self): return 1\nR = Note.size.fget.__globals__",
    "dunder by keyword unpacking": "d = {'c': ().__class__}\nR = dict(**d)['c'].__base__.__subclasses__()",
    "dunder in a lambda default": "R = (lambda k=().__class__.__base__: k.__subclasses__())()",
    "dunder in a decorator": "keep = []\n@(lambda f: keep.append(f.__globals__))\ndef f(): pass\nR = keep[0]",
    "dunder in an annotation": "def f(x: ().__class__.__base__.__subclasses__()): pass\nR = f.__annotations__['x']",
    "dunder in an f-string": "R = [0]\nf'{R.append(().__class__.__base__.__subclasses__())}'",
    "dunder in a comprehension": "R = [c for c in ().__class__.__base__.__subclasses__()]",
    "dunder deleted and read": "class Note: pass\nnote = Note()\nR = [note.__dict__, llm_query.__globals__]",
    "fullwidth letters": "R = llm_query.__ｇlobals__",
}

FORMAT = {
    "field of a call": "R = '{0.__globals__}'.format(llm_query)",
    "field of a class": "assert '{0.__class__.__base__}'.format(1) == str(object)\nR = 'BROKEN'",
    "field by keyword": "R = '{it.__globals__}'.format(it=llm_query)",
    "field after an index": "R = '{0[0].__globals__}'.format([llm_query])",
    "field in a format spec": "'{0:{1.__class__.__name__[0]}}'.format(5, 1.5)\nR = 'BROKEN'",
    "format_map": "R = '{it.__globals__}'.format_map({'it': llm_query})",
    "str.format unbound": "R = str.format('{0.__globals__}', llm_query)",
    "format carried by map": "R = ''.join(map('{0.__globals__}'.format, [llm_query]))",
    "format kept in a name": "f = '{0.__globals__}'.format\nR = f(llm_query)",
    "format of a subclass": "class Text(str): pass\nR = Text('{0.__globals__}').format(llm_query)",
    "format through super": "class Text(str):\n    def go(self, it): return super().format(it)\nR = Text('{0.__globals__}').go(llm_query)",
    "format through a pattern": "match '{0.__globals__}':\n    case str(format=f): R = f(llm_query)",
    "format by augmented assignment": """
class Catch:
    def __radd__(self, method):
        self.got = method
        return 0
class Text(str): pass
text, catch = Text('{0.__globals__}'), Catch()
text.format += catch
R = catch.got(llm_query)
""",
    "format in a dataclass that is text": """
from dataclasses import dataclass, field
@dataclass
class Base:
    format: object = field(default_factory=int)
class Text(Base, str): pass
text = Text('{0.__globals__}')
del text.format
match text:
    case Text(f): R = f(llm_query)
""",
    "format out of asdict": """
from dataclasses import dataclass, field, asdict
@dataclass
class Base:
    format: object = field(default_factory=int)
class Text(Base, str): pass
text = Text('{0.__globals__}')
del text.format
R = asdict(text)['format'](llm_query)
""",
    "format of a virtual subclass": """
import collections, collections.abc
class Text(collections.namedtuple('Text', 'format'), collections.abc.Sized): pass
Text.register(str)
match '{0.__globals__}':
    case Text(f): R = f(llm_query)
""",
    "formatter of string": "import string\nR = string.Formatter().get_field('0.__globals__', (llm_query,), {})[0]",
    "formatter's vformat": "import string\nR = string.Formatter().vformat('{0.__globals__}', (llm_query,), {})",
    "template subclass": "import string\nclass T(string.Template):\n    idpattern = '.*'\nR = T.pattern.__class__.__base__.__subclasses__()",
}

ERRORS = {
    "object of an attribute error": "try: '{0.__globals__.nothing}'.format(llm_query)\nexcept AttributeError as e: R = e.obj",
    "object by a pattern": "try: '{0.__globals__.nothing}'.format(llm_query)\nexcept AttributeError as e:\n    match e:\n        case AttributeError(obj=o): R = o",
    "object of a missing method": "try: str.format('{0.__class__.__base__.nothing}', 1)\nexcept AttributeError as e: R = e.obj.__subclasses__()",
    "traceback of an error": "try: 1 / 0\nexcept ZeroDivisionError as e: R = e.__traceback__.tb_frame",
    "traceback kept by with_traceback": "try: 1 / 0\nexcept ZeroDivisionError as e: R = e.with_traceback(None).__class__.__base__.__base__.__base__.__base__.__subclasses__()",
    "context of an error": "try:\n    try: 1 / 0\n    except ZeroDivisionError: [][1]\nexcept IndexError as e: R = e.__context__.__traceback__.tb_frame",
    "arguments of a name error": "try: nothing_here\nexcept NameError as e: R = e.__traceback__.tb_frame.f_builtins",
    "error group sifted": "keep = []\ntry: raise ExceptionGroup('g', [ValueError()])\nexcept* ValueError as g: g.subgroup(lambda e: keep.append(e.__traceback__))\nR = keep[0].tb_frame",
    "error group": "try: raise ExceptionGroup('g', [ValueError()])\nexcept* ValueError as g: R = g.__traceback__.tb_frame",
    "stop iteration": "def g():\n    yield 1\n    return g.__globals__\nit = g()\nnext(it)\ntry: next(it)\nexcept StopIteration as e: R = e.value",
}

FRAMES = {
    "generator frame": "g = (g.gi_frame for _ in [1])\nR = list(g)[0]",
    "generator frame outside": "def g(): yield 1\nit = g()\nnext(it)\nR = it.gi_frame.f_builtins",
    "generator code": "R = (x for x in []).gi_code",
    "frame behind a generator": "def g(): yield it.gi_frame.f_back\nit = g()\nR = next(it)",
    "coroutine frame": "async def c(): pass\nit = c()\nR = it.cr_frame\nit.close()",
    "coroutine code": "async def c(): pass\nit = c()\nit.close()\nR = it.cr_code",
    "async generator frame": "async def a(): yield 1\nR = a().ag_frame",
    "async generator code": "async def a(): yield 1\nR = a().ag_code",
    "exit traceback": """
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
with Catch() as c: 1 / 0
R = c.tb.tb_frame
""",
    "exit traceback, next one": """
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
def f(): 1 / 0
with Catch() as c: f()
R = c.tb.tb_next.tb_frame.f_globals
""",
    "traceback by keyword pattern": """
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
with Catch() as c: 1 / 0
match c.tb:
    case object(tb_frame=f): R = f
""",
    "traceback by position": """
import collections.abc
from dataclasses import dataclass
@dataclass
class Look(collections.abc.Sized):
    tb_frame: object
    def __len__(self): return 0
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
with Catch() as c: 1 / 0
Look.register(type(c.tb))
match c.tb:
    case Look(f): R = f
""",
    "traceback by a named tuple's position": """
import collections, collections.abc
class Look(collections.namedtuple('Look', 'tb_frame'), collections.abc.Sized): pass
class Catch:
    def __enter__(self): return self
    def __exit__(self, kind, error, tb):
        self.tb = tb
        return True
with Catch() as c: 1 / 0
Look.register(type(c.tb))
match c.tb:
    case Look(f): R = f
""",
    "generator by position": """
import collections, collections.abc
class Look(collections.namedtuple('Look', 'gi_frame'), collections.abc.Sized): pass
it = (x for x in [1])
Look.register(type(it))
match it:
    case Look(f): R = f
""",
    "frame by sys": "import sys\nR = sys._getframe()",
    "frame by inspect": "import inspect\nR = inspect.currentframe()",
    "frame by traceback walk": "import traceback\nR = next(traceback.walk_stack(None))[0]",
    "code by replace": "def f(): return 1\nR = f.__code__.replace(co_name='g')",
}

PATTERNS = {
    "class by keyword": "match 1:\n    case int(__class__=c): R = c.__base__.__subclasses__()",
    "globals by keyword": "match llm_query:\n    case object(__globals__=g): R = g",
    "dictionary by keyword": "class Note: pass\nmatch Note:\n    case object(__dict__=d): R = d",
    "code by keyword": "match llm_query:\n    case object(__code__=c): R = c",
    "own match_args": "class Look:\n    __match_args__ = ('__globals__',)\nclass Meta(type):\n    def __instancecheck__(cls, it): return True\nclass Any(Look, metaclass=Meta): pass\nmatch llm_query:\n    case Any(g): R = g",
    "match_args through type": "M = type(int)('M', (type,), {'__instancecheck__': lambda c, x: True})\nL = M('L', (), {'__match_args__': ('__globals__',)})\nmatch llm_query:\n    case L(g): R = g",
    "mapping pattern of a namespace": "match llm_query.__globals__:\n    case {'__builtins__': b}: R = {'__builtins__': b, **llm_query.__globals__}",
    "pattern in a lambda's body": "def look(x):\n    match x:\n        case object(__globals__=g): return g\nR = look(llm_query)",
    "star pattern of subclasses": "match ().__class__.__base__.__subclasses__():\n    case [*all_of_them]: R = all_of_them",
    "as pattern": "match llm_query:\n    case object(__globals__=_ as g): R = g",
}

NAMES_AS_DATA = {
    "attrgetter": "import operator\nR = operator.attrgetter('__globals__')(llm_query)",
    "attrgetter from": "from operator import attrgetter as a\nR = a('__class__.__base__')(1).__subclasses__()",
    "methodcaller": "import operator\nR = operator.methodcaller('__subclasses__')(object)",
    "getattr": "R = getattr(llm_query, '__glo' + 'bals__')",
    "getattr with a default": "R = getattr(llm_query, '__globals__', None)",
    "vars": "import json\nR = vars(json)",
    "vars of the cell": "R = vars()",
    "dir and index": "R = [getattr(llm_query, n) for n in dir(llm_query) if n == '__globals__']",
    "inspect.getattr_static": "import inspect\nR = inspect.getattr_static(llm_query, '__globals__').__get__(llm_query)",
    "inspect.getclosurevars": "import inspect\ninspect.getclosurevars(llm_query)\nR = 'BROKEN'",
    "wraps with names": "import functools\nclass Box: pass\nbox = Box()\nfunctools.wraps(llm_query, assigned=('__globals__',), updated=())(box)\nR = box.__globals__",
    "update_wrapper out of wraps": """
import functools
class Box:
    slot = functools.cached_property(lambda self: taken)
taken = {}
Box.slot.attrname = '__globals__'
box = Box()
box.slot
functools.wraps(len).func(box, llm_query, (), ('__globals__',))
R = taken
""",
    "renamed dataclass field": """
from dataclasses import dataclass, field, asdict
spare = field(default=0)
@dataclass
class Note:
    x: int = spare
spare.name = '__class__'
note = Note()
R = asdict(note)['__class__'].__base__.__subclasses__()
""",
    "field renamed by a text of its own": """
from dataclasses import dataclass, field, asdict
class Name(str):
    def removeprefix(self, prefix): return 'harmless'
spare = field(default=0)
@dataclass
class Note:
    x: int = spare
spare.name = Name('__class__')
asdict(Note())
R = 'BROKEN'
""",
    "code in a field's name": """
from dataclasses import dataclass, field
spare, R = field(default=0), []
@dataclass
class Note:
    x: int = spare
spare.name = 'x or R.append(self.__class__.__base__.__base__.__subclasses__())'
@dataclass(init=False, eq=False, match_args=False)
class More(Note): pass
repr(More())
""",
    "field of a kind of its own": """
from dataclasses import dataclass, field
kept, names = [], iter(['x', 'x', 'x'])
class Shifty(type(field())):
    @property
    def name(self): return 'kept.append(().__class__.__base__.__subclasses__())'
    @name.setter
    def name(self, value): kept.append('BROKEN')
@dataclass(init=False)
class Note:
    x: int = Shifty(0, None, True, True, None, True, {}, False)
R = kept
""",
    "private name of the context": "self = context\nR = self._call",
    "private name in a method": "class Note:\n    def look(self): return self._call\nR = Note.look(context)",
    "private name by augmented assignment": """
class Catch:
    def __radd__(self, it):
        self.got = it
        return it
catch = Catch()
def look(self): self._call += catch
look(context)
R = catch.got
""",
    "copy of a function's parts": "import copy\nR = copy.copy(llm_query.__globals__)",
    "type hints": "import typing\ndef f(x: '().__class__.__base__.__subclasses__()'): pass\nR = typing.get_type_hints(f)['x']",
    "named tuple's defaults": "import collections\nR = collections.namedtuple.__globals__",
    "sorted by a dunder": "import operator\nR = max([llm_query], key=operator.attrgetter('__name__')).__globals__",
    "reduce over a path": "import functools\nR = functools.reduce(getattr, ['__class__', '__base__'], 1).__subclasses__()",
}

MODULES = {
    "json.codecs": "import json\nR = json.codecs",
    "json.codecs.builtins": "import json\nR = json.codecs.builtins.open",
    "json.decoder": "import json\nR = json.decoder.scanner",
    "random._os": "import random\nR = random._os",
    "statistics.sys": "import statistics\nR = statistics.sys",
    "re.enum.sys": "import re\nR = re.enum.sys",
    "re._compiler": "import re\nR = re._compiler",
    "collections._sys": "import collections\nR = collections._sys",
    "collections.abc by its base": "import collections.abc\nR = collections.abc.Sized.__subclasshook__.__func__.__globals__",
    "csv.re": "import csv\nR = csv.re",
    "datetime by its builtins": "import datetime\nR = datetime.__builtins__['open']",
    "difflib.re": "import difflib\nR = difflib._namedtuple.__globals__",
    "textwrap.re": "import textwrap\nR = textwrap.re",
    "string._re": "import string\nR = string._re",
    "heapq module doc": "import heapq\nR = heapq.merge.__globals__",
    "bisect by its spec": "import bisect\nR = bisect.__spec__.loader.__class__.__dict__",
    "functools through a cache": "import functools\nR = functools.singledispatch.__globals__",
    "itertools by its loader": "import itertools\nR = type(itertools)('os')",
    "math by its name": "import math\nR = math.__spec__.loader.__class__.__dict__",
    "module in a class's globals": "import random\nR = random.Random.seed.__globals__['_os']",
    "module out of a match": "import re\nmatch re:\n    case object(enum=e): R = e",
    "dataclasses.sys": "import dataclasses\nR = dataclasses.sys",
    "typing.sys": "import typing\nR = typing.sys",
    "decimal.numbers": "import fractions\nR = fractions.sys",
    "io.os": "import io\nR = io.os if hasattr(io, 'os') else io.abc",
}

IMPORTS = {
    "import os": "import os\nR = os",
    "import as": "import os as math\nR = math",
    "from import": "from os import path\nR = path",
    "from import star": "from os import *\nR = system",
    "dotted": "import os.path\nR = os",
    "in a function": "def f():\n    import sys\n    return sys\nR = f()",
    "in a class body": "class Note:\n    import subprocess as it\nR = Note.it",
    "in a try": "try:\n    import nothing\nexcept ImportError:\n    import posix\nR = posix",
    "importlib": "import importlib\nR = importlib.import_module('os')",
    "dunder import": "R = __import__('os')",
    "dunder import with a level": "R = __import__('json.decoder', fromlist=['x'])",
    "builtins module": "import builtins\nR = builtins",
    "the worker's package": "import cage.worker as w\nR = w",
    "main": "import __main__ as m\nR = m",
    "pickle": "import pickle\nR = pickle.loads(b'cbuiltins\\ngetattr\\n.')",
    "ctypes": "import ctypes\nR = ctypes",
    "gc": "import gc\nR = [o for o in gc.get_objects() if type(o) is dict and '__builtins__' in o]",
    "code module": "import code\nR = code",
    "zipimport": "import zipimport\nR = zipimport",
    "submodule by from": "from collections import _sys\nR = _sys",
    "submodule of json": "from json import codecs\nR = codecs",
    "hidden behind a name": "re = 1\nimport sys as re\nR = re",
}

BUILTINS = {
    "eval": "R = eval('().__class__.__base__.__subclasses__()')",
    "exec": "exec('R = ().__class__.__base__.__subclasses__()')",
    "compile": "R = compile('1', 'x', 'eval')",
    "eval by alias": "run = eval\nR = run('llm_query.__globals__')",
    "eval as a default": "R = (lambda run=eval: run('llm_query.__globals__'))()",
    "eval in a list": "R = [eval][0]('llm_query.__globals__')",
    "eval by walrus": "R = (run := eval)('llm_query.__globals__')",
    "eval by star": "R, = map(eval, ['llm_query.__globals__'])",
    "eval as a key": "R = sorted(['llm_query.__globals__'], key=eval) and eval",
    "globals": "R = globals()",
    "locals": "R = locals()",
    "globals in a function": "def f(): return globals()\nR = f()",
    "builtins by name": "R = vars(__builtins__) if not isinstance(__builtins__, dict) else __builtins__",
    "builtins by global": "def f():\n    global __builtins__\n    return __builtins__\nR = f()",
    "builtins by nonlocal class": "class Note:\n    def f(self): return __class__\nR = Note().f().__base__.__subclasses__()",
    "open": "R = open",
    "open by except": "try: raise ValueError(open)\nexcept ValueError as e: R = e.args[0]",
    "breakpoint": "R = breakpoint",
    "input": "R = input",
    "build class": "R = __build_class__(lambda: None, 'Note').__base__.__subclasses__()",
    "three-argument type": "R = type('Note', (), {}).__base__.__subclasses__()",
    "type of type": "R = type(type(1))",
    "type of an abc": "import collections.abc\nR = type(collections.abc.Sized)",
    "type called with a metaclass": "T = type(int)\nR = T('Note', (), {'x': 1}) and T",
    "metaclass keyword": "class Meta(type): pass\nclass Note(metaclass=Meta): pass\nR = type(Note)",
    "metaclass by unpacking": "class Note(**{'metaclass': type}): pass\nR = type(Note)",
    "setattr": "class Note: pass\nsetattr(Note, 'x', 1)\nR = setattr",
    "memoryview of nothing": "R = memoryview(b'').__class__.__base__.__subclasses__()",
    "super without a class": "class Note:\n    def f(self): return super().__getattribute__\nR = Note().f()",
    "id of an object": "R = id",
    "exit": "R = type(exit).__init__.__globals__ if 'exit' in dir(__builtins__) else __builtins__",
    "license files": "R = license._Printer__setup.__globals__ if hasattr(__builtins__, 'license') else __builtins__",
}

TAMPER = {
    "json.dumps": "import json\njson.dumps = lambda *a, **k: '{}'\nR = 'BROKEN'",
    "json encoder": "import json\njson.JSONEncoder.encode = lambda self, it: '{}'\nR = 'BROKEN'",
    "json default encoder": "import json\njson._default_encoder = None\nR = 'BROKEN'",
    "deleting a function": "import re\ndel re.sub\nR = 'BROKEN'",
    "the facade's class by a new instance": "import json\nR = type(json)('os') and 'BROKEN'",
    "builtins by assignment": "__builtins__ = {}\nR = 'BROKEN'",
    "builtins by a loop": "for __builtins__ in [{}]: pass\nR = 'BROKEN'",
    "builtins by an import": "import json as __builtins__\nR = 'BROKEN'",
    "builtins by with": "class C:\n    def __enter__(self): return {}\n    def __exit__(self, *e): pass\nwith C() as __builtins__: pass\nR = 'BROKEN'",
    "builtins by except": "try: 1 / 0\nexcept ZeroDivisionError as __builtins__: R = 'BROKEN'",
    "builtins by except star": "try: raise ExceptionGroup('g', [ValueError()])\nexcept* ValueError as __builtins__: R = 'BROKEN'",
    "builtins by def": "def __import__(*a): pass\nR = 'BROKEN'",
    "builtins by class": "class __build_class__: pass\nR = 'BROKEN'",
    "name as main": "__name__ = 'cage.worker'\nR = 'BROKEN'",
    "code swapped": "def f(): return 'BROKEN'\nllm_query.__code__ = f.__code__\nR = 'BROKEN'",
    "defaults swapped": "llm_query.__defaults__ = (1,)\nR = 'BROKEN'",
    "class of an instance": "class A: pass\nclass B: pass\na = A()\na.__class__ = B\nR = 'BROKEN'",
    "length of the context": "type(context).__len__ = lambda self: 1\nR = 'BROKEN'",
    "finaliser": "class A:\n    def __del__(self): pass\nR = 'BROKEN'",
    "attribute hook": "class A:\n    def __getattr__(self, name): return 1\nR = 'BROKEN'",
}

_WATCHED = """
import copy, typing
kept = []
class Memo(dict):
    def __setitem__(self, key, value):
        kept.append(value)
        super().__setitem__(key, value)
"""
COPIES = {
    "code of a forward reference": _WATCHED
    + "copy.deepcopy([typing.Optional['1']], Memo())\nR = [v for item in kept if type(item) is dict for v in item.values()]",
    "memo by position": _WATCHED
    + "f = copy.deepcopy\nf(typing.Union['1', int], Memo())\nR = [v for item in kept if type(item) is dict for v in item.values()]",
    "memo by name": _WATCHED
    + "copy.deepcopy(typing.Optional['1'], memo=Memo())\nR = [v for item in kept if type(item) is dict for v in item.values()]",
    "a function made of code": _WATCHED
    + "copy.deepcopy([typing.Optional['().__class__.__base__.__subclasses__()']], Memo())\ncode = [v for item in kept if type(item) is dict for v in item.values() if type(v).__name__ == 'code'][0]\nR = type(lambda: 0)(code, {})()",
}

# What 3.12 brought: parameters and aliases that are evaluated when asked for, f-strings with any quotes inside.
TYPE_PARAMETERS = {
    "bound": "def f[T: ().__class__.__base__.__subclasses__()](): pass\nR = f.__type_params__[0].__bound__",
    "constraint": "def f[T: (llm_query.__globals__, int)](): pass\nR = f.__type_params__[0].__constraints__[0]",
    "bound by returned variable": "def f[T: llm_query.__globals__](): return T\nR = f().__bound__",
    "bound of a frame": "def f[T: (x for x in [1]).gi_frame](): return T\nR = f().__bound__",
    "bound of eval": "def f[T: eval](): return T\nR = f().__bound__('llm_query.__globals__')",
    "value of an alias": "type Note = ().__class__.__base__.__subclasses__()\nR = Note.__value__",
    "value of an alias by pattern": "type Note = llm_query\nmatch Note:\n    case object(__value__=f): R = f.__globals__",
    "value of an alias by template": "type Note = llm_query\nR = '{0.__value__.__globals__}'.format(Note)",
    "lambda in an alias": "type Note = lambda: llm_query.__globals__\nR = Note.__value__()",
    "alias in a class": "class Note:\n    type Part = llm_query.__globals__\nR = Note.Part.__value__",
    "alias with parameters": "type Note[T: open] = T\nR = Note.__type_params__[0].__bound__",
    "code of a text as bound": "def f[T](): return T\nR = type(f())('N', bound='1').__bound__.__forward_code__",
    "dictionary of a generic class": "class Note[T]: pass\nR = Note.__orig_bases__[0].__origin__.__dict__",
    "globals of a generic function": "def f[T](x: T) -> T: return x\nR = f.__globals__",
    "class of a parameter": "def f[**P](): return P.args\nR = f().__class__.__class__",
    "own class in a generic method": "class Note:\n    def f[T](self): return __class__\nR = Note().f().__base__.__subclasses__()",
    "metaclass of a generic class": "class Meta(type): pass\nclass Note[T](metaclass=Meta): pass\nR = type(Note)",
    "builtins by a type parameter": "def f[__builtins__](): return 'BROKEN'\nR = f()",
    "builtins by starred type parameters": "def f[*__builtins__, **__import__](): return 'BROKEN'\nR = f()",
    "builtins by a class's type parameter": "class Note[__build_class__]:\n    def f(self): return 'BROKEN'\nR = Note().f()",
    "builtins by an alias": "type __builtins__ = int\nR = 'BROKEN'",
}

NESTED_QUOTES = {
    "one kind of quotes": 'R = f"{llm_query.__globals__["__builtins__"]}"',
    "six deep": 'R = f"{f"{f"{f"{f"{f"{llm_query.__globals__}"}"}"}"}"}"',
    "in a format spec": 'R = []\nf"{1:{R.append(llm_query.__globals__) or ""}}"',
    "in a format spec's spec": 'R = []\nf"{1:{"":{R.append(llm_query.__globals__) or ""}}}"',
    "with a backslash": 'R = f"{llm_query.__globals__["\\x5f\\x5fbuiltins\\x5f\\x5f"]}"',
    "over lines with a comment": 'R = f"{\n    llm_query.__globals__  # "}"\n}"',
    "bound to a name": 'f"{(g := llm_query.__globals__)["__name__"]}"\nR = g',
    "a format inside": 'R = f"{"{0.__globals__}".format(llm_query)}"',
}

# What 3.13 brought.
TYPE_DEFAULTS = {
    "default": "def f[T = ().__class__.__base__.__subclasses__()](): return T\nR = f().__default__",
    "default by name": "class Note[T = open]: pass\nR = Note.__type_params__[0].__default__",
    "default of starred parameters": "def f[*Ts = *[llm_query.__globals__]](): return Ts\nR = f().__default__",
    "default of a signature": "def f[**P = llm_query.__globals__](): return P\nR = f().__default__",
    "default of an alias": "type Note[T = llm_query] = T\nR = Note.__type_params__[0].__default__.__globals__",
}

# Whatever evaluates, formats or reads an attribute by a name that a cell can choose: `test_reach.py` says why it is safe.
RECORDS = {
    "field renamed while the text is built": "\nfrom dataclasses import dataclass, field\nspare, R = field(default=0), []\nclass Late:\n    def __bool__(self):\n        spare.name = 'x or R.append(().__class__.__base__.__subclasses__())'\n        return True\n@dataclass(repr=Late())\nclass Note:\n    x: int = spare\nrepr(Note())\nR = R or spare.x\n",
    "field called format": "from dataclasses import dataclass\nclass Text(str): pass\n@dataclass\nclass Note:\n    format: object = None\nR = 'BROKEN'",
    "field called register": "from dataclasses import dataclass\n@dataclass\nclass Note:\n    register: object = None\nR = 'BROKEN'",
    "field called mro": "from dataclasses import dataclass\n@dataclass\nclass Note:\n    mro: object = None\nR = 'BROKEN'",
    "field with an underscore": "from dataclasses import dataclass\n@dataclass\nclass Note:\n    _call: object = None\nR = 'BROKEN'",
    "patterns after weakref_slot": "\nfrom dataclasses import dataclass\nclass Look:\n    mro: object = None\ntry: dataclass(weakref_slot=True)(Look)\nexcept TypeError: pass\nmatch Look():\n    case Look(m): R = 'BROKEN'\n",
    "init on what is not its own": "\nfrom dataclasses import dataclass\n@dataclass(frozen=True)\nclass Note:\n    x: int = 0\nclass More(Note): pass\nsuper(More, More).__init__(llm_query, 1)\nR = 'BROKEN'\n",
    "dataclass of a library's class": "import random\nfrom dataclasses import dataclass\ndataclass(random.Random)\nR = 'BROKEN'",
}

PROXIES = {
    "alias as one's own object": "\nclass Alias(type(list[int])): pass\ndef look(self): return self._call\nR = look(Alias(context, (int,)))\n",
    "object of an error through an alias": "\nclass Alias(type(list[int])): pass\ndef look(self): return self.obj\ntry: '{0.nothing}'.format(object.nothing)\nexcept AttributeError as e: R = look(Alias(e, (int,))).__subclasses__()\n",
    "alias made by its class": "R = [type(list[int])(context, (int,))] and 'BROKEN'",
    "alias of typing": "import typing\nR = [type(typing.List[int])(context, (int,))] and 'BROKEN'",
    "super as one's own object": "class Look(super): pass\nR = 'BROKEN'",
    "class of a facade": "class Look(type(json)): pass\nR = 'BROKEN'",
}

REBOUND = {
    "by def": "def super(): return llm_query\nR = super().__call__",
    "by name": "super = lambda: llm_query\nR = super().__call__",
    "by argument": "def f(super): return super().__call__\nR = f(lambda: llm_query)",
    "by lambda": "R = (lambda super: super().__call__)(lambda: llm_query)",
    "by class": "class super: pass\nR = super().__init__",
    "by import": "from functools import partial as super\nR = super(llm_query).__call__",
    "by loop": "for super in [lambda: llm_query]: R = super().__call__",
    "by comprehension": "R = [super().__call__ for super in [lambda: llm_query]]",
    "by walrus": "(super := lambda: llm_query)\nR = super().__call__",
    "by pattern": "match llm_query:\n    case super: R = super('x').__str__",
    "by starred pattern": "match [llm_query]:\n    case [*super]: R = 'BROKEN'",
    "by except": "try: 1 / 0\nexcept ZeroDivisionError as super: R = 'BROKEN'",
    "by deletion": "super = 1\ndel super\nR = 'BROKEN'",
    "by global": "def f():\n    global super\nR = 'BROKEN'",
}

REACH = {
    "functools.lru_cache: a copied dictionary": "import functools\nR = functools.lru_cache(str).format('{0.__globals__}', llm_query)",
    "string.Formatter by import": "from string import Formatter\nR = Formatter().get_field('0.__globals__', (llm_query,), {})",
    "hasattr gives no value": "R = hasattr(llm_query, '__globals__') and llm_query.__globals__",
    "descriptor of a cell": "class D:\n    def __get__(self, it, kind): return kind.__base__.__subclasses__()\nclass N: d = D()\nR = N().d",
}

# A library goes by what its classes say: whoever changes the class changes the library.
CHANGES = {
    "name of a field": """
from dataclasses import dataclass, fields, asdict
@dataclass
class Base:
    x: int = 0
class Text(Base, str): pass
text = Text('{0.__globals__}')
type(fields(Base)[0]).name = 'format'
R = asdict(text)['format'](llm_query)
""",
    "name of a field by a property": """
from dataclasses import dataclass, fields, asdict
@dataclass
class Base:
    x: int = 0
class Text(Base, str): pass
text = Text('{0.__globals__}')
type(fields(Base)[0]).name = property(lambda field: 'format')
R = asdict(text)['format'](llm_query)
""",
    "name of a field by a loop": """
from dataclasses import dataclass, fields, asdict
@dataclass
class Base:
    x: int = 0
class Text(Base, str): pass
text = Text('{0.__globals__}')
for type(fields(Base)[0]).name in ['format']: pass
R = asdict(text)['format'](llm_query)
""",
    "name of a field by with": """
from dataclasses import dataclass, fields, asdict
class Open:
    def __enter__(self): return 'format'
    def __exit__(self, *error): pass
@dataclass
class Base:
    x: int = 0
class Text(Base, str): pass
text = Text('{0.__globals__}')
with Open() as type(fields(Base)[0]).name: pass
R = asdict(text)['format'](llm_query)
""",
    "method of a library's class": """
import collections
collections.ChainMap.items = lambda self: 'BROKEN'
R = collections.ChainMap().items()
""",
    "method of a library's class by unpacking": """
import collections
collections.ChainMap.items, other = lambda self: 'BROKEN', 1
R = collections.ChainMap().items()
""",
    "method of a library's class by annotation": """
import collections
collections.ChainMap.items: object = lambda self: 'BROKEN'
R = collections.ChainMap().items()
""",
    "method of a library's class by augmented assignment": """
import random
class Catch:
    def __radd__(self, method): return lambda *numbers: 'BROKEN'
random.Random.gauss += Catch()
R = random.Random().gauss(0, 1)
""",
    "method of a library's class deleted": """
import collections
del collections.ChainMap.pop
R = 'BROKEN'
""",
    "abstract class through an alias": """
import typing, collections.abc
typing.Mapping[str, int].keys = lambda self: 'BROKEN'
class Own(collections.abc.Mapping):
    def __getitem__(self, key): return 1
    def __iter__(self): return iter('a')
    def __len__(self): return 1
R = Own().keys()
""",
    "class of an error": """
import json
try: json.loads('x')
except ValueError as error: kind = type(error)
kind.doc = 'BROKEN'
R = kind.doc
""",
    "class of a match's blocks": """
import difflib
block = difflib.SequenceMatcher(None, 'a', 'a').get_matching_blocks()[0]
type(block).size = 'BROKEN'
R = block.size
""",
    "virtual subclasses of another class": """
import collections.abc
class Own(collections.abc.Mapping): pass
def forget(cls): del cls._abc_impl
isinstance({}, collections.abc.Mapping)
forget(Own)
R = 'BROKEN' if isinstance({}, Own) else None
""",
}

# A library's own tables, which it hands to the methods of what it takes for text.
TABLES = {
    "whitespace of textwrap, by what is no text": """
import textwrap
class Text:
    def expandtabs(self, size): return self
    def translate(self, table):
        table.clear()
        return ''
textwrap.wrap(Text())
R = 'BROKEN' if '\\n' in textwrap.fill('a\\nb') else None
""",
    "whitespace of textwrap, by a kind of text": """
import textwrap
class Text(str):
    def expandtabs(self, size): return self
    def translate(self, table):
        table.clear()
        return ''
textwrap.wrap(Text('a'))
R = 'BROKEN' if '\\n' in textwrap.fill('a\\nb') else None
""",
    "special characters of re": """
import re
class Text(str):
    def translate(self, table):
        table.clear()
        return ''
re.escape(Text('.'))
R = 'BROKEN' if re.escape('.') == '.' else None
""",
}

MORE_FORMAT = {
    "through a bound method's class": """
class Note:
    def read(self): return 1
R = type(Note().read)(str.format, '{0.__globals__}')(llm_query)
""",
    "through a bound method's attributes": """
class Text(str):
    def __call__(self): return 1
class Note:
    def read(self): return 1
R = type(Note().read)(Text('{0.__globals__}'), 1).format(llm_query)
""",
    "through lru_cache's copies": """
import functools
class Text(str): pass
R = functools.lru_cache(str).format('{0.__globals__}', llm_query)
""",
    "through a partial": """
import functools
R = functools.partial(str.format, '{0.__globals__}')(llm_query)
""",
    "through a class method": """
class Text(str):
    fill = classmethod(str.format)
    def go(self): return str.format(self, llm_query)
R = Text('{0.__globals__}').go()
""",
    "through a property": """
class Text(str):
    fill = property(lambda self: self.format)
R = Text('{0.__globals__}').fill(llm_query)
""",
    "through reduce": """
import functools
R = functools.reduce(str.format, ['{0.__globals__}', llm_query])
""",
    "through starmap": """
import itertools
R = ''.join(itertools.starmap(str.format, [('{0.__globals__}', llm_query)]))
""",
    "through a repl of re.sub": """
import re
R = re.sub('x', lambda match: '{0.__globals__}'.format(llm_query), 'x')
""",
    "through a key": """
kept = []
sorted([llm_query], key=lambda it: kept.append('{0.__globals__}'.format(it)) or 1)
R = kept
""",
    "through a lambda's default": "R = (lambda fill='{0.__globals__}'.format: fill(llm_query))()",
    "through a context manager": """
class Fill:
    def __enter__(self): return '{0.__globals__}'.format
    def __exit__(self, *error): pass
with Fill() as fill: R = fill(llm_query)
""",
    "field within two indexes": "R = '{0[a][0].__globals__}'.format({'a': [llm_query]})",
    "field of a conversion": "R = '{0.__globals__!s}'.format(llm_query)",
    "field without a number": "R = '{.__globals__}'.format(llm_query)",
    "field in a spec's spec": """
kept = []
class Spec:
    def __format__(self, spec):
        kept.append(spec)
        return ''
'{0:{1.__globals__}}'.format(Spec(), llm_query)
R = kept
""",
    "percent with a mapping of one's own": """
class Names:
    def __getitem__(self, name): return '{0.__globals__}'.format(llm_query)
R = '%(any)s' % Names()
""",
}

MORE_NAMES = {
    "a class method's function": """
class Note:
    @classmethod
    def make(cls): pass
R = Note.make.__func__.__globals__
""",
    "a static method's function": """
class Note:
    look = staticmethod(llm_query)
R = Note.look.__globals__
""",
    "a named tuple's new": """
import collections
R = collections.namedtuple('N', 'x').__new__.__globals__
""",
    "a named tuple's fields renamed": """
import collections
N = collections.namedtuple('N', 'x')
N.__match_args__ = ('__globals__',)
R = 'BROKEN'
""",
    "a private name through a class made by namedtuple": """
import collections
class Look(collections.namedtuple('Look', 'x')):
    def read(self): return self._make.__func__.__globals__
R = Look(1).read()
""",
    "code of a forward reference": """
import typing
R = typing.List['1'].__args__[0].__forward_code__
""",
    "function behind a partial": """
import functools
R = functools.partial(llm_query).func.__globals__
""",
    "function behind a cached one": """
import functools
R = functools.cache(llm_query).__wrapped__.__globals__
""",
    "reduced by a class of one's own": """
import copy
class Note:
    def __reduce__(self): return (eval, ('llm_query.__globals__', {'llm_query': llm_query}))
R = copy.copy(Note())
""",
    "state set by a class of one's own": """
import copy
kept = []
class Note:
    def __getstate__(self): return kept
    def __setstate__(self, state): kept.append(state.__class__.__base__.__subclasses__())
copy.copy(Note())
R = kept
""",
    "hook for a name": """
kept = []
class Hook:
    def __set_name__(self, owner, name): kept.append(owner.__base__.__subclasses__())
class Note: hook = Hook()
R = kept
""",
    "item of a class": """
class Note:
    def __class_getitem__(cls, item): return cls.__base__.__subclasses__()
R = Note[1]
""",
    "module of a function by json": """
import json
kept = []
json.dumps({'a': llm_query}, default=lambda it: kept.append(it.__globals__) or 1)
R = kept
""",
    "decoder by json": """
import json
class Decoder(json.JSONDecoder):
    def decode(self, text): return self.scan_once.__class__.__base__.__subclasses__()
R = json.loads('1', cls=Decoder)
""",
    "encoder by json": """
import json
class Encoder(json.JSONEncoder):
    def default(self, it): R.append(it.__globals__)
R = []
json.dumps(llm_query, cls=Encoder)
""",
    "object behind a comparison's key": """
import functools
key = functools.cmp_to_key(lambda a, b: 0)(llm_query)
R = key.obj.__globals__
""",
    "attribute by a mapping pattern": """
class Names(dict): pass
match Names(a=llm_query):
    case {'a': object(__globals__=found)}: R = found
""",
    "note on an error": """
try: 1 / 0
except ZeroDivisionError as error:
    error.add_note('x')
    R = error.__traceback__.tb_frame.f_globals
""",
    "cause of an error": """
try:
    try: 1 / 0
    except ZeroDivisionError as error: raise ValueError from error
except ValueError as error: R = error.__cause__.__traceback__.tb_frame
""",
    "frame of a thrown error": """
def steps():
    try: yield 1
    except ValueError as error: yield error.__traceback__
it = steps()
next(it)
R = it.throw(ValueError()).tb_frame
""",
    "owner of a descriptor": """
class Look:
    def __get__(self, item, owner): return owner.__mro__[-1].__subclasses__()
class Note: look = Look()
R = Note.look
""",
    "attribute of every kind": """
class Note:
    def __getattribute__(self, name): return object.__getattribute__(llm_query, '__globals__')
R = Note().anything
""",
    "prepared namespace": """
class Meta(type):
    @classmethod
    def __prepare__(cls, name, bases): return llm_query.__globals__
class Note(metaclass=Meta): R = __builtins__
R = llm_query.__globals__
""",
    "metaclass by its call": """
class Note: pass
R = Note.__class__('More', (), {'__match_args__': ('__globals__',)}).__class__
""",
}

# What the interpreter works with, handed to code: a class's parts, its own methods, a view of its own dictionaries.
PARTS = {
    "cell of a class whose base is no class": """
kept = []
class Meta:
    def __init__(self, *parts): kept.append(parts)
try:
    class Note(Meta()):
        def look(self): return super()
except AttributeError: pass
R = kept[-1][2]['__classcell__']
""",
    "namespace of a class whose base is no class": """
kept = []
class Meta:
    def __init__(self, *parts): kept.append(parts)
class Note(Meta()): pass
R = kept[-1][2] | {'__builtins__': 1}
""",
    "super as a class's maker": """
class Meta:
    def __init__(self, *parts): self.parts = parts
class Note(Meta()):
    def look(self): return __class__
R = Note.parts[2]['__classcell__']
""",
    "method of super kept": """
class Note:
    def look(self): return super().__repr__
R = Note().look()
""",
    "method of super kept by its class": """
class Note: pass
R = super(Note, Note).__init__
""",
    "method of super as an argument": """
kept = []
class Note:
    def look(self): kept.append(super().__eq__)
Note().look()
R = kept
""",
    "method of super as a default": """
class Note:
    def look(self): return (lambda method=super().__hash__: method)()
R = Note().look()
""",
    "groups of a pattern": "import re\nR = re.compile('(?P<a>x)').groupindex",
    "groups of a match's pattern": "import re\nR = re.match('(?P<a>x)', 'x').re.groupindex",
    "groups by a pattern": """
import re
match re.match('(?P<a>x)', 'x').re:
    case object(groupindex=groups): R = groups
""",
    "groups shown to an object of one's own": """
import re
kept = []
class See:
    def __eq__(self, other): kept.append(other)
re.compile('(?P<a>x)').groupindex == See()
R = kept[0] | {'__builtins__': 1}
""",
}

# What the interpreter and its libraries keep for themselves, by doors that look like plain data.
KEPT = {
    "mapping of a view": "R = {}.keys().mapping",
    "mapping of an ordered view": "import collections\nR = collections.OrderedDict().items().mapping",
    "mapping by a pattern": "match {}.keys():\n    case object(mapping=m): R = m",
    "mapping of a view as self": "self = {}.values()\nR = self.mapping",
    "mapping through super": "class A(dict):\n    def look(self): return super().keys().mapping\nR = A().look()",
    "note on a library's function": "import statistics\nstatistics.mean.x = 1\nR = 'BROKEN'",
    "note on a flag": "import re\nre.I.x = 1\nR = 'BROKEN'",
    "name of a library's function": """
import functools, statistics
functools.wraps(len)(statistics.mean)
R = 'BROKEN' if statistics.mean.__name__ == 'len' else None
""",
    "a flag in the place of another": """
import re
class Number(int):
    def __hash__(self): return hash(274)
    def __eq__(self, other): return True
type(re.I)(Number(0))
R = 'BROKEN' if int(re.I | re.S | re.A) != 274 else None
""",
    "cache around an object with a traceback": """
import functools
class W:
    def __enter__(self): return self
    def __exit__(self, *parts): self.parts = parts; return True
    def __call__(self): pass
w = W()
with w: 1 / 0
R = functools.lru_cache(w).parts[2].tb_frame
""",
    "cache around the class of text": "import functools\ndef f(): pass\nR = functools.lru_cache(str).format('{0.__globals__}', f)",
    "cache around the class of text, by a pattern": """
import functools
match functools.lru_cache(str):
    case object(format=f): R = f('{0.__globals__}', lambda: 1)
""",
    "class of a module as a base": """
got = []
class A(type(json)):
    def __init__(self): got.append(self)
R = A()
""",
    "letters that stand for others": "R = (i for i in [1]).\uff47i_frame",
    "letters that stand for others, in a pattern": "match (i for i in [1]):\n    case object(\uff47i_frame=f): R = f",
}

FAMILIES = {
    "dunder": DUNDER,
    "format": FORMAT,
    "errors": ERRORS,
    "frames": FRAMES,
    "patterns": PATTERNS,
    "names as data": NAMES_AS_DATA,
    "modules": MODULES,
    "imports": IMPORTS,
    "builtins": BUILTINS,
    "copies": COPIES,
    "tamper": TAMPER,
    "records": RECORDS,
    "proxies": PROXIES,
    "super rebound": REBOUND,
    "reach": REACH,
    "changes": CHANGES,
    "parts": PARTS,
    "tables": TABLES,
    "more format": MORE_FORMAT,
    "more names": MORE_NAMES,
    "kept": KEPT,
}
if sys.version_info >= (3, 12):
    FAMILIES |= {"type parameters": TYPE_PARAMETERS, "nested quotes": NESTED_QUOTES}
if sys.version_info >= (3, 13):
    FAMILIES |= {"defaults of type parameters": TYPE_DEFAULTS}
