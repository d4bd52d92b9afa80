"""What the types of events mean, and why an endpoint is told of none, in both languages."""

#: Of each type: English, Arabic.
EVENTS = {
    "job.succeeded": ("A job is done; its result is there.", "اكتملت مهمة ونتيجتها جاهزة."),
    "job.failed": ("A job was given up; nothing was charged.", "فشلت مهمة وتوقفت محاولاتها، ولم يُحتسب شيء."),
    "job.canceled": ("A job was stopped; what it had used was charged.", "أُلغيت مهمة، واحتُسب ما استهلكته."),
    "job.expired": ("A job was not started by its deadline.", "لم تبدأ مهمة قبل مهلتها فانتهت صلاحيتها."),
    "batch.accepted": ("A batch was read and its jobs begin.", "قُرئت دفعة وبدأت مهامها."),
    "batch.completed": ("All lines of a batch are over.", "انتهت كل أسطر الدفعة."),
    "batch.failed": ("A batch was refused as a whole.", "رُفضت دفعة بكاملها."),
    "batch.canceled": ("A batch was canceled; what had ended by then is kept.", "أُلغيت دفعة، وبقي ما انتهى منها."),
    "batch.expired": ("The time of a batch was over before all of its lines.", "انتهى وقت دفعة قبل انتهاء أسطرها."),
    "file.ready": ("An uploaded file was scanned and can be used.", "فُحص ملف مرفوع وصار جاهزًا."),
    "file.rejected": ("An uploaded file was scanned and refused.", "فُحص ملف مرفوع ورُفض."),
    "quota.warned": ("80 % of a meter's quota are used or held.", "استُهلك أو حُجز 80% من حصة أحد العدّادات."),
    "quota.stopped": ("All of a meter's quota is used or held.", "استُهلكت أو حُجزت حصة أحد العدّادات كلها."),
    "webhook.test": ("You asked for a test of an endpoint.", "طلبت تجربة عنوان خطاف (webhook)."),
}

#: Of each reason: English, Arabic.
REASONS = {
    "account": ("You switched it off.", "أوقفته أنت."),
    "gone": (
        "It answered 410: it does not want to be told any more.",
        "أجاب الخادم بالحالة 410، أي إنه لم يعد يريد أن يُبلَّغ.",
    ),
    "failing": ("Nothing could be delivered to it for days.", "لم يُسلَّم إليه شيء منذ أيام."),
}


def text(words: dict[str, tuple[str, str]], name: str, language: str) -> str:
    """Return what is said of `name` in `language` ("ar"; anything else is English)."""
    english, arabic = words[name]
    return arabic if language == "ar" else english
