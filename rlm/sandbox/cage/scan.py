"""The language layer's first half: read a cell, refuse what only an escape needs, make `await` and `.format`
harmless.

Pure functions over `ast`, run in the worker: a parse bomb must never reach the parent. This layer is a sieve
and not the wall (the kernel layers are); it is there so that an honest mistake is caught early and an attack
has to be a new one.
"""

import ast
import types
from collections.abc import Iterable, Iterator

FORMAT, OWN, CHANGED = "\x00format", "\x00own", "\x00changed"  # names no cell can write


def words(text: str) -> list[str]:
    """A list of names, written as a sentence."""
    return text.split()


RULE_CHARS, HINT_CHARS = 200, 1000  # a name can be as long as the code
METHODS = frozenset(
    f"__{name}__"
    for name in words(
        "init repr str len eq ne lt le gt ge hash bool iter next getitem setitem delitem contains missing "
        "enter exit call add radd iadd sub rsub isub mul rmul imul truediv rtruediv floordiv mod neg pos abs "
        "and or xor invert pow matmul round index int float format reversed post_init aenter aexit aiter "
        "anext"
    )
)
_FORBIDDEN_NAMES = frozenset(
    words(
        "eval exec compile open globals locals vars getattr setattr delattr breakpoint input help memoryview"
    )
)
#: What to write instead of a name, for a model; it does not say which word was refused.
_FILES = "there are no files here and nobody to ask; read with the verbs of `context`, and keep results in variables"
_DIRECT = "name variables and attributes in the code itself; keep what a text names in a dict; SHOW_VARS() lists them"
_CODE = "write the code itself instead of code in a text"
_INSTEAD = {
    **dict.fromkeys(words("open input help breakpoint"), _FILES),
    **dict.fromkeys(words("globals locals vars getattr setattr delattr"), _DIRECT),
    **dict.fromkeys(words("eval exec compile"), _CODE),
    "memoryview": "use bytes, str or lists",
}
_PUBLIC = (
    "use public names, attributes and methods of values, and builtins such as len(), str() and isinstance()"
)
_PLAIN = "write it with plain statements and functions"
_FRAME_TYPES = (
    types.FrameType,
    types.CodeType,
    types.TracebackType,
    types.GeneratorType,
    types.CoroutineType,
    types.AsyncGeneratorType,
)
_FRAME_PREFIXES = ("f_", "tb_", "co_", "gi_", "cr_", "ag_")
_FORBIDDEN_ATTRIBUTES = frozenset(
    name for kind in _FRAME_TYPES for name in dir(kind) if name.startswith(_FRAME_PREFIXES)
) | set(words("format_map mro with_traceback f_generator gi_suspended cr_suspended ag_suspended"))
# `register`: a cell's ABC would pass for a frame's class or for text, and a pattern read attributes by position.
# `obj` of an AttributeError: whatever a library was handling when it failed. `groupindex` of a pattern and
# `cell_contents` hold what the interpreter itself works with. `mapping` of a dict's view: a proxy, which hands the dict
# behind it to whatever it is compared with.
_FORBIDDEN_ATTRIBUTES |= {"register", "obj", "groupindex", "cell_contents", "mapping"}
_METACLASS = ("_abc_", "_dump_registry")  # what a class has from ABCMeta, and hands to all classes below
_NAMEDTUPLE = frozenset({"_asdict", "_replace", "_fields", "_make", "_field_defaults"})
# The syntax that cells may use, from every version of Python that runs them. What a later version brings is refused
# until somebody has read what it does: a test lists the kinds of nodes that this Python has and this list has not.
ALLOWED_NODES = frozenset(
    words(
        "Module Expression FunctionDef AsyncFunctionDef ClassDef Return Delete Assign AugAssign AnnAssign For "
        "AsyncFor While If With AsyncWith Match Raise Try TryStar Assert Import ImportFrom Global Nonlocal "
        "Expr Pass Break Continue BoolOp NamedExpr BinOp UnaryOp Lambda IfExp Dict Set ListComp SetComp "
        "DictComp GeneratorExp Await Yield YieldFrom Compare Call FormattedValue JoinedStr Constant Attribute "
        "Subscript Starred Name List Tuple Slice Load Store Del And Or Add Sub Mult MatMult Div Mod Pow "
        "LShift RShift BitOr BitXor BitAnd FloorDiv Invert Not UAdd USub Eq NotEq Lt LtE Gt GtE Is IsNot In "
        "NotIn comprehension ExceptHandler arguments arg keyword alias withitem match_case MatchValue "
        "MatchSingleton MatchSequence MatchMapping MatchClass MatchStar MatchAs MatchOr "
        "TypeAlias TypeVar ParamSpec TypeVarTuple"
    )
)


