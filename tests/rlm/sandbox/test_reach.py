"""What a cell can reach, and why each is safe: every callable that is given stands in a row, with a reason.

A row that would be dangerous without its reason names the payloads that try it in `tests/helpers/attacks/language.py`:
they succeed in plain Python and fail in a cell. Below stand some that are no attack in plain Python, and are refused.
"""

# ruff: noqa: E501  (a payload is read best in one piece)
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rlm.sandbox import Session, open_session
from rlm.sandbox.cage import worker
from rlm.sandbox.cage.scan import attribute_allowed
from tests.helpers import attacks


@dataclass(frozen=True, slots=True)
class Reach:
    """`given`: names, `module.name` or a builtin's; none where syntax alone reaches it. `later`: names that only a later
    Python has. `attacks`: ids of payloads; none where nothing evaluates, formats or reads by a name of the cell's."""

    given: str
    why: str
    attacks: tuple[str, ...] = ()
    later: str = ""


ROWS = (
    # -- builtins
    Reach(
        "len repr ascii any all sum min max sorted abs round divmod pow bin hex oct chr ord hash callable iter next reversed",
        "they call the object's own methods, of which a cell may define those in METHODS, and hand them its own objects",
    ),
    Reach(
        "enumerate range zip map filter slice list set dict tuple frozenset int float bool complex bytes bytearray object",
        "they hold or convert what they are given, and a class of their own has no names with one underscore",
        ("dunder: classes below object", "builtins: three-argument type"),
    ),
    Reach(
        "str \x00format",
        "every `.format` is rewritten: the fields of its template are checked before it is filled in; no other way leads to the raw method",
        ("format: str.format unbound", "format: format kept in a name", "format: format through super", "format: format by augmented assignment", "format: format_map", "more format: through a bound method's class", "more format: through lru_cache's copies"),
    ),
    Reach("format", "a spec is handed to the object and is never parsed for fields", ("format: field in a format spec",)),
    Reach("print", "what it writes to is the cell's own output, or an object whose `write` the cell has", ("builtins: builtins by name",)),
    Reach("property staticmethod classmethod", "what they wrap is hidden under names that a cell may not say", ("dunder: descriptor get", "more names: a class method's function")),
    Reach(
        "super",
        "it cannot be rebound, stands for no class of a cell, and a method with two underscores is called where it stands",
        ("super rebound: by def", "proxies: super as one's own object", "parts: method of super kept"),
    ),
    Reach("type isinstance issubclass", "no metaclass and no class that makes functions or aliases is handed out", ("builtins: type of type", "builtins: type of an abc", "proxies: alias made by its class", "copies: a function made of code")),
    Reach("hasattr dir", "one gives a truth, the other names that may be said", ("names as data: dir and index", "reach: hasattr gives no value")),
    Reach("__build_class__", "a base is a class or an alias, and neither hands on another object's attributes; patterns by position read what patterns by name may", ("parts: cell of a class whose base is no class", "proxies: class of a facade", "patterns: own match_args")),
    Reach("__import__", "a name on the list gives a facade, whose members are chosen", ("imports: dunder import", "modules: json.codecs.builtins")),
    Reach("\x00own", "names with one underscore are read from what a cell's own class made", ("names as data: private name in a method", "proxies: alias as one's own object")),
    Reach("\x00changed", "attributes of a library's class are neither set nor deleted", ("changes: name of a field", "changes: abstract class through an alias")),
    # -- modules
    Reach("math.*", "numbers in, numbers out"),
    Reach(
        "itertools.accumulate itertools.chain itertools.combinations itertools.combinations_with_replacement itertools.compress itertools.count itertools.cycle itertools.dropwhile itertools.filterfalse itertools.groupby itertools.islice itertools.pairwise itertools.permutations itertools.product itertools.repeat itertools.starmap itertools.takewhile itertools.tee itertools.zip_longest",
        "they call a cell's functions with a cell's objects",
        later="itertools.batched",
    ),
    Reach("functools.reduce functools.partial functools.cmp_to_key", "they call a cell's functions with a cell's objects; the object behind a key is `obj`, which no cell may say", ("names as data: reduce over a path",)),
    Reach("functools.lru_cache functools.cache", "they copy a class's dictionary: what is public there is public on the class; the rest, and the raw `format`, cannot be said", ("dunder: globals through a decorator", "reach: functools.lru_cache: a copied dictionary")),
    Reach("functools.total_ordering", "it sets comparisons of its own, under names of its own"),
    Reach("functools.wraps", "ours copies three names between functions; the library's hands out `update_wrapper`", ("names as data: wraps with names", "names as data: update_wrapper out of wraps")),
    Reach(
        "operator.add operator.and_ operator.concat operator.contains operator.eq operator.floordiv operator.ge operator.getitem operator.gt operator.itemgetter operator.le operator.lt operator.mod operator.mul operator.ne operator.neg operator.not_ operator.or_ operator.pow operator.sub operator.truediv operator.xor",
        "they are operators: items, never attributes",
        ("names as data: attrgetter", "names as data: methodcaller"),
    ),
    Reach("collections.namedtuple typing.NamedTuple", "a name is an identifier of exactly the type str before any text is built, and patterns by position read no forbidden one", ("frames: traceback by a named tuple's position", "format: format of a virtual subclass", "more names: a named tuple's new")),
    Reach("collections.ChainMap collections.Counter collections.OrderedDict collections.defaultdict collections.deque", "containers of a cell's objects; a class of a cell's own may read their names with one underscore, which lead to nothing but methods", ("changes: method of a library's class",)),
    Reach(
        "collections.abc.Callable collections.abc.Collection collections.abc.Hashable collections.abc.Iterable collections.abc.Iterator collections.abc.Mapping collections.abc.MutableMapping collections.abc.Sequence collections.abc.Set collections.abc.Sized",
        "`register` and what else their metaclass gives cannot be said",
        ("frames: traceback by position", "changes: virtual subclasses of another class", "modules: collections.abc by its base"),
    ),
    Reach(
        "typing.Any typing.Callable typing.Dict typing.FrozenSet typing.Iterable typing.Iterator typing.List typing.Literal typing.Mapping typing.Optional typing.Sequence typing.Set typing.Tuple typing.Union",
        "an annotation that is text is compiled and never run; an alias stands for its own class, is no base of `self`, and hands on no change",
        ("names as data: type hints", "copies: code of a forward reference", "proxies: alias of typing", "changes: abstract class through an alias", "more names: code of a forward reference"),
    ),
    Reach("dataclasses.FrozenInstanceError dataclasses.asdict dataclasses.astuple dataclasses.dataclass dataclasses.field dataclasses.fields dataclasses.is_dataclass dataclasses.replace", "ours: a field's name is one that a cell may read and pattern, is kept as a key, and no text is evaluated", ("records: field called format", "names as data: code in a field's name", "changes: name of a field")),
    Reach("re.compile re.findall re.finditer re.fullmatch re.match re.search re.split re.sub re.subn re.escape", "a template names groups and reads no attribute; a text of a cell's own class is plain text before the library sees it", ("tables: special characters of re", "modules: re.enum.sys")),
    Reach("re.Match re.Pattern re.PatternError re.error", "ours passes on a pattern's own names alone; `groupindex` cannot be said", ("parts: groups of a pattern", "proxies: class of a facade")),
    Reach("json.dump json.dumps json.load json.loads json.JSONDecodeError", "hooks and `cls` are called with values and with options; nothing of them is read by a chosen name", ("tamper: json encoder", "changes: class of an error")),
    Reach("textwrap.dedent textwrap.fill textwrap.indent textwrap.shorten textwrap.wrap", "they take plain text, so that no method of a cell's sees their tables", ("tables: whitespace of textwrap, by what is no text",)),
    Reach("string.capwords html.escape html.unescape", "they call methods of text with texts; Formatter and Template are not given", ("format: formatter of string", "format: template subclass")),
    Reach("copy.copy copy.deepcopy", "a class may not define how it is reduced, and the memo is the library's", ("copies: code of a forward reference", "copies: memo by name", "more names: reduced by a class of one's own")),
    Reach("csv.DictReader csv.DictWriter csv.Error csv.field_size_limit csv.reader csv.writer", "a dialect is read by a fixed list of names", ("modules: csv.re",)),
    Reach("datetime.date datetime.datetime datetime.time datetime.timedelta datetime.timezone", "a format is one of dates, not of fields; what C imports for it comes from the list", ("modules: datetime by its builtins",)),
    Reach("time.gmtime time.localtime time.monotonic time.perf_counter time.sleep time.strftime time.strptime time.time", "the clock, and the formats of dates"),
    Reach("decimal.Decimal decimal.InvalidOperation fractions.Fraction", "numbers; the context of decimals is not given", ("modules: decimal.numbers",)),
    Reach(
        "statistics.StatisticsError statistics.correlation statistics.covariance statistics.fmean statistics.geometric_mean statistics.harmonic_mean statistics.linear_regression statistics.mean statistics.median statistics.median_high statistics.median_low statistics.mode statistics.multimode statistics.pstdev statistics.pvariance statistics.quantiles statistics.stdev statistics.variance",
        "they call a cell's kinds of numbers with numbers",
        ("modules: statistics.sys",),
    ),
    Reach(
        "random.Random random.choice random.choices random.gauss random.getrandbits random.normalvariate random.randint random.random random.randrange random.sample random.seed random.shuffle random.uniform",
        "one generator with a seed; its module and its object cannot be said",
        ("modules: random._os", "modules: module in a class's globals"),
    ),
    Reach("bisect.bisect bisect.bisect_left bisect.bisect_right bisect.insort bisect.insort_left bisect.insort_right heapq.heapify heapq.heappop heapq.heappush heapq.heappushpop heapq.heapreplace heapq.merge heapq.nlargest heapq.nsmallest", "they compare a cell's objects"),
    Reach("difflib.SequenceMatcher difflib.context_diff difflib.get_close_matches difflib.ndiff difflib.unified_diff", "they compare a cell's objects; their own templates are constants", ("changes: class of a match's blocks", "modules: difflib.re")),
    Reach("io.BytesIO io.StringIO", "memory that the cell has already; no file is among them", ("modules: io.os",)),
    Reach("unicodedata.category unicodedata.combining unicodedata.east_asian_width unicodedata.lookup unicodedata.name unicodedata.normalize unicodedata.numeric", "characters in, names and numbers out"),
    Reach("asyncio.Lock asyncio.Semaphore asyncio.as_completed asyncio.create_task asyncio.ensure_future asyncio.gather asyncio.run asyncio.sleep asyncio.to_thread asyncio.wait_for", "ours: they hand on what has already happened", ("frames: coroutine frame",)),
    # -- what a session adds
    Reach("llm_query FINAL FINAL_VAR SUBMIT SHOW_VARS", "their globals and their closure cannot be said; FINAL_VAR reads a variable, not an attribute", ("dunder: globals of a call", "tamper: code swapped")),
    Reach("context.search", "the context has verbs and the methods of text, and gives nothing with an underscore", ("names as data: private name of the context", "tamper: length of the context")),
    Reach("", "rows and answers: their classes are lists to a cell, and what they keep of the session has a private name (`test_attacks.py`)"),
    # -- what syntax reaches
    Reach("", "errors: `obj`, tracebacks and causes cannot be said", ("errors: object of an attribute error", "errors: traceback of an error", "errors: error group sifted")),
    Reach("", "generators and `with`: no name of a frame, of code or of a traceback can be said, as an attribute, in a pattern or in a template", ("frames: generator frame", "frames: exit traceback", "frames: traceback by keyword pattern")),
    Reach("", "coroutines: there are none, as `async` is taken out", ("frames: coroutine frame", "frames: async generator code")),
    Reach("", "patterns: a name in one is a name that may be said, and not `format`", ("patterns: globals by keyword", "format: format through a pattern")),
    Reach("", "f-strings: their fields are code, and scanned; a spec goes to the object", ("dunder: dunder in an f-string",)),
    Reach("", "percent: it reads items of a mapping, never attributes", ("more format: percent with a mapping of one's own",)),
    Reach("", "classes: no hook of a descriptor, a subclass or an attribute can be defined, and no keyword given", ("dunder: init subclass", "builtins: metaclass keyword", "tamper: attribute hook", "reach: descriptor of a cell")),
    Reach("", "deletion and assignment: neither of a library's class, nor of a name with two underscores", ("changes: method of a library's class deleted", "tamper: builtins by assignment")),
)  # fmt: skip


