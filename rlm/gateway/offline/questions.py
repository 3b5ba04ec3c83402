"""What kind of answer an English question asks for, by its words: what the offline models, which quote, cannot give."""

import re

MOST_CHARS = 4_000  # of a question, in which such words are looked for
_COUNTING = re.compile(
    r"\bhow (?:many|often|frequently)\b|\b(?:in |the |what )?totals?\b|\baltogether\b|\b(?:on )?average\b|\bmedian\b"
    r"|\bper (?:day|week|month|quarter|year|person|head|capita)\b|\b(?:list|name|find|show|give|tell|enumerate)\b"
    r"(?: \w+){0,6} (?:all|every|each)\b|\bnumber of\b|\bcount (?:of|the|all|how|every)\b|\bsum (?:of|up)\b"
    r"|\badd(?:ed)? up\b"
    r"|\bmost (?:often|frequent|frequently|common)\b|\ball of the\b|\bwhat are all\b"
    r"|\bhow much .*\b(?:together|overall)\b"
)

#: A question that begins so has as many answers as there are such things.
_LISTING = re.compile(
    r"(?:(?:and|so|but|then) )?(?:which|what) (?!(?:did|does|do|is|are|was|were|has|have|had)\b)(?:\w+ ){0,2}?"
    r"(?!\w*(?:ss|us|is)\b)\w+s (?:(?:in|of|from|at|on|with) (?:\w+ ){1,4}?)?"
    r"(?:have|are|were|do|can|will|must|should|may)\b"
    r"|(?:list|name|give|tell|enumerate|show)(?: me| us)?(?: the)? (?:\w+ ){0,2}?(?!\w*(?:ss|us|is)\b)\w+s of\b",
    re.IGNORECASE,
)

#: Words in -est that are no superlatives.
_PLAIN = (
    "arrest attest backtest behest bequest best chest conquest contest crest detest digest dishonest disinterest "
    "divest doctest earnest fest forest guest harvest honest immodest infest ingest inquest interest invest jest lest "
    "manifest midwest modest molest nest northwest pest predigest pretest priest protest pytest quest reinvest request "
    "rest retest reforest self-interest smoketest southwest subtest suggest tempest test unittest unrest vest west "
    "wrest zest"
).replace(" ", "|")
#: Of the forms that compare two, those that are no nouns and no prepositions.
_LONGER = (
    "better|bigger|cheaper|closer|deeper|earlier|faster|fewer|greater|harder|heavier|higher|larger|later|less|lighter"
    "|longer|lower|more|newer|older|richer|shorter|slower|smaller|sooner|stronger|taller|weaker|wider|worse|younger"
)
_AMOUNT = (
    r"(?:[$€£¥]\s?\d|\d[\d.,]*\s?(?:%|k\b|million|percent|dollar|euro|pound|year|month|week|day|hour|minute|met(?:er|re)|mile"
    r"|page|word|employee|people|kg\b|km\b|m\b|cm\b))"
)
_COMPARING = re.compile(
    rf"(?<!at )(?<!at the )(?<!at its )\b(?!(?:{_PLAIN})\b)(?!shortest paths?\b|longest common\b|nearest[- ]neighbou?r"
    r"|(?:young|eld)est (?!of\b|person\b|member\b))"  # a child of a tale
    rf"[a-z]{{2,}}est\b"
    r"|\b(?:which|who)\b.*\b(?:best|worst)\b(?! practices?\b| efforts?\b| interests?\b| case\b)"
    r"|(?<!at )\bthe (?:most|least)\b(?! part\b| of\b| squares\b)"
    r"|\b(?:which|who|what)\b.*(?<!at )(?<!at the )\b(?:most|least)\b(?! part\b| of\b| likely\b| known\b| squares\b)"
    r"|(?<!no )(?<!not )(?<!any )\b(?!rather\b|other\b|whether\b|either\b|neither\b|never\b)"
    rf"(?:[a-z]{{3,}}er|(?:{_LONGER})(?: \S+){{0,4}}) than\b"
    rf"|\b(?:which|who)\b.*\b(?:{_LONGER})\b(?=\s*(?:[,?:]|or\b|of the\b|$))"
    rf"|\b(?:over|above|below|under|beyond|exceed(?:s|ed|ing)?|at least|at most|up to)\s+{_AMOUNT}"
    r"|\b(?:which|who)\b.*\b(?:first|last)\s*(?:\?|,|$)"
    r"|\bcompar(?:e|es|ed|ing|ison|isons)\b|\bversus\b|\bvs\b|\bdifferences?\b.*\b(?:between|from|to)\b"
    r"|\bdiffer(?:s|ed)?\b|\bin common\b|\bsimilarit(?:y|ies)\b|\brank(?:s|ed|ing)?\b|\bsort(?:ed)? .*\bby\b"
    r"|\bwhich of (?:the two|these|them|the following|both)\b|\btop (?:\d+|three|four|five|ten|twenty)\b"
    r"|\bthe same\b.*\bin (?:both|all|each)\b|\boutrank|\bexceeds?\b|\boutnumber"
)
#: A question that begins so is answered by yes or no, or by one of two things that it names.
_DECIDING = re.compile(
    r"(?:(?:and|but|so|then|or|also|well)\b,? )?(?:is|are|am|was|were|do|does|did|can|could|has|had|will|would|should"
    r"|shall|must|may|might|isn't|aren't|wasn't|weren't|don't|doesn't|didn't|can't|couldn't|hasn't|haven't|hadn't|won't|wouldn't"
    r"|shouldn't|have (?:i|you|we|they|any|there|all|the|both)|is it true|whether)\b"
    r"|.*\b(?:tell me|say|check|know|see|find out|explain|decide) (?:if|whether)\b|.*\b(?:yes or no|true or false)\b",
    re.IGNORECASE,
)
NOT_COUNTED, NOT_DECIDED, NOT_COMPARED = (
    f"No language model has read this, so {what}; these sentences bear on the question:"
    for what in (
        "nothing was counted, and there may be more",
        "it is not answered by yes or no",
        "nothing was compared",
    )
)


def what_quotes_are(question: str) -> str:
    """A sentence that says so where quotes are no answer to a question; '' where they may be."""
    if counts(question):
        return NOT_COUNTED
    if decides(question):
        return NOT_DECIDED
    return NOT_COMPARED if compares(question) else ""


def counts(question: str) -> bool:
    """Whether an English question asks to count, total or list. A word with a capital is taken for a name."""
    return _asks(_COUNTING, question)


def lists(question: str) -> bool:
    """Whether an English question asks, by a plural, for all things of a kind."""
    return bool(_LISTING.match(" ".join(question[:MOST_CHARS].split())))


def compares(question: str) -> bool:
    """Whether an English question asks for what has most of something, or more than another. Names as in `counts`."""
    return _asks(_COMPARING, question)


def decides(question: str) -> bool:
    """Whether an English question asks for yes or no, or for one of two things."""
    return bool(_DECIDING.match(" ".join(question[:MOST_CHARS].split()).lstrip("\"'“‘¿( ")))


def _asks(words: re.Pattern[str], question: str) -> bool:
    text = " ".join(question[:MOST_CHARS].split())
    return bool(words.search(text[:1].lower() + text[1:]))
