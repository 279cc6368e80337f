"""Octets of a named character set to text, whatever name and octets a message brings.

Only charsets of the list below are decoded: a label is looked up in a dictionary and never handed to the
codec registry, which would search the disk for each unknown name and knows codecs that are no charset
(base64, zlib) or are quadratic (punycode). What cannot be decoded becomes U+FFFD; nothing raises.
"""

from __future__ import annotations

from encodings.aliases import aliases

_CODECS = frozenset(
    [
        *("ascii", "utf_7", "utf_8", "utf_8_sig", "utf_16", "utf_16_be", "utf_16_le"),
        *("utf_32", "utf_32_be", "utf_32_le", "latin_1"),
        *(f"iso8859_{part}" for part in range(1, 17) if part != 12),
        *(f"cp{page}" for page in range(1250, 1259)),
        *(
            f"cp{page}"
            for page in (437, 737, 775, 850, 852, 855, 857, 858, 860, 861, 862, 863, 865, 866, 869)
        ),
        # EBCDIC: nobody writes it, but iconv reads it, and with that many mail programs do.
        *("cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"),
        *(
            "cp720",
            "cp856",
            "cp864",
            "cp1006",
            "cp1125",
            "mac_arabic",
            "mac_croatian",
            "mac_farsi",
            "mac_romanian",
        ),
        *("cp874", "cp932", "cp949", "cp950", "koi8_r", "koi8_t", "koi8_u", "kz1048", "ptcp154", "tis_620"),
        *("mac_roman", "mac_cyrillic", "mac_greek", "mac_latin2", "mac_iceland", "mac_turkish", "hp_roman8"),
        *("big5", "big5hkscs", "gb2312", "gbk", "gb18030", "hz", "johab"),
        *("euc_jp", "euc_jis_2004", "euc_jisx0213", "euc_kr"),
        *("shift_jis", "shift_jis_2004", "shift_jisx0213", "iso2022_kr", "iso2022_jp"),
        *("iso2022_jp_1", "iso2022_jp_2", "iso2022_jp_2004", "iso2022_jp_3", "iso2022_jp_ext"),
    ]
)

# What web browsers and mail programs read under a narrower label: the superset that senders really use.
_SUPERSETS = {
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso2022_jp": "iso2022_jp_ext",
}

_MORE_LABELS = {
    "x_sjis": "cp932",
    "windows_31j": "cp932",
    "x_gbk": "gb18030",
    "x_euc_jp": "euc_jp",
    "unicode_1_1_utf_8": "utf_8",
    "unicode_1_1_utf_7": "utf_7",
    "ansi_x3_110_1983": "cp1252",
    "x_mac_roman": "mac_roman",
    "x_mac_cyrillic": "mac_cyrillic",
    "windows_874": "cp874",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "ks_c_5601_1987": "cp949",
    "ks_c_5601": "cp949",
    "cp_850": "cp850",
    "utf8mb4": "utf_8",
}


def _labels() -> dict[str, str]:
    table = {name: name for name in _CODECS}
    table.update((alias, codec) for alias, codec in aliases.items() if codec in _CODECS)
    table.update((label.replace("_", ""), codec) for label, codec in list(table.items()))
    table = {label: _SUPERSETS.get(codec, codec) for label, codec in table.items()}
    table.update(_MORE_LABELS)
    return table


_BY_LABEL = _labels()
_NORMAL = str.maketrans("-.: ", "____")


def codec_name(label: str) -> str | None:
    """The Python codec of a charset label as messages write it (any case, "-" or "_"), None if unknown."""
    key = label.strip().lower().translate(_NORMAL)
    return _BY_LABEL.get(key) or _BY_LABEL.get(key.replace("_", ""))


def decode_charset(octets: bytes, label: str) -> str | None:
    """`octets` as text of the charset `label`, errors as U+FFFD; None when the charset is not known.

    Octets over 127 under the label US-ASCII are read as `decode_unlabelled` does.
    """
    codec = codec_name(label)
    if codec is None:
        return None
    if codec == "ascii":
        return decode_unlabelled(octets)
    text = octets.decode(codec, "replace")
    if codec == "utf_7" and not text.isascii():
        # The codec lets half of a surrogate pair through, which could not be encoded again: in a folder's
        # name, in a key of a table.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def decode_unlabelled(octets: bytes) -> str:
    """Text of no declared charset: UTF-8 (RFC 6532) if it is, else Windows-1252, errors as U+FFFD."""
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")
