"""Which questions are about the whole corpus: what is in it, what its themes are, how many of its parts are so. A small
set of English rules."""

import re

from index_store.names import names_in

MOST_CHARS = 400  # of a question; what is longer is about what it tells

#: What all that there is may be called; the second only where a word points at it, as `the index` may be one of a book.
_ALL = "(?:corpus|collection|documents|files|texts|archive|papers)"
_POINTED_AT = f"(?:{_ALL}|document|file|text|index|library|data|dataset|database|folder)"
_HERE = (
    rf"(?:here|inside|it|them|there|everything|the whole|all(?: of)? (?:this|these|them|(?:the )?{_ALL})"
    rf"|the(?: whole| entire)? {_ALL}|(?:this|these|my|our|your)(?: whole| entire)?(?: \w+)? {_POINTED_AT})"
)
_THEMES = r"(?: \w+){0,2} (?:themes?|topics?|subjects?|areas?|threads|strands)"
_TREATED = (
    "(?: (?:are|is|does|do))?(?: there)?(?: (?:covered|discussed|present|treated|found|dealt with))?"
    rf"(?: (?:(?:in|of|across|throughout|by) )?{_HERE})?"
)
_ASKED = (
    "(?:(?:please|can you|could you|would you) )*"
    r"(?:(?:give me|give us|write|show me|show us|provide) )?(?:an? |the )?(?:\w+ )?"
)
_SUM = "(?:summari[sz]e|summary|overview|outline|gist|describe|description)"
_RULES = (
    rf"what(?:'s| is| are| can be found| do (?:we|i|you) have)(?: there)? (?:in|inside) {_HERE}",
    rf"what(?: is| are| do (?:we|i|you) have) (?:(?:in )?here|(?:this|these) {_POINTED_AT})",
    rf"what(?:'s| is| are| do| does) {_HERE}(?: all| mostly| mainly)? (?:about|cover|contain|hold|deal with|say)",
    rf"what (?:kind|sort|type)s? of (?:documents|texts|files|things|information)"
    rf"(?: (?:are|is|do|have|we|i|you))*(?: (?:in|inside))? {_HERE}",
    rf"(?:what|which)(?:'s| are| is)?(?: the)?{_THEMES}{_TREATED}",
    rf"(?:what|which|how many) {_ALL}(?: (?:are|is|do|have|we|i|you|got))*(?: there)?(?: (?:in )?{_HERE})?",
    rf"(?:what|which){_THEMES} (?:do|does) {_HERE} (?:cover|contain|treat|discuss|deal with)",
    rf"{_ASKED}{_SUM}(?: of| what is in| what's in)? {_HERE}",
)
_WHOLE = re.compile(rf"(?:{'|'.join(_RULES)})[ ?.!]*", re.IGNORECASE)


def is_about_all(question: str) -> bool:
    """Whether an English question is about all that there is and names nothing in it: then no passage answers it."""
    words = " ".join(question[: MOST_CHARS + 1].split())
    if len(question) > MOST_CHARS or _WHOLE.fullmatch(words) is None:
        return False
    return next(names_in(words[:1].lower() + words[1:]), None) is None


#: What a corpus repeats, in the plural.
_UNITS = (
    "(?:documents|files|texts|records|rows|lines|entries|items|messages|e-?mails|mails|letters|posts|comments|reviews"
    "|ratings|tickets|complaints|requests|issues|reports|articles|papers|chapters|sections|paragraphs|passages|clauses"
    "|contracts|agreements|invoices|orders|transactions|incidents|conversations|meetings|functions|methods|classes"
    "|modules|commits|logs|notes)"
)
#: Words that point at all there is, or at all of a kind.
_EVERYTHING = (
    rf"\b(?:in here|altogether|in total|overall|(?:of|in|across|throughout|over|among) (?:"
    rf"all|(?:the (?:whole|entire)|this|our|my)(?: \w+)? {_POINTED_AT}|(?:all |all of )?(?:the|these|our|my) {_UNITS}"
    rf"|these (?!are|were|have|do|did|will|can)\w+))\b"
)
_PER = (
    r"\b(?:by|per|(?:for|in) (?:each|every)) (?:day|week|month|quarter|year|date|user|author|sender|speaker|type|kind"
    r"|category|label|topic|document|file|country|customer|person)\W*$"
)
_FEW = r"(?:\w+ ){0,2}"
_COUNTS = (
    rf"how many {_FEW}{_UNITS}\b",
    rf"how many\b.*(?:{_EVERYTHING}|{_PER})",
    rf"(?:count|list|name|find|show|tabulate)(?: me)? (?:all|every|each)(?: of)?(?: the| these)? {_FEW}{_UNITS}\b",
    rf"(?:count|tabulate|number of|what (?:share|percentage|part) of) (?:the |these |all )?{_FEW}{_UNITS}\b",
    r"(?:please )?(?:count|list|enumerate|tabulate) (?:all|every|each)\b",
    r"how many \w+ (?:are|were)(?: there)? in (?:the|this|my|our) (?:log|table|file|data|dataset|index|archive)\b",
    rf"(?:which|what) {_FEW}\w+ .*\b(?:most|least) (?:often|frequent|frequently|common)\b.*(?:{_EVERYTHING}|{_PER})",
)
#: What follows a unit where it is said of each of them: then a name is a part of what is said, as in `How many messages
#: mention Enron?`, and not what has them.
_SAID_OF_EACH = re.compile(
    rf"\b{_UNITS} (?:(?:are|were|is) )?(?:that|which|where|with|about|from|by|naming|mentioning|name|mention|contain"
    r"|discuss|say|refer|talk|cite|use|include|concern|describe|deal|speak|complain|praise|report)\b",
    re.IGNORECASE,
)
_EVERY = re.compile("|".join(f"(?:{rule})" for rule in _COUNTS), re.IGNORECASE)


def is_about_every(question: str) -> bool:
    """Whether an English question counts or lists over everything, so that no search finds its answer: it asks for
    each of what the corpus repeats, or points at all there is. A question about one thing that has a name is none:
    `How many pages has "Ulysses"?`"""
    words = " ".join(question[: MOST_CHARS + 1].split())
    if len(question) > MOST_CHARS or _EVERY.search(words) is None:
        return False
    asked = words[:1].lower() + words[1:]
    if _SAID_OF_EACH.search(asked):
        return True
    return bool(re.search(f"{_EVERYTHING}|{_PER}", asked)) or next(names_in(asked), None) is None
