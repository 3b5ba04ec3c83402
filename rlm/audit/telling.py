"""The words that change the sense of a sentence most, and may be one character of it: numbers, and words that deny."""

import re

#: Words that deny a whole sentence, in English; beside these the endings `n't`.
DENIALS = "not|no|never|none|neither|nor|without|cannot"

#: Digits with what parts them, whatever stands before or behind.
NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
#: A denial, where a quote must deny as often as the document.
DENIED = re.compile(rf"\b(?:{DENIALS})\b|n['’]t\b", re.IGNORECASE)
#: All that is told to a person of how a quote and the document differ: numbers with their signs and in words too, and
#: denials in other languages too.
TELLING = re.compile(
    rf"[-−+]?\d+(?:[.,:/]\d+)*%?|\w+n['’]t\b|\b(?:{DENIALS}|nobody|nothing|nowhere"
    r"|zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozens?|hundreds?|thousands?|millions?"
    r"|billions?|half|twice|nicht|nichts|nie|niemals|keine?|keine[mnrs]|ohne|ne|pas|jamais|sans|nunca|sin|non|mai)\b",
    re.IGNORECASE,
)
