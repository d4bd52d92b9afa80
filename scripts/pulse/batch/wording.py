"""What `pulse batch` says beside errors, in Arabic and English."""

from collections.abc import Mapping

from msgspec import Struct

from scripts.pulse.words import Language


class Wording(Struct, frozen=True, kw_only=True):
    """The notes around a batch; those with places are `str.format` templates."""

    states: Mapping[str, str]
    read: str
    pace: str
    slow_pace: str
    left: str
    succeeded: str
    others: Mapping[str, str]
    ends: Mapping[str, str]
    took: str
    back: str
    busy: str
    made: str
    line: str
    more: str
    so_far: str


_EN = Wording(
    states={
        "validating": "validating",
        "running": "running",
        "canceling": "being cancelled",
        "completed": "completed",
        "failed": "failed",
        "canceled": "cancelled",
        "expired": "expired",
    },
    read="{lines} lines",
    pace="{rate} jobs/s",
    slow_pace="{rate} jobs/min",
    left="{time} left",
    succeeded="{count} of {total} succeeded",
    others={
        "failed": "{count} failed",
        "rejected": "{count} refused",
        "canceled": "{count} cancelled",
        "expired": "{count} expired",
    },
    ends={"canceled": "cancelled", "expired": "not done in time"},
    took="{seconds} s",
    back="connected again",
    busy="the studio asks to wait; trying again in {seconds:.0f} s",
    made="the batch is {id}",
    line="line {line}: {text} ({about})",
    more="{count} more; all of them: {command}",
    so_far="the batch is not over; this is what there is by now",
)
_AR = Wording(
    states={
        "validating": "تُقرأ الدفعة",
        "running": "قيد التنفيذ",
        "canceling": "قيد الإلغاء",
        "completed": "اكتملت الدفعة",
        "failed": "فشلت الدفعة",
        "canceled": "أُلغيت الدفعة",
        "expired": "انتهت مهلة الدفعة",
    },
    read="الأسطر: {lines}",
    pace="{rate} مهمة/ث",
    slow_pace="{rate} مهمة/د",
    left="يتبقى {time}",
    succeeded="نجح {count} من {total}",
    others={
        "failed": "فشل {count}",
        "rejected": "رُفض {count}",
        "canceled": "أُلغي {count}",
        "expired": "انتهت مهلة {count}",
    },
    ends={"canceled": "أُلغي", "expired": "لم يُنجز في الوقت المحدد"},
    took="{seconds} ث",
    back="عاد الاتصال",
    busy="يطلب الاستوديو الانتظار، وتُعاد المحاولة بعد {seconds:.0f} ث",
    made="معرّف الدفعة {id}",
    line="السطر {line}: {text} ({about})",
    more="وغيرها {count}، وكلها بالأمر: {command}",
    so_far="لم تنتهِ الدفعة بعد، وهذا ما صدر منها حتى الآن",
)


def of(chosen: Language) -> Wording:
    """Return the words of a language."""
    return _AR if chosen == "ar" else _EN