def offered() -> set[str]:
    """Every callable that a new session gives a name to. An exception's class is of the family of errors."""
    hello = {"calls": ["llm_query", "context.search"], "intro": {"context_length": 1}, "output_chars": 100}
    state = worker.new_state(worker.Link(-1), hello)
    builtins = state.names["__builtins__"]
    found = {name for name, item in builtins.items() if callable(item) and not is_error(item)}
    modules = worker.MODULES.items()
    found |= {f"{module}.{name}" for module, item in modules for name in dir(item) if is_public(item, name)}
    found |= {f"context.{name}" for name in vars(type(state.names["context"])) if attribute_allowed(name)}
    return found | set(state.stubs)


def is_error(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)


def is_public(module: object, name: str) -> bool:
    return attribute_allowed(name) and callable(getattr(module, name))


def rows_of(name: str) -> list[Reach]:
    starred = name.rpartition(".")[0] + ".*"
    return [row for row in ROWS if {name, starred} & {*row.given.split(" "), *row.later.split(" ")}]


def test_everything_that_is_given_has_one_reason() -> None:
    assert {name: len(rows_of(name)) for name in offered()} == dict.fromkeys(offered(), 1)


def test_no_reason_is_for_what_is_not_given() -> None:
    named = Counter(name for row in ROWS for name in row.given.split(" ") if name and not name.endswith(".*"))
    assert set(named) - offered() == set() and set(named.values()) == {1}


