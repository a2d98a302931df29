"""`--check` and the walk through all ways of a plot: nothing is spoken of untold, and each known mistake is found."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

import pytest

kahani = pytest.importorskip("data.kahani", reason="the story generator stands in data/, beside the library")
pytest.importorskip("tomllib", reason="the story generator needs Python 3.11; the archives need no generator")

from data.kahani import check as checks  # noqa: E402
from data.kahani import engine  # noqa: E402
from data.kahani.__main__ import main  # noqa: E402
from data.kahani.frames import FrameError, read_plot  # noqa: E402
from data.kahani.unsaid import unsaid  # noqa: E402

# Mistakes that stories once had, as small plots: (language, plot, lines, the piece that must be named). They need none
# of today's lines: a rule of `checks.txt`, or the walk over the names, must find each of them.
ONCE = {
    "an animal never seen is spoken of": (
        "hi",
        "mountain_path",
        """
        जानवर = पहाड़ी जानवर
        == चढ़ाई
        रास्ते में {नायक ने} गाने गाए।
        एक {जानवर} {दिखा:जानवर}।
        == अंत
        रात को सबने {जानवर की} बातें कीं।
        """,
        "{जानवर की} बातें",
    ),
    "a cap is seen from far that was never hung up": (
        "hi",
        "mountain_path",
        """
        चीज़ = रास्ते की चीज़
        रंग = रंग
        == उपाय
        {नायक ने} {रंग:चीज़} {चीज़} ऊँची टहनी पर {टाँग दिया:चीज़}।
        {नायक के} पास एक {रंग:चीज़} {चीज़} {था:चीज़}।
        == मिलना
        {घरवाला ने} कहा, “मुझे दूर से {रंग:चीज़} {चीज़} {दिखा था:चीज़}।”
        """,
        "मुझे दूर से",
    ),
    "the bus is never freed": (
        "hi",
        "school_bus",
        """
        == निकलना
        {नायक ने} धक्का लगाया।
        == चलना
        [आख़िर] बस निकल आई।
        अगले दिन {अध्यापक ने} {नायक की} तारीफ़ की।
        """,
        "तारीफ़ की",
    ),
    "a quilt rides on the school bus": (
        "hi",
        "school_bus",
        """
        सामान = ढकने वाला
        == सामान
        {नायक के} पास {सामान} {था:सामान}। बस निकल आई।
        """,
        "रज़ाई",
    ),
    "a prize without a result": (
        "hi",
        "painting",
        """
        इनाम = इनाम
        == अंत
        [आख़िर] {नायक को} {इनाम} {मिला:इनाम}।
        """,
        "{इनाम} {मिला:इनाम}",
    ),
    "the sun is painted brown": (
        "hi",
        "painting",
        """
        रंग = रंग
        == अदला
        {नायक ने} (आसमान|सूरज) {रंग~} रंग से रँग दिया।
        """,
        "भूरा",
    ),
    "carrots hang": (
        "hi",
        "garden",
        """
        सब्ज़ी = बोई जाने वाली
        == फल
        वहाँ {सब्ज़ी*} ({झूल रहा था:सब्ज़ी*}|{चमक रहा था:सब्ज़ी*})।
        """,
        "गाजर",
    ),
    "carrots grow up on the plant": (
        "hi",
        "garden",
        """
        सब्ज़ी = बोई जाने वाली
        रंग = रंग
        == फल
        [आख़िर] पौधे पर {रंग:सब्ज़ी*} {सब्ज़ी*} {लगा:सब्ज़ी*}।
        """,
        "मूली",
    ),
    "a crab wags its tail": (
        "hi",
        "sea_turtle",
        """
        जानवर = समुद्री जानवर
        == विदा
        {जानवर} (धीरे-धीरे|पूँछ हिलाकर) पानी की ओर {बढ़ा:जानवर}।
        """,
        "केकड़ा",
    ),
    "sweets lie in a trunk": (
        "hi",
        "festival_sweets",
        """
        डिब्बा = यात्री की चीज़
        == मिठाई
        मिठाई {डिब्बा में} थी।
        """,
        "संदूक",
    ),
    "a plant is there at once": (
        "hi",
        "festival_sweets",
        """
        फूल = फूल
        == बदला
        {साथी ने} {फूल का} एक पौधा {नायक को} दिया।
        """,
        "एक पौधा",
    ),
    "a bird sits on the tree that no one has told of": (
        "hi",
        "river_fable",
        """
        पेड़ = पेड़
        पहला = जंगली
        == आरंभ
        एक {पहला} {रहता था:पहला}।
        {पेड़ के} पेड़ के नीचे एक {पहला} {रहता था:पहला}।
        == सलाह
        {पेड़ पर} एक चिड़िया बैठी थी।
        """,
        "{पेड़ पर}",
    ),
    "an animal that has fled is given milk": (
        "hi",
        "dark_night",
        """
        जानवर = घर का जानवर
        == सच
        एक {जानवर} ({निकला:जानवर}|{भागा:जानवर})!
        == हँसी
        {घरवाला ने} {जानवर को} दूध दिया।
        """,
        "{जानवर को}",
    ),
    "a whistle that nobody bought": (
        "hi",
        "fair",
        """
        == अंत
        {नायक} देर तक (गीत {गाता रहा:नायक}|सीटी {बजाता रहा:नायक})।
        """,
        "सीटी",
    ),
    "a child of a Hindi city knows little Hindi": (
        "hi",
        "new_friend",
        """
        == अकेला
        {साथी} {अकेला:साथी} {था:साथी}। उसे (हिंदी कम आती थी|घर की याद आती थी)।
        """,
        "हिंदी कम आती थी",
    ),
    "a child runs beside the train": (
        "hi",
        "railway",
        """
        == दौड़
        {नायक} (तेज़ी से|गाड़ी के साथ-साथ) {दौड़ा:नायक}।
        """,
        "गाड़ी के साथ-साथ",
    ),
    "a friend is introduced who is known": (
        "hi",
        "kite_festival",
        """
        == आरंभ
        {नायक} और {साथी} छत पर थे।
        == बीच
        {उसका:साथी} दोस्त {साथी} {हँसा:साथी}।
        """,
        "{उसका:साथी}",
    ),
    "last Sunday, after long ago": (
        "hi",
        "lost_thing",
        """
        == आरंभ
        कुछ साल पहले {नायक} {शहर} में {रहता था:नायक}। पिछले {दिन} को {नायक} मेले में {गया:नायक}।
        """,
        "पिछले {दिन} को",
    ),
    "seeds of last month bear fruit after two months": (
        "hi",
        "garden",
        """
        == आरंभ
        (पिछले साल|पिछले महीने) की बात है। {नायक ने} बीज बोए।
        == फल
        दो महीने बाद {सब्ज़ी*} तैयार {था:सब्ज़ी*}।
        """,
        "दो महीने बाद",
    ),
    "a fence of thorns stands on a roof": (
        "hi",
        "garden",
        """
        == अंकुर
        {कामवाला ने} कहा, “(जाली|काँटों की बाड़) लगा दो।”
        """,
        "काँटों की बाड़",
    ),
    "a peacock claps its hands": (
        "hi",
        "river_fable",
        """
        == वादा
        {दूसरा ने} (हँसकर|ताली बजाकर) कहा, “तुम बहुत {भले/भली:पहला} हो।”
        """,
        "ताली बजाकर",
    ),
    "a ladder bends a branch": (
        "hi",
        "kite_festival",
        """
        == मदद
        {कामवाला ने} (लंबे बाँस|लंबी सीढ़ी) से पेड़ की डाल झुकाकर पतंग निकाल दी।
        """,
        "लंबी सीढ़ी",
    ),
    "a hot wind blows in July": (
        "hi",
        "village_well",
        """
        महीना = महीना
        == आरंभ
        {महीना} का महीना था और गरम हवा चल रही थी।
        """,
        "जुलाई",
    ),
    "dug roots are green": (
        "hi",
        "village_well",
        """
        == सलाह
        {घरवाला} {बोला:घरवाला}, “पेड़ की जड़ें पानी के बिना हरी नहीं रहतीं।”
        """,
        "जड़ें",
    ),
    "since then he used to tell": (
        "hi",
        "king_and_riddle",
        """
        == अंत
        तब से {नायक} हर हफ़्ते राजा को एक पहेली {सुनाता था:नायक}।
        """,
        "सुनाता था",
    ),
    "a tabla plays a tune": (
        "hi",
        "wedding_feast",
        """
        बाजा = बाजा
        == सजावट
        बच्चे {बाजा की} धुन पर नाच रहे थे।
        """,
        "तबला",
    ),
    "a temple bell comes with a lantern": (
        "hi",
        "mountain_path",
        """
        == आवाज़
        {आवाज़ की} आवाज़ के साथ एक मशाल पास आई।
        """,
        "के साथ",
    ),
    "colours are brought, whatever the festival": (
        "hi",
        "festival_sweets",
        """
        == बदला
        {साथी के} पिताजी सबके लिए (रंग|गुब्बारे) लाए।
        """,
        "सबके लिए",
    ),
    "a child comes from school with a quilt": (
        "hi",
        "hungry_animal",
        """
        सामान = ढकने वाला
        == ढकना
        {नायक ने} {जानवर को} {सामान में} लपेटकर उठा लिया।
        """,
        "रज़ाई",
    ),
    "an honest friend wants to keep the money": (
        "hi",
        "chai_stall",
        """
        साथी-स्वभाव = स्वभाव
        == लालच
        {नायक का:साथी} {साथी-स्वभाव:साथी} दोस्त {साथी} {बोला:साथी}, “हम बाँट लेंगे।”
        """,
        "ईमानदार",
    ),
    "an animal claps, in English": (
        "en",
        "river_fable",
        """
        == promise
        {The friend} said (happily|, clapping), “I will help you too.”
        """,
        "clapping",
    ),
    "a well is dry in a hot January": (
        "en",
        "village_well",
        """
        month = month
        == beginning
        It was a dry {month}.
        """,
        "January",
    ),
    "a plant is there at once, in English": (
        "en",
        "festival_sweets",
        """
        == return
        {friend} gave {hero} {a flower} plant.
        """,
        "{a flower} plant",
    ),
    "the animal again, in English": (
        "en",
        "mountain_path",
        """
        animal = hill animal
        == climb
        They sang.
        They saw {a animal}.
        == ending
        {hero} drew {a animal}.
        """,
        "drew {a animal}",
    ),
    "the bus again, in English": (
        "en",
        "school_bus",
        """
        == push
        They pushed the bus.
        == moving
        [AtLast] the bus came out.
        The next day, {teacher} praised {hero}.
        """,
        "praised {hero}",
    ),
    "a friend is named before she is introduced": (
        "en",
        "fair",
        """
        == beginning
        {hero} went to the fair.
        {hero} and {friend} went to the fair.
        == shops
        {His:hero} {friend_nature} friend {friend} said, “Look!”
        """,
        "friend {friend}",
    ),
    "the sun again, in English": (
        "en",
        "painting",
        """
        colour = colour
        == exchange
        {hero} coloured the (sky|sun) {colour}.
        """,
        "brown",
    ),
}


def planted(code, name, lines, folder):
    """A plot of this name, with the names that the real one has."""
    path = folder / f"{name}.txt"
    path.write_text(textwrap.dedent(lines), encoding="utf-8")
    language = kahani.load_language(code)
    plot = read_plot(path)
    plot.sources = language.plots[name].sources | plot.sources
    return language, plot


@pytest.mark.parametrize("case", ONCE)
def test_what_was_wrong_once_is_found(case, tmp_path):
    """With file, line and words; whatever today's lines are."""
    code, name, lines, piece = ONCE[case]
    language, plot = planted(code, name, lines, tmp_path)
    found = unsaid(language, [plot])
    assert any(piece in one and one.startswith(f"{name}.txt:") for one in found), found


