"""What an answer without a language model has to say of itself: who read the text, and what such tools cannot do."""

import re
from collections.abc import Mapping

from index_store.types import Json
from rlm.answers.schema import typed
from rlm.errors import RlmError
from rlm.gateway.offline import PREFIX, READ_BY as READ_BY
from rlm.gateway.offline.questions import compares, counts, lists
from rlm.limits import Models

NOT_ENGLISH = (
    "the question does not look like English, the one language that the offline tools know: what they found may have "
    "nothing to do with it; ask in English, or a language model with --model"
)
COUNTING = (
    "the question asks to count, total or list, and the offline tools only quote sentences: nothing was counted or "
    "added up, and there may be more; ask a language model with --model"
)
LISTING = (
    "the question may have many answers, and the offline tools quote a few sentences: there may be more; ask a "
    "language model with --model"
)
COMPARING = (
    "the question asks to compare, and the offline tools only quote sentences: nothing that was found was held against "
    "what else there is; ask a language model with --model"
)
#: The models whose answers are quotes, and such an answer.
QUOTE = frozenset(PREFIX + name for name in ("extractive", "navigator", "reader"))
A_QUOTE = '"The words of a sentence." [1]'

#: Words of the questions that people ask, and no words of names. What English shares with others is in neither list.
_ENGLISH = frozenset(
    str.split(
        "what who whom whose which how when where why does did the of and with that there from by any many much has "
        "have been were are it this these their between about please should would could can its than"
    )
)
_OTHERS = tuple(
    frozenset(line.split())
    for line in """
    wer wie wo wann warum welche welcher welches wieviel ist sind wurde wurden und nicht eine einen einem einer ein mit
        für auf über zwischen dem hatte haben wird kann gibt es bei nach aus zum zur
    qui que quoi quel quelle quels quelles comment combien pourquoi quand où est est-ce sont dans avec pour les une
        et sur ont été être au aux ce cette entre
    qué quién quiénes cuál cuáles cómo cuándo cuánto cuántos cuánta cuántas dónde fue fueron tiene hay una por para con
        en los es que se según
    chi cosa quale quali quando quanto quanti dove perché sono una della delle dei degli nel nella che è ha con gli
        il di
    quem qual quais quando quanto quantos onde porque são uma dos das foi foram não com os em no na para é que
    wie wat waar wanneer waarom welke welk hoeveel zijn werd een het niet met voor naar bij heeft hebben wordt aan
    kto co gdzie kiedy dlaczego jaki jaka jakie ile który która które jest są się był była było nie w z na
    vem vad vilken vilka hur när varför är och inte ett som för med på av den det till hvem hvad hvor hvornår hvorfor
        hvilken hvilke er og ikke et hva når
    kim ne nerede nasıl neden hangi kaç bir ve için ile mi mu
    kuka mikä mitä missä milloin miksi kuinka miten on ja ovat oli
    kdo kde kdy proč jak jaký jaká jaké kolik který která je jsou byl byla a na se
    ki mi mikor hol miért hogyan melyik hány az és egy volt
    cine ce unde când cum care câți câte este sunt și în cu
    siapa apa kapan mengapa bagaimana berapa yang dan di dengan untuk
    ai gì đâu khi nào tại sao bao nhiêu là có của và
    """.replace("\n        ", " ").strip().splitlines()
)  # fmt: skip
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")


def read_by(models: Models) -> str:
    """Who read the text, where that was no language model; '' where one did."""
    return READ_BY if all(model.startswith(PREFIX) for model in (models.root, models.child)) else ""


def check_schema(models: Models, schema: Mapping[str, Json] | None) -> None:
    """Raise RlmError where an offline model is to fill a schema that its quotes, which are text, do not fit."""
    if schema is not None and models.root in QUOTE and typed(A_QUOTE, schema)[1]:
        raise RlmError(
            f"{models.root} quotes sentences and fills no schema but one that takes any text; name a language model "
            "with --model, in Python by Models(root=...), or leave the schema out"
        )


def doubts(question: str) -> tuple[str, ...]:
    """What the offline tools cannot do for this question, a sentence each."""
    found = {
        NOT_ENGLISH: not is_english(question),
        COUNTING: counts(question),
        LISTING: lists(question) and not counts(question),
        COMPARING: compares(question),
    }
    return tuple(sentence for sentence, applies in found.items() if applies)


def is_english(question: str) -> bool:
    """Whether a question may be English, by its letters and its commonest words; one of names alone may.

    It is not where half of its letters are of another script, where two words more are common in another language than
    in English, or where one that ends in a question mark begins with such a word and none is English.
    """
    letters = [letter for letter in question if letter.isalpha()]
    if sum(not _is_latin(letter) for letter in letters) * 2 > len(letters):
        return False
    words = [word.lower() for word in _WORD.findall(question)]
    english = sum(word in _ENGLISH for word in words)
    other = max((sum(word in language for word in words) for language in _OTHERS), default=0)
    begins = (
        bool(words)
        and question.strip().endswith(("?", "？"))
        and any(words[0] in language for language in _OTHERS)
    )
    return not (other >= english + 2 or (begins and not english))


def _is_latin(letter: str) -> bool:
    return letter < "\u0250" or "\u1e00" <= letter < "\u1f00"