@pytest.mark.parametrize("row", [row for row in ROWS if row.attacks], ids=lambda row: str(row.why)[:40])
def test_what_a_reason_holds_against_is_in_the_corpus(row: Reach) -> None:
    assert set(row.attacks) - {attack.id for attack in attacks.LANGUAGE} == set()


REFUSED = {
    "namedtuple: code for a name": (
        "a name is an identifier of exactly the type str before any text is built",
        "import collections\ncollections.namedtuple('N', ['x=().__class__'])\nR = 'BROKEN'",
    ),
    "namedtuple: a text of its own": (
        "a name is an identifier of exactly the type str before any text is built",
        "\nimport collections\nclass Name(str):\n    def __str__(self): return self\n    def isidentifier(self): return True\n    def startswith(self, *parts): return False\ncollections.namedtuple('N', [Name('x, y=().__class__.__base__.__subclasses__()')])\nR = 'BROKEN'\n",
    ),
    "typing.NamedTuple: code for a name": (
        "it is made by namedtuple, with the same check",
        "import typing\ntyping.NamedTuple('N', [('x=().__class__', int)])\nR = 'BROKEN'",
    ),
    "typing: an annotation that is text": (
        "it is compiled and never run: what would run it has a private name",
        "import typing\nR = typing.List['llm_query.__globals__'].__args__[0]._evaluate({}, {}, frozenset())",
    ),
    "enum": ("no cell can import it", "import enum\nR = enum.Enum.__init_subclass__"),
    "enum by re": ("the flags of re lead to their class, and no further", "R = type(re.I).__base__.__base__"),
    "functools.cached_property": (
        "it writes an attribute of a chosen name, so it is not given",
        "import functools\nR = functools.cached_property(lambda self: 1)",
    ),
    "functools.singledispatch": (
        "it is not given",
        "import functools\nR = functools.singledispatch(len).register",
    ),
    "functools.partialmethod": (
        "it is not given",
        "import functools\nR = functools.partialmethod(len).__get__(1).func",
    ),
    "operator.attrgetter by name": (
        "it is not given, and neither is methodcaller",
        "R = dict(a=operator.attrgetter) if 'operator' in dir() else __import__('operator').attrgetter",
    ),
    "string.Template": (
        "neither it nor Formatter is given",
        "from string import Template\nR = Template('$x').substitute",
    ),
    "re template: attribute of a group": (
        "a template names groups and reads no attribute",
        "import re\nre.sub('(?P<a>x)', r'\\g<a.__class__>', 'x')\nR = 'BROKEN'",
    ),
    "f-string spec": (
        "a spec is handed to the object, whose class is not of the cell",
        "f'{llm_query:{\"{0.__globals__}\"}}'\nR = 'BROKEN'",
    ),
    "builtin format": (
        "a spec is handed to the object and never parsed for fields",
        "R = format(llm_query, '{0.__globals__}')",
    ),
    "percent format": ("it reads items of a mapping, never attributes", "R = '%(__globals__)s' % llm_query"),
    "descriptor's name": (
        "a class may define no hook of a descriptor",
        "class D:\n    def __set_name__(self, kind, name): R.append(kind.__base__)\nR = []\nclass N: d = D()",
    ),
    "csv dialect": (
        "a dialect is read by a fixed list of names",
        "import csv\nR = csv.reader(['a'], dialect='{0.__class__}').dialect",
    ),
    "copy: a state of one's own": (
        "a class may not define how it is reduced",
        "import copy\nclass N:\n    def __reduce__(self): return (eval, ('1',))\nR = copy.copy(N())",
    ),
    "json: a class of one's own": (
        "the class is called, and nothing of it is read by a chosen name",
        "import json\nR = json.dumps(1, cls='{0.__globals__}')",
    ),
    "textwrap: options by name": (
        "options are parameters with names of their own",
        "import textwrap\ntextwrap.wrap('a', __class__=1)\nR = 'BROKEN'",
    ),
    "dataclass: raw methods out of a comparison": (
        "a name that cannot be read as an attribute is no field",
        "\nfrom dataclasses import dataclass, field\nR = []\nclass See:\n    def __eq__(self, other):\n        R.append(other)\n        return True\n@dataclass\nclass Base:\n    format: object = field(default_factory=See)\nclass Text(Base, str): pass\none, two = Text('{0.__globals__}'), Text('{0.__globals__}')\ndel two.format\none == two\nR = R[0](llm_query)\n",
    ),
    "dataclass: a name of its own kind of text": (
        "a keyword is matched only if it is exactly a str",
        "\nfrom dataclasses import dataclass, replace\nclass Name(str):\n    def __hash__(self): return hash('x')\n    def __eq__(self, other): return True\n@dataclass\nclass Note:\n    x: int = 0\nNote(**{Name('__class__'): 1})\nR = 'BROKEN'\n",
    ),
    "re.Pattern as one's own object": (
        "no class can be made of one whose objects hand on the attributes of another",
        "class Look(re.Pattern): pass\nR = 'BROKEN'",
    ),
}
NOT_GIVEN = {
    "operator": ("attrgetter", "methodcaller"),
    "string": ("Formatter", "Template"),
    "functools": ("cached_property", "update_wrapper", "singledispatch", "partialmethod"),
    "typing": ("get_type_hints", "ForwardRef"),
    "dataclasses": ("make_dataclass", "Field"),
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_session(lambda name, arguments, named: "real", frozenset({"llm_query"})) as opened:
        yield opened


@pytest.mark.parametrize("name", REFUSED)
def test_what_takes_a_name_does_not_take_this_one(session: Session, name: str) -> None:
    session.reset()
    why, code = REFUSED[name]
    assert session.run(code).status in ("rejected", "error"), why


@pytest.mark.parametrize("module", NOT_GIVEN)
def test_what_cannot_be_made_safe_is_not_given(session: Session, module: str) -> None:
    for name in NOT_GIVEN[module]:
        result = session.run(f"import {module}\n{module}.{name}")
        assert result.status == "error" and "has no" in result.error


@pytest.mark.parametrize("name", ["format", "register", "mro", "_x"])
def test_a_field_with_a_forbidden_name_is_refused_in_a_sentence(session: Session, name: str) -> None:
    code = f"from dataclasses import dataclass\n@dataclass\nclass Note:\n    {name}: int = 1"
    assert f"a field cannot be called {name} here; choose another name" in session.run(code).error


def test_a_dataclass_of_ours_does_what_the_librarys_does(session: Session) -> None:
    code = """
from dataclasses import *
@dataclass
class A:
    x: int
    y: list = field(default_factory=list)
    z: str = field(default="q", repr=False)
@dataclass(frozen=True, order=True)
class B:
    n: int = 1
@dataclass
class C(A):
    w: int = field(default=3, kw_only=True)
    def __post_init__(self): self.x += 1
print(A(1), A(1) == A(1), A(1) == A(2), asdict(A(1)), astuple(A(1, [B()])), replace(A(1), x=5))
print([f.name for f in fields(C)], C(1, w=9), is_dataclass(A), hash(B()) == hash(B()), sorted([B(2), B()]))
try: B().n = 3
except FrozenInstanceError as e: print(e)
try: A(1, 2, 3, 4)
except TypeError: print("too many")
match A(1):
    case A(x, y): print(x, y)
"""
    printed: list[str] = []
    exec(code, {"print": lambda *values: printed.append(" ".join(map(str, values))), "__name__": "plain"})
    names = "dataclass, field, fields, asdict, astuple, replace, is_dataclass, FrozenInstanceError"
    assert session.run(code.replace("*", names, 1)).stdout.splitlines() == printed


def test_what_a_cell_makes_is_its_own_to_change(session: Session) -> None:
    code = """
class Note:
    count = 0
    def __init__(self): self._x = 0
    @classmethod
    def up(cls): cls.count += 1
    @property
    def x(self): return self._x
    @x.setter
    def x(self, value): self._x = value
class More(Note):
    def __init__(self): super(More, self).__init__()
note, error = More(), ValueError("y")
Note.up()
note.x, (error.code, *note.rest) = 1, (2, 3)
for note.last in "ab": pass
note.kept = [1]
note.kept += [2]
llm_query.calls = 4
print(Note.count, note.x, error.code, note.rest, note.last, note.kept, llm_query.calls)
del note.kept
"""
    assert session.run(code).stdout == "1 1 2 [3] b [1, 2] 4\n"


@pytest.mark.parametrize("code", ["Counter.x = 1", "del Counter.update", "Counter.update += 1"])
def test_a_librarys_class_is_not_the_cells_to_change(session: Session, code: str) -> None:
    error = session.run(f"from collections import Counter\n{code}").error
    assert "Counter is not yours to change; make a class of your own from it" in error


@pytest.mark.parametrize("code", ["mean.x = 1", "del mean.x", "mean.x += 1", "re.I.x = 1"])
def test_what_all_cells_share_of_a_library_is_not_the_cells_to_change(session: Session, code: str) -> None:
    error = session.run(f"from statistics import mean\n{code}").error
    assert "is not yours to change" in error


def test_a_librarys_function_keeps_its_name(session: Session) -> None:
    code = "import functools\nfunctools.wraps(len)(statistics.mean)\nprint(statistics.mean.__name__)"
    assert session.run(code).stdout == "mean\n"


def test_a_flags_class_keeps_no_object_of_a_cells_own(session: Session) -> None:
    code = """
class Number(int):
    def __hash__(self): return hash(274)
    def __eq__(self, other): return True
type(re.I)(Number(0))
"""
    assert "RegexFlag is here by name only" in session.run(code).error
    assert session.run("int(re.I | re.S | re.A)").stdout == "274\n"
