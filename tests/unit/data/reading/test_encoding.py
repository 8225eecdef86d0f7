"""The encoding of a text file is detected from its bytes."""

from __future__ import annotations

import pytest

from mlops_kit.data.reading.encoding import detect_encoding

TEXTS = {
    "German": "id;ort\n1;Nürnberg\n2;Köln\n3;Größe, Straße\n",
    "French": "é;où\nà la carte;garçon\n",
    "symbols": "price\n5 €\n“quoted” – 20°\n",
    "Polish": "miasto\nłódź\nGdańsk\nKraków\nWrocław\nPoznań\nŚwinoujście\n",
    "Russian": "город;x\nМосква;1\nСанкт-Петербург;2\nНовосибирск;3\n",
    "Greek": "πόλη\nΑθήνα\nΘεσσαλονίκη\nΠάτρα\n",
    "Japanese": "都市,x\n東京,1\n大阪市,2\n名古屋,3\n",
    "Chinese": "城市,x\n北京市,1\n上海市,2\n广州,3\n",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("language", TEXTS)
def test_unicode_is_recognized(language: str, encoding: str) -> None:
    data = TEXTS[language].encode(encoding)
    assert data.decode(detect_encoding(data, True)) == TEXTS[language]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark_is_recognized(encoding: str) -> None:
    data = TEXTS["German"].encode(encoding)
    assert detect_encoding(data, True) == encoding


@pytest.mark.parametrize(
    ("language", "encoding"),
    [
        ("German", "cp1252"),
        ("German", "latin-1"),
        ("French", "cp1252"),
        ("symbols", "cp1252"),
        ("Polish", "cp1250"),
        ("Russian", "cp1251"),
        ("Russian", "koi8-r"),
        ("Greek", "cp1253"),
        ("Japanese", "shift_jis"),
        ("Chinese", "gb18030"),
    ],
)
def test_other_encodings_are_guessed(language: str, encoding: str) -> None:
    data = TEXTS[language].encode(encoding)
    assert data.decode(detect_encoding(data, True)) == TEXTS[language]


def test_character_cut_off_at_the_end_of_a_sample_is_no_error() -> None:
    sample = "naïve ü".encode()[:-1]
    assert detect_encoding(sample, is_complete=False) == "utf-8"
