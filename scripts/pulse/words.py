"""What the command says beside errors, in Arabic and English, and which of the two the person reads."""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

Language = Literal["ar", "en"]


class Words(Struct, frozen=True, kw_only=True):
    """The notes around an answer or a file; those with places are `str.format` templates."""

    language: Language
    waits: str
    works: str
    starts_again: str
    lost: str
    missed: str
    warning: str
    tokens: str
    charged: str
    speed: str
    left: str
    more: str
    you: str
    converse: str
    reads: str
    sends: str
    checks: str
    fetches: str
    kept: str
    saved: str
    summed: str
    delete: str
    rate: str
    sizes: tuple[str, ...]


_EN = Words(
    language="en",
    waits="waiting for a worker",
    works="the model is reading",
    starts_again="a new attempt starts the answer again; what stands above is void",
    lost="the connection is lost; trying again",
    missed="some events before this one are not kept any more",
    warning="note: {code} {detail}",
    tokens="{input} + {output} tokens",
    charged="charged {units}",
    speed="{speed} tokens/s",
    left="{units} left",
    more="more: {command}",
    you="you> ",
    converse="A conversation: every question sees the ones before it. Ctrl-D ends it.",
    reads="reading",
    sends="uploading",
    checks="being checked",
    fetches="downloading",
    kept="kept {size} {what} · {name}",
    saved="saved {size} · {path}",
    summed="{kept} kept, {refused} refused",
    delete="Delete {names}?",
    rate="{size}/s",
    sizes=("B", "KiB", "MiB", "GiB", "TiB"),
)
_AR = Words(
    language="ar",
    waits="بانتظار عامل",
    works="النموذج يقرأ",
    starts_again="محاولة جديدة تبدأ الإجابة من أولها، وما سبق لاغٍ",
    lost="انقطع الاتصال، وتجري المحاولة من جديد",
    missed="بعض الأحداث التي سبقت لم تعد محفوظة",
    warning="تنبيه: {code} {detail}",
    tokens="{input} + {output} رمزًا",
    charged="احتُسب {units}",
    speed="{speed} رمزًا/ث",
    left="المتبقي {units}",
    more="المزيد: {command}",
    you="أنت> ",
    converse="محادثة: كل سؤال يعرف ما قبله. ينهيها Ctrl-D.",
    reads="قراءة",
    sends="رفع",
    checks="قيد الفحص",
    fetches="تنزيل",
    kept="حُفظ {size} {what} · {name}",
    saved="نُزّل {size} · {path}",
    summed="المحفوظ {kept} والمرفوض {refused}",
    delete="هل تُحذف: {names}؟",
    rate="{size}/ث",
    sizes=("بايت", "كيبي بايت", "ميبي بايت", "غيبي بايت", "تيبي بايت"),
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