@pytest.mark.parametrize("code", kahani.languages())
def test_no_fault_is_left(code):
    """Slots, names, blocks, tasks, same texts, two spellings, and nothing untold."""
    assert checks.check(code) == []


def test_a_way_is_named_and_a_told_thing_is_no_fault(tmp_path):
    """The message names a way without it. A rule is kept if the piece is said before in the same line, or in a block
    that is called; and broken if only one way through round brackets says it."""
    language, plot = planted(
        "hi",
        "school_bus",
        """
        == निकलना
        {नायक ने} धक्का लगाया।
        [निकली]
        ++ निकली
        बस (चल पड़ी|न हिली)!
        बस निकल आई।
        == अंत
        सब हँसे।
        """,
        tmp_path,
    )
    (fault,) = unsaid(language, [plot])
    assert "school_bus.txt:9: a story may end without" in fault and "lines 3, 9" in fault
    for lines, faults in (
        ("== अ\nबस चल पड़ी!\nबस निकल आई।", 0),
        ("== अ\n[निकली]\n++ निकली\nबस चल पड़ी!\nबस निकल आई।", 0),
        ("== अ\nबस (चल पड़ी|न हिली)!", 1),
        ("== अ\n[निकली]\n++ निकली\nबस चल पड़ी!\n-", 1),
    ):
        language, plot = planted("hi", "school_bus", lines, tmp_path)
        assert len(unsaid(language, [plot])) == faults, lines


