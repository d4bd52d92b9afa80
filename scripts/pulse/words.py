"""What the command says beside errors, in Arabic and English, and which of the two the person reads."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Language = Literal["ar", "en"]


class Words(Struct, frozen=True, kw_only=True):
    """The notes around an answer; those with places are `str.format` templates."""

    language: Language
    waits: str
    works: str
    starts_again: str
    lost: str
    warning: str
    tokens: str
    charged: str
    speed: str
    left: str
    more: str
    you: str
    converse: str


_EN = Words(
    language="en",
    waits="waiting for a worker",
    works="the model is reading",
    starts_again="a new attempt starts the answer again; what stands above is void",
    lost="the connection is lost; trying again",
    warning="note: {code} {detail}",
    tokens="{input} + {output} tokens",
    charged="charged {units}",
    speed="{speed} tokens/s",
    left="{units} left",
    more="more: pulse jobs list --cursor {cursor}",
    you="you> ",
    converse="A conversation: every question sees the ones before it. Ctrl-D ends it.",
)
_AR = Words(
    language="ar",
    waits="بانتظار عامل",
    works="النموذج يقرأ",
    starts_again="محاولة جديدة تبدأ الإجابة من أولها، وما سبق لاغٍ",
    lost="انقطع الاتصال، وتجري المحاولة من جديد",
    warning="تنبيه: {code} {detail}",
    tokens="{input} + {output} رمزًا",
    charged="احتُسب {units}",
    speed="{speed} رمزًا/ث",
    left="المتبقي {units}",
    more="المزيد: pulse jobs list --cursor {cursor}",
    you="أنت> ",
    converse="محادثة: كل سؤال يعرف ما قبله. ينهيها Ctrl-D.",
)


def language(environ: Mapping[str, str]) -> Language:
    """Return the language of the terminal: Arabic for an `ar` locale, else English.

    The first that is set of LC_ALL, LC_MESSAGES and LANG decides (POSIX.1-2017, 8.2).
    """
    locale = next((environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(key)), "")
    return "ar" if locale.lower().startswith("ar") else "en"


def of(chosen: Language) -> Words:
    """Return the words of a language."""
    return _AR if chosen == "ar" else _EN
