"""Values as an APEL text record may hold them: ASCII, one line, at most 255 characters, never a separator of records."""

import re
import unicodedata

MAX_TEXT = 255
SEPARATOR = "%%"
_NOT_PRINTABLE = re.compile(r"[^\x20-\x7e]+")
_PERCENTS = re.compile(r"%{2,}")
_CLEAN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_NULLS = {"null", "none"}


def sanitised(text: str) -> str:
    """Return *text* fit for a record: accents go, other foreign characters become ``?``, control characters a space.

    Of a value that users choose (a machine's name) something readable is enough; it must not be able to end its line.
    """
    if text.isascii() and text.isprintable() and SEPARATOR not in text:  # nearly always
        return text.strip()[:MAX_TEXT].strip()
    plain = unicodedata.normalize("NFKD", text)
    spaced = "".join(" " if unicodedata.category(char) in ("Cc", "Zl", "Zp", "Zs") else char for char in plain)
    ascii_only = "".join(char for char in spaced if not unicodedata.combining(char))
    return _PERCENTS.sub("%", _NOT_PRINTABLE.sub("?", ascii_only)).strip()[:MAX_TEXT].strip()


def is_clean(text: str) -> bool:
    """Whether *text* would arrive as it is: for values that must not change, since usage is booked by them."""
    return bool(_CLEAN.fullmatch(text)) and SEPARATOR not in text and text.lower() not in _NULLS