@pytest.mark.parametrize(
    ("code", "lines", "pieces", "thing"),
    [
        ("hi", "चीज़ = सामान\n== अ\n{चीज़} (पास|थैले में) नहीं {है:चीज़}।\n{चीज़ को} ढूँढ़ो।", ["… में"], "थैला"),
        ("hi", "चीज़ = समुद्र की चीज़\n== अ\nपत्थरों के बीच {चीज़} {दिखा:चीज़}।", ["… के बीच"], "पत्थर"),
        ("hi", "चीज़ = सामान\n== अ\n{चीज़ में} फल थे। {चीज़} बाज़ार में {था:चीज़}।", ["… में"], None),
        ("en", "object = baggage\n== a\nThere lay the {object}, in an old basket.", ["in a …", "in an …"], "basket"),
        ("en", "object = breakable\n== a\nThere lay the {object} {found_at}.", ["among the …"], "flowerpot"),
        ("en", "object = breakable\n== a\nThere lay the {object} {found_at}.", ["under the …"], None),
    ],
)
def test_a_thing_is_not_inside_itself(code, lines, pieces, thing, tmp_path):
    """Neither in the line's own words, nor in those of another name, and in any form."""
    language, plot = planted(code, "lost_thing", lines, tmp_path)
    language.plots = {"lost_thing": plot}
    found = list(checks._inside(language, pieces))
    assert len(found) == bool(thing), found
    assert all(f"may be {thing}, inside itself" in one and one.startswith("lost_thing.txt:3:") for one in found), found


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """A copy of the Hindi folder to break: `broken(file, old, new)` writes it, and `main` reads it."""
    shutil.copytree(engine.HERE / "hi", tmp_path / "hi")
    (tmp_path / "pairs-hi.jsonl").touch()
    monkeypatch.setattr(engine, "HERE", tmp_path)

    def change(name: str, old: str, new: str) -> int:
        path = tmp_path / "hi" / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return text[: text.index(old)].count("\n") + 1  # the line

    return change


