"""What in a file could act on whoever opens it, and what that is called in both languages."""

from typing import Final, Literal

from workers.scan.refusals import ActiveContent

type Active = Literal[
    "javascript", "launch", "embedded_file", "rich_media", "form_program", "macro", "embedding", "external"
]

_CALLED: Final[dict[Active, tuple[str, str]]] = {
    "javascript": ("JavaScript", "شيفرة JavaScript"),
    "launch": ("an action that starts a program", "أمر يشغّل برنامجًا"),
    "embedded_file": ("an embedded file", "ملف مضمّن"),
    "rich_media": ("embedded media", "وسائط مضمّنة"),
    "form_program": ("a form with a program (XFA)", "نموذج برمجي (XFA)"),
    "macro": ("a macro", "وحدة ماكرو"),
    "embedding": ("an embedded object (OLE or ActiveX)", "كائن مضمّن (OLE أو ActiveX)"),
    "external": ("a reference to another file or address", "إشارة إلى ملف أو عنوان آخر"),
}


def refusal(what: Active) -> ActiveContent:
    """Return the error that says so."""
    english, arabic = _CALLED[what]
    return ActiveContent(what=what, what_en=english, what_ar=arabic)
