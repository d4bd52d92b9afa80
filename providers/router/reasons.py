"""What is said of a choice: a stable code for each thing that can speak for a tier, and its text in both languages."""

from collections.abc import Iterable
from functools import cache
from typing import NamedTuple


class Reason(NamedTuple):
    """The text, and which features say so: a concept's name, or the beginning of a feature of the shape."""

    en: str
    ar: str
    of: tuple[str, ...] = ()


#: By code; codes are given out and stay.
REASONS: dict[str, Reason] = {
    "vision": Reason("There is an image to look at.", "في الطلب صورة ينبغي النظر إليها."),
    "files": Reason("There is a file to read.", "في الطلب ملف ينبغي قراءته."),
    "tools": Reason("There are tools to use.", "في الطلب أدوات ينبغي استخدامها."),
    "earlier": Reason("An earlier turn of this conversation asked for it.", "استدعته رسالة سابقة في هذه المحادثة."),
    "proof": Reason("It asks for a proof or a derivation.", "يطلب برهانا أو اشتقاقا.", ("prove", "derive")),
    "maths": Reason(
        "It asks for a calculation.",
        "يطلب حسابا رياضيا.",
        ("solve", "maths", "number", "quantity", "formulas", "numbers"),
    ),
    "logic": Reason("It takes several steps of logic.", "يحتاج إلى خطوات من الاستدلال.", ("deduce", "puzzle", "clue")),
    "optimisation": Reason("It asks for the best of many ways.", "يطلب أفضل حل بين حلول كثيرة.", ("optimise",)),
    "diagnosis": Reason(
        "It asks for the cause of a fault.", "يطلب سبب خلل.", ("rootcause", "symptom", "oddity", "traces")
    ),
    "steps": Reason("It asks for careful steps.", "يطلب خطوات متأنية.", ("steps",)),
    "design": Reason(
        "It asks for the design of a system.",
        "يطلب تصميم نظام.",
        (
            *("design", "build", "migrate", "app", "parts", "api", "database", "distributed", "infra", "reliability"),
            *("security", "learning", "fields"),
        ),
    ),
    "analysis": Reason(
        "It asks for an analysis.",
        "يطلب تحليلا.",
        ("analyse", "compare", "tradeoff", "strategy", "business", "society"),
    ),
    "parts": Reason(
        "It asks for several things.", "يطلب أمورا عدة.", ("acts", "items", "joints", "sentences", "questions")
    ),
    "long": Reason(
        "It is long, or a long answer is wanted.",
        "الطلب طويل، أو يراد جواب طويل.",
        ("detailed", "words:32", "words:64", "words:128", "words:256"),
    ),
    "code": Reason(
        "It is about code.",
        "موضوعه شيفرة برمجية.",
        ("code", "snippet", "language", "fix", "test", "refactor", "code_lines", "snippets", "links"),
    ),
    "writing": Reason(
        "It asks for a text to be written or revised.",
        "يطلب كتابة نص أو مراجعته.",
        ("writing", "make", "summarise", "rewrite", "suggest", "text", "everyday"),
    ),
    "explanation": Reason("It asks for an explanation.", "يطلب شرحا.", ("explain", "how", "why", "science")),
    "greeting": Reason("It is small talk.", "هو حديث عابر.", ("greeting", "thanks", "chat")),
    "fact": Reason(
        "It asks for a fact or a word.",
        "يسأل عن معلومة أو كلمة.",
        ("define", "fact", "mention", "trivia", "yesno", "translate", "wording", "convert", "nothing"),
    ),
    "short": Reason("It is short.", "الطلب قصير.", ("brief", "courtesy", "words:2", "words:4", "words:8", "words:16")),
    "ordinary": Reason("Nothing in it is unusual.", "ليس فيه ما يلفت النظر.", ("always",)),
}
_CODES = {name: code for code, reason in REASONS.items() for name in reason.of}
_MOST = 3
#: What can be said for the simplest tier: that several things are asked is no reason to take them for simple.
_SIMPLE = frozenset({"greeting", "fact", "short"})


def codes(spoke: Iterable[tuple[str, float]], *, simple: bool) -> tuple[str, ...]:
    """Return what speaks for a tier, from the weighted features: the heaviest code first, three at most, one at least.

    Features of the same code are summed, what speaks against it too. `simple`: for the simplest tier.
    """
    weight: dict[str, float] = {}
    for name, value in spoke:
        code = _code(name)
        weight[code] = weight.get(code, 0.0) + value
    heavy = sorted((code for code, value in weight.items() if value > 0), key=lambda code: (-weight[code], code))
    told = [code for code in heavy if (code in _SIMPLE if simple else code != "ordinary")]
    return tuple(told[:_MOST]) or ("ordinary",)


@cache
def _code(feature: str) -> str:
    """`has:prove`, `asks:prove` and `often:prove` say what `prove` says; `items:many` what `items` says."""
    if feature in _CODES:
        return _CODES[feature]
    first, _, second = feature.partition(":")
    return _CODES.get(second) or _CODES.get(first, "ordinary")
