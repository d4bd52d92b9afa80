"""Why a line of a batch is no request, and why a batch as a whole is not accepted: one class per fact.

They are what a line's result or a batch's `error` says, beside the facts of `infra.decoding` that name a field.
"""

from infra.errors import PulseError


class LineRefused(PulseError):
    """The line is not accepted."""

    ar = "السطر غير مقبول."
    status = 400


class LineTooLong(LineRefused):
    """The line has more than {limit_bytes} bytes."""

    ar = "يتجاوز طول السطر {limit_bytes} بايت."


class LineNotUtf8(LineRefused):
    """The line is not valid UTF-8 at byte {position}, counted from 0."""

    ar = "السطر ليس UTF-8 صالحًا عند البايت {position} (يبدأ العد من الصفر)."


class LineHasNul(LineRefused):
    """The line has a NUL (U+0000) at byte {position}, counted from 0."""

    ar = "في السطر المحرف U+0000 (NUL) عند البايت {position} (يبدأ العد من الصفر)."


class LineCutShort(LineRefused):
    """The last line breaks off in its middle: the rest of the file seems to be missing."""

    ar = "ينقطع السطر الأخير في منتصفه: يبدو أن بقية الملف مفقودة."


class LineNotAnObject(LineRefused):
    """The line must be one JSON object."""

    ar = "يجب أن يكون السطر كائن JSON واحدًا."


class ControlCharacters(LineRefused):
    """{field} may have no control characters."""

    ar = "لا يجوز أن تكون في {field} محارف تحكم."


class DuplicateCustomId(LineRefused):
    """custom_id: line {first} has the same one."""

    ar = "custom_id: للسطر {first} المعرّف نفسه."


class FieldOfBatch(LineRefused):
    """{field} cannot be chosen for each line: it is a matter of the whole batch."""

    ar = "لا يمكن اختيار {field} لكل سطر على حدة، فهو من شأن الدفعة كلها."


class BatchRefused(PulseError):
    """The batch is not accepted."""

    ar = "الدفعة غير مقبولة."
    status = 400


class BatchInputMissing(BatchRefused):
    """The batch's file is not there any more."""

    ar = "لم يعد ملف الدفعة موجودًا."


class TooManyLines(BatchRefused):
    """The batch has more than {limit} lines."""

    ar = "في الدفعة أكثر من {limit} سطر."


class NoValidLines(BatchRefused):
    """No line of the batch is a request that can be made."""

    ar = "ليس في الدفعة أي سطر يمكن تنفيذه."


class BatchHasErrors(BatchRefused):
    """{errors} of {lines} lines are wrong, and nothing was to be done unless all are right."""

    ar = "في الدفعة أسطر خاطئة عددها {errors} من أصل {lines}، وقد طُلب ألا يُنفَّذ شيء ما لم تصح كلها."