FAULTS = {  # name: (file, what stands there, what is written in its place, what must be named)
    "unknown name": ("plots/fair.txt", "== याद\n", "== याद\n{घोड़ा ने} कहा।\n", "{घोड़ा ने}"),
    "unknown form": ("plots/fair.txt", "== याद\n", "== याद\n{नायक.eats} कहा।\n", "{नायक.eats}"),
    "odd sign": ("plots/fair.txt", "== याद\n", "== याद\n{नायक @} कहा।\n", "{नायक @}"),
    "unknown block": ("plots/fair.txt", "== याद\n", "== याद\n[घोड़ा] कहा।\n", "++ घोड़ा"),
    "open bracket": ("plots/fair.txt", "== याद\n", "== याद\nएक (दो|तीन\n", "round bracket"),
    "same text": ("plots/fair.txt", "== याद\n", "== याद\nवह (गया|आया)।\nवह गया।\n", "same text"),
    "two spellings": (
        "plots/fair.txt", "== याद\n", "== याद\nवह ग़ुब्बारू और गुब्बारू देखने {गया:नायक}।\n", "spelt in another way",
    ),
    "unknown tag": ("shared.txt", "शहर (city) = शहर", "शहर (city) = घोड़ाशहर", "घोड़ाशहर"),
    "no sign of equality": ("shared.txt", "शहर (city) = शहर", "शहर (city) शहर", "expected `name"),
    "no TOML": ("lexicon.toml", '["शहर"]', '["शहर"', "lexicon.toml"),
    "a number for a table": ("lexicon.toml", '"जयपुर" = {}', '"जयपुर" = 7', "जयपुर"),
    "unknown name in a question": ("questions.txt", "== all\n", "== all\nwho = {घोड़ा}\n- कौन आया?\n", "{घोड़ा}"),
    "inside itself": (
        "plots/lost_thing.txt", "== दुख\n", "== दुख\nदेखा तो {चीज़} थैले में {था:चीज़}।\n", "inside itself",
    ),
    "no place for the thing": ("checks.txt", "== all\n", "inside: में\n\n== all\n", "needs one …"),
    "no rule": ("checks.txt", "== all\n", "== all\nयह क्या है\n", "checks.txt"),
}  # fmt: skip
TOGETHER = [  # what one look finds; each of the others keeps it from finding more
    ["unknown name", "unknown form", "odd sign", "unknown tag", "unknown name in a question"],
    ["same text", "two spellings", "inside itself"],
]
ALONE = [[name] for name in FAULTS if not any(name in names for names in TOGETHER)]


