"""Names of months and weekdays in common languages, in full and abbreviated.

They are those of the Unicode CLDR for Czech, Danish, Dutch, English, Finnish, French, German,
Hungarian, Italian, Norwegian, Polish, Portuguese, Romanian, Russian, Spanish, Swedish and Turkish,
as Babel has them; a test compares them. No name means two months or two weekdays, so the language
of a column need not be known. Names of two letters are left out.
"""

from __future__ import annotations

from functools import cache

_MONTHS = (
    "january jan ledna leden led januar enero ene tammikuuta tammikuu tammi janvier janv "
    "január gennaio gen januari stycznia styczeń sty janeiro ianuarie ian января январь "
    "янв ocak oca",
    "february feb února únor úno februar febrero helmikuuta helmikuu helmi février févr "
    "február febr febbraio februari lutego luty lut fevereiro fev februarie февраля "
    "февраль февр şubat şub",
    "march mar března březen bře marts märz mär marzo maaliskuuta maaliskuu maalis mars "
    "március márc maart mrt marca marzec março martie марта март мар mart",
    "april apr dubna duben dub abril abr huhtikuuta huhtikuu huhti avril avr április ápr "
    "aprile kwietnia kwiecień kwi aprilie апреля апрель апр nisan nis",
    "may května květen kvě maj mai mayo toukokuuta toukokuu touko május máj maggio mag "
    "mei maja maio мая май mayıs",
    "june jun června červen čvn juni junio kesäkuuta kesäkuu kesä juin június jún giugno "
    "giu czerwca czerwiec cze junho iunie iun июня июнь июн haziran haz",
    "july jul července červenec čvc juli julio heinäkuuta heinäkuu heinä juillet juil "
    "július júl luglio lug lipca lipiec lip julho iulie iul июля июль июл temmuz tem",
    "august aug srpna srpen srp agosto ago elokuuta elokuu elo août augusztus augustus "
    "sierpnia sierpień sie августа август авг augusti ağustos ağu",
    "september sep sept září zář septiembre syyskuuta syyskuu syys septembre szeptember "
    "szept settembre set września wrzesień wrz setembro septembrie сентября сентябрь сент "
    "eylül eyl",
    "october oct října říjen říj oktober okt octubre lokakuuta lokakuu loka octobre "
    "október ottobre ott października październik paź outubro out octombrie октября "
    "октябрь окт ekim eki",
    "november nov listopadu listopad lis noviembre marraskuuta marraskuu marras novembre "
    "listopada novembro noiembrie ноября ноябрь нояб kasım kas",
    "december dec prosince prosinec pro dezember dez diciembre dic joulukuuta joulukuu "
    "joulu décembre déc dicembre desember des grudnia grudzień gru dezembro decembrie "
    "декабря декабрь дек aralık ara",
)
_WEEKDAYS = (
    "monday mon pondělí mandag man montag lunes lun maanantaina maanantai lundi hétfő "
    "lunedì maandag poniedziałek pon seg luni понедельник пн måndag mån pazartesi pzt",
    "tuesday tue tues úterý út tirsdag tirs dienstag martes mar tiistaina tiistai mardi "
    "kedd martedì tir dinsdag wtorek ter marți вторник вт tisdag tis salı sal",
    "wednesday wed středa onsdag ons mittwoch miércoles mié keskiviikkona keskiviikko "
    "mercredi mer szerda sze mercoledì woensdag środa śr qua miercuri mie среда ср "
    "çarşamba çar",
    "thursday thu thur thurs čtvrtek čt torsdag tors donnerstag jueves jue torstaina "
    "torstai jeudi jeu csütörtök giovedì gio tor donderdag czwartek czw qui joi четверг "
    "чт perşembe per",
    "friday fri pátek pá fredag fre freitag viernes vie perjantaina perjantai vendredi "
    "ven péntek venerdì vrijdag piątek sex vineri vin пятница пт cuma cum",
    "saturday sat sobota lørdag lør samstag sábado sáb lauantaina lauantai samedi sam "
    "szombat szo sabato sab zaterdag sob sâmbătă sâm суббота сб lördag lör cumartesi cmt",
    "sunday sun neděle søndag søn sonntag domingo dom sunnuntai dimanche dim vasárnap "
    "domenica zondag niedziela niedz duminică dum воскресенье вс söndag sön pazar paz",
)


@cache
def list_month_spellings() -> dict[int, list[tuple[bytes, int]]]:
    """Return the UTF-8 of each spelling with the number of its month (from 1), by length.

    ASCII letters are in lower case; other letters are in both cases.
    """
    return _group_spellings(_MONTHS)


@cache
def list_weekday_spellings() -> dict[int, list[tuple[bytes, int]]]:
    """Return the UTF-8 of each spelling with the number of its weekday (Monday is 1), by length.

    ASCII letters are in lower case; other letters are in both cases.
    """
    return _group_spellings(_WEEKDAYS)


def _group_spellings(names: tuple[str, ...]) -> dict[int, list[tuple[bytes, int]]]:
    """Group the spellings of names by the number of their bytes."""
    groups: dict[int, list[tuple[bytes, int]]] = {}
    for number, words in enumerate(names, start=1):
        for word in words.split():
            for variant in {word, word.upper(), word.capitalize()}:
                spelling = variant.encode().lower()  # of bytes: ASCII letters only
                known = groups.setdefault(len(spelling), [])
                if (spelling, number) not in known:
                    known.append((spelling, number))
    return groups