class Rejected(Exception):
    """Code that will not be run: which rule it broke and on what line. Only the trace learns the rule."""

    def __init__(self, rule: str, line: int | None, hint: str = "") -> None:
        super().__init__(rule)
        self.rule, self.line, self.hint = rule[:RULE_CHARS], line, hint[:HINT_CHARS]


def parse(code: str, modules: frozenset[str], bound: Iterable[str] = ()) -> ast.Module:
    """The cell's tree, checked and made synchronous. `modules` may be imported; `bound` are the session's
    own names, which may be used even where they hide a forbidden builtin. Raises Rejected, SyntaxError or
    ValueError."""
    tree = ast.parse(code)
    known = frozenset(bound) | _names_bound(tree)
    for node in ast.walk(tree):
        _check(node, modules, known)
    synchronous: ast.Module = _Rewrite().visit(tree)
    return ast.fix_missing_locations(synchronous)


def attribute_allowed(name: object) -> bool:
    """Whether cell code may read this attribute of any object. Only a plain str can be: a cell's own kind of str
    answers as it likes."""
    if type(name) is not str:
        return False
    return name in _NAMEDTUPLE or not (name.startswith("_") or name in _FORBIDDEN_ATTRIBUTES)


def pattern_allowed(name: object) -> bool:
    """Whether a class pattern may read this attribute: there `format` would be the raw method."""
    return attribute_allowed(name) and name != "format"


def _check(node: ast.AST, modules: frozenset[str], known: frozenset[str]) -> None:
    kind = type(node).__name__
    line = getattr(node, "lineno", None)
    if kind not in ALLOWED_NODES:
        raise Rejected(f"syntax {kind}", line, _PLAIN)
    if isinstance(node, ast.Import | ast.ImportFrom):
        _check_import(node, modules)
    elif isinstance(node, ast.Attribute):
        _check_attribute(node)
    elif isinstance(node, ast.ClassDef):
        _check_class(node)
    elif isinstance(node, ast.MatchClass):
        _check_pattern(node)
    elif isinstance(node, ast.AugAssign):
        _check_augmented(node)
    elif isinstance(node, ast.Name) and node.id in _FORBIDDEN_NAMES - known:
        raise Rejected(f"name {node.id}", line, _INSTEAD[node.id])
    for name in _identifiers(node):
        if name == "super" and not (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)):
            raise Rejected("name super", line, "super is the builtin; give what you bind another name")
        if name.startswith("__") and not _dunder_allowed(node, name):
            raise Rejected(f"name {name}", line, _PUBLIC)


def _identifiers(node: ast.AST) -> Iterator[str]:
    """Every identifier a node carries, whatever the field is called; attributes and constants have their own
    rules."""
    if isinstance(node, ast.Attribute | ast.Constant):
        return
    for field, value in ast.iter_fields(node):
        if field == "type_comment":
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item