@pytest.mark.parametrize("names", [*TOGETHER, *ALONE], ids=", ".join)
def test_each_fault_is_one_sentence_with_its_place(names, broken, tmp_path, capsys):
    """Exit status 1, one line for the fault, which begins with file and line, and no traceback."""
    for name in names:
        broken(*FAULTS[name][:3])
    assert main(["--language", "hi", "--check"]) == 1
    told = capsys.readouterr()
    assert "Traceback" not in told.out + told.err
    for name in names:
        file, old, new, wanted = FAULTS[name]
        found = [one for one in told.out.splitlines() if wanted in one]
        assert found and found[0].startswith(Path(file).name), (name, found)
        if file != "lexicon.toml":
            text = (tmp_path / "hi" / file).read_text(encoding="utf-8")
            line = text[: text.index(new.removeprefix(old))].count("\n") + 1
            places = tuple(f"{Path(file).name}:{line + below}:" for below in range(3))
            assert found[0].startswith(places), found


def test_a_bad_slot_has_its_place_while_telling_too(broken, capsys):
    """Also without --check, as soon as the line is drawn: file and line, in one sentence."""
    text = (engine.HERE / "hi" / "shared.txt").read_text(encoding="utf-8")
    block = text[text.index("++ तभी") :].splitlines()[1]
    line = broken("shared.txt", f"++ तभी\n{block}\n", f"++ तभी\n{block} {{नायक.eats}}\n")
    with pytest.raises(FrameError, match=rf"shared\.txt:{line + 1}: the slot \{{नायक\.eats\}}"):
        language = kahani.load_language("hi")
        for seed in range(300):
            language.tell(seed)
    assert main(["--language", "hi", "--show", "300"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"data.kahani: shared.txt:{line + 1}:") and told.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "gone", "wanted"),
    [
        ("questions", "questions.txt", "hi/questions.txt is missing"),
        ("pairs", "pairs.txt", "hi/pairs.txt is missing"),
        ("chat", "chats.txt", "chats.txt is missing"),
        ("stories", "shared.txt", "hi/shared.txt is missing"),
    ],
)
def test_a_missing_file_is_told_in_one_sentence(make, gone, wanted, broken, tmp_path, capsys):
    (tmp_path / "hi" / gone).unlink()
    assert main(["--language", "hi", "--make", make, "--output", str(tmp_path / "made")]) == 2
    told = capsys.readouterr().err
    assert wanted in told and "Errno" not in told and told.count("\n") == 1
    assert not (tmp_path / "made").exists()
