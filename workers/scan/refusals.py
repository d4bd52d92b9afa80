"""Why a file is rejected: one class per fact. They are a file's `error`, not answers of the API."""

from infra.errors import PulseError


class FileRefused(PulseError):
    """The file is not accepted."""

    ar = "الملف غير مقبول."


class SizeMismatch(FileRefused):
    """The file has {actual_bytes} bytes and not the declared {declared_bytes}."""

    ar = "حجم الملف بالبايت {actual_bytes} وليس {declared_bytes} كما صُرّح به."


class HashMismatch(FileRefused):
    """The file's SHA-256 is not the declared one: it was changed or damaged on the way."""

    ar = "بصمة الملف (SHA-256) غير البصمة المصرّح بها: تغيّر الملف أو تلف في الطريق."


class TypeMismatch(FileRefused):
    """The file was declared as {declared} and is {found}."""

    ar = "صُرّح بأن نوع الملف {declared} وهو في الحقيقة {found}."


class UnreadableFile(FileRefused):
    """The file is damaged or incomplete: it cannot be read as {media_type}."""

    ar = "الملف تالف أو ناقص: لا يمكن قراءته على أنه {media_type}."


class TooManyPixels(FileRefused):
    """The picture has {width} x {height} pixels; {limit_megapixels} megapixels are allowed."""

    ar = "أبعاد الصورة بالبكسل {width} × {height}، والحد الأقصى لمساحتها بالميغابكسل {limit_megapixels}."


class TooManyFrames(FileRefused):
    """The file has {frames} frames or more of {width} x {height}; {limit} frames and {limit_megapixels} megapixels in
    all are allowed.
    """

    ar = (
        "عدد الإطارات في الملف {frames} على الأقل بأبعاد {width} × {height}، والحد الأقصى لعددها {limit}، "
        "ولمساحتها مجتمعةً بالميغابكسل {limit_megapixels}."
    )


class ClipTooLong(FileRefused):
    """The clip says that it is {seconds:.0f} seconds long; {limit_s} are allowed."""

    ar = "مدة المقطع بالثواني {seconds:.0f} بحسب ما يذكره، والحد الأقصى {limit_s}."


class ClipTooHeavy(FileRefused):
    """The clip would make {frames} frames when decoded; {limit_frames} are allowed."""

    ar = "عدد الإطارات التي تنتج عن فك المقطع {frames}، والحد الأقصى {limit_frames}."


class CodecNotAllowed(FileRefused):
    """The clip has a stream in {codec}, which is not accepted."""

    ar = "في المقطع مسار بترميز {codec} وهو غير مقبول."


class TooManyPages(FileRefused):
    """The document has {pages} pages; {limit} are allowed."""

    ar = "عدد صفحات المستند {pages}، والحد الأقصى {limit}."


class ActiveContent(FileRefused):
    """The file contains {what_en}, which could act on the computer of whoever opens it."""

    ar = "في الملف {what_ar}، وقد يؤثر ذلك في جهاز من يفتحه."
    hidden = frozenset({"what_en", "what_ar"})


class EncryptedFile(FileRefused):
    """The file is encrypted, so it cannot be checked. Upload it without a password."""

    ar = "الملف مشفّر فلا يمكن فحصه. ارفعه من دون كلمة مرور."


class ArchiveTooLarge(FileRefused):
    """Unpacked, the file's parts exceed what is allowed: {limit_parts} parts and {limit_mib} MiB."""

    ar = "تتجاوز محتويات الملف بعد فكّه الحد الأقصى: عدد الأجزاء {limit_parts}، والحجم بالميبي بايت {limit_mib}."


class UnsafePath(FileRefused):
    """A part of the file has a name that leads out of its folder: {path}"""

    ar = "في الملف جزء يقود اسمه إلى خارج مجلده: {path}"


class EntitiesDeclared(FileRefused):
    """A part of the file declares a document type or entities, which no document of this kind needs: {path}"""

    ar = "في الملف جزء يُعرّف نوع مستند أو كيانات (DOCTYPE) لا يحتاجها هذا النوع من المستندات: {path}"


class TrailingData(FileRefused):
    """Before its beginning or after its end, the file contains other data that does not belong to its type."""

    ar = "في الملف بيانات أخرى، قبل بدايته أو بعد نهايته، لا تنتمي إلى نوعه."


class UnreadableText(FileRefused):
    """The text is not valid UTF-8 (or has control characters) at byte {position}."""

    ar = "النص ليس UTF-8 صالحًا (أو فيه محارف تحكم) عند البايت {position}."


class MalformedLine(FileRefused):
    """Line {line} is not a JSON object."""

    ar = "السطر {line} ليس كائن JSON."


class VirusFound(FileRefused):
    """The virus scanner found {signature}."""

    ar = "وجد فاحص الفيروسات: {signature}."


class UnscannableFile(FileRefused):
    """The file is longer than what the virus scanner takes."""

    ar = "الملف أطول مما يقبله فاحص الفيروسات."


class TooComplex(FileRefused):
    """Reading the file needs more time or memory than a file may use."""

    ar = "تحتاج قراءة الملف إلى وقت أو ذاكرة أكثر مما يُسمح به لأي ملف."