def _dunder_allowed(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return name in METHODS
    return isinstance(node, ast.Name) and name == "__name__" and isinstance(node.ctx, ast.Load)


def _check_import(node: ast.Import | ast.ImportFrom, modules: frozenset[str]) -> None:
    wanted = (
        [node.module or "."] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
    )
    hint = f"importable here: {', '.join(sorted(modules))}"
    for name in wanted:
        if name not in modules or (isinstance(node, ast.ImportFrom) and node.level):
            raise Rejected(f"import {name}", node.lineno, f"there is no module {name[:100]!r} here; {hint}")
    if any(alias.name == "*" for alias in node.names):
        raise Rejected("import *", node.lineno, "name what you import instead of *")
    for alias in node.names:
        if isinstance(node, ast.ImportFrom) and not attribute_allowed(alias.name):
            raise Rejected(f"import {alias.name}", node.lineno, _PUBLIC)


def _check_attribute(node: ast.Attribute) -> None:
    if attribute_allowed(node.attr) or _own_private(node) or _class_name(node) or _super_method(node):
        return
    raise Rejected(f"attribute {node.attr}", node.lineno, _PUBLIC)


def _own_private(node: ast.Attribute) -> bool:
    """`self._x` in a small class: one underscore (or `obj`), on `self` or `cls`; and `mapping` of anything. Whether a
    cell made the class of what it is read from is asked at run time."""
    owner, name = node.value, node.attr
    own = name == "obj" or (name.startswith("_") and not name.startswith(("__", *_METACLASS)))
    return name == "mapping" or (own and isinstance(owner, ast.Name) and owner.id in ("self", "cls"))


def _class_name(node: ast.Attribute) -> bool:
    """`type(e).__name__` and `self.__class__.__name__`: text. `__class__` passes only below `__name__`."""
    if not isinstance(node.ctx, ast.Load):
        return False
    return node.attr == "__name__" or (node.attr == "__class__" and getattr(node, "names_class", False))


def _super_method(node: ast.Attribute) -> bool:
    """`super().__init__(...)`: called where it stands, as the method itself is the interpreter's."""
    call = node.value
    is_super = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "super"
    return is_super and node.attr in METHODS and getattr(node, "is_called", False)


def _check_class(node: ast.ClassDef) -> None:
    if node.keywords:
        raise Rejected("class keyword", node.lineno, "write the class without keywords after its bases")


def _check_pattern(node: ast.MatchClass) -> None:
    for name in node.kwd_attrs:
        if not pattern_allowed(name):
            raise Rejected(f"attribute {name}", node.lineno, _PUBLIC)


def _check_augmented(node: ast.AugAssign) -> None:
    """`x.format += y` hands the raw method to `y`."""
    if isinstance(node.target, ast.Attribute) and node.target.attr == "format":
        raise Rejected("attribute format", node.lineno, _PLAIN)


def _names_bound(tree: ast.Module) -> frozenset[str]:
    """Names the cell assigns itself; marks, on the way, each `__class__` that stands below `__name__`, and what is
    called."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(name := getattr(node, "name", None), str):
            names.add(name)  # of a def, class, import, except, pattern or type parameter
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Attribute) and node.attr == "__name__":
            node.value.names_class = True  # type: ignore[attr-defined]
        elif isinstance(node, ast.Call):
            node.func.is_called = True  # type: ignore[attr-defined]
    return frozenset(names)


class _Rewrite(ast.NodeTransformer):
    """Every served call returns a plain value, so `async` code runs as it stands with the word taken out: no
    coroutine, and no coroutine's frame, ever exists. `x.format` becomes a call that checks the template's
    fields at run time, `self._x` one that checks whose `self` it is, `x.y = z` one that checks whose class `x` is."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)  # type: ignore[no-any-return]

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.generic_visit(_renamed(ast.FunctionDef, node))

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        return self.generic_visit(_renamed(ast.For, node))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        return self.generic_visit(_renamed(ast.With, node))

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        node.is_async = 0
        return self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "format" and isinstance(node.ctx, ast.Load):
            return _called(FORMAT, node.value)
        if not attribute_allowed(node.attr) and _own_private(node):
            node.value = _called(OWN, node.value)
        elif not isinstance(node.ctx, ast.Load):
            node.value = _called(CHANGED, node.value)
        return node


def _called(name: str, argument: ast.expr) -> ast.Call:
    function = ast.copy_location(ast.Name(name, ast.Load()), argument)
    return ast.copy_location(ast.Call(function, [argument], []), argument)


def _renamed(kind: type[ast.AST], node: ast.AST) -> ast.AST:
    return ast.copy_location(kind(**dict(ast.iter_fields(node))), node)
