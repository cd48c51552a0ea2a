"""What a file likely is that is no CSV file in UTF-8, and the command that converts it."""

import codecs
import shlex
from itertools import pairwise
from pathlib import Path

CONVERT = "import duckdb, sys; duckdb.read_json(sys.argv[1]).write_parquet(sys.argv[2])"
TO_PARQUET = f'python -c "{CONVERT}" {{0}} {{1}}.parquet` makes Parquet of it'
OTHERS = {  # what to do with a file by its ending; {0} is its name, and {1} the name without the ending
    ".gz": "gunzip --keep {0}` unpacks it",
    ".bz2": "bunzip2 --keep {0}` unpacks it",
    ".xz": "unxz --keep {0}` unpacks it",
    ".zst": "unzstd {0}` unpacks it",
    ".zip": "unzip {0}` unpacks it",
    ".tsv": "mv {0} {1}.csv` gives it the ending, and tabs are understood",
    ".txt": "mv {0} {1}.csv` gives it the ending, if its lines have commas, semicolons, tabs or bars",
    ".json": TO_PARQUET,
    ".jsonl": TO_PARQUET,
    ".ndjson": TO_PARQUET,
}
COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # how such files begin
WORKBOOKS = (".xls", ".xlsx", ".xlsm", ".ods")
BYTES = 1 << 20  # of a file, from its first byte beyond ASCII on, whose encoding is guessed
MARKS = {  # longer ones first, because UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
WESTERN = {"WINDOWS-1252": "cp1252", "ISO-8859-1": "latin-1", "MACINTOSH": "mac_roman", "CP850": "cp850"}
COMMON = frozenset("àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßœšžÄÖÜÉ€£°\u2013\u2019\u201c\u201d")


def likely_encoding(path: Path) -> str | None:
    r"""Return the name of a file's likely encoding, as iconv spells it, or None where it is UTF-8 or unknown.

    A mark at its begin or zero bytes tell UTF-16. Else the encoding counts that gives the most letters of Western
    languages. Where most bytes beyond ASCII are neighbours, as in Cyrillic or Chinese, it is unknown.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write("id,city\na,Orléans\n".encode("cp1252"))
    ...     file.flush()
    ...     likely_encoding(Path(file.name))
    'WINDOWS-1252'
    """
    with path.open("rb") as file:
        first = file.read(4096)
        for mark, name in MARKS.items():
            if first.startswith(mark):
                return name
        if first.count(0) > len(first) // 4:
            return "UTF-16LE" if first[1::2].count(0) > first[::2].count(0) else "UTF-16BE"
        sample = b"".join(_beyond_ascii(first, path))
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return _western(sample)
    return None


def conversion(path: Path) -> str:
    """Return what to do with a file that is not UTF-8: the likely encoding, and the command that converts it."""
    name = likely_encoding(path)
    said = f"it is likely {name}" if name else "ask who wrote it for its ENCODING"
    target = path.with_suffix(f".utf8{path.suffix}")
    command = f"iconv -f {name or 'ENCODING'} -t utf-8 {shlex.quote(str(path))} > {shlex.quote(str(target))}"
    return f"{said}: `{command}` converts it; name the new file instead"


def one_line_end(source: str | Path, squeezed: str = "") -> str:
    """Return the command that ends each line with LF; `squeezed`, it makes one of several ends in a row."""
    old, new = (shlex.quote(str(one)) for one in (source, Path(source).with_suffix(".lines.csv")))
    return f"`tr {squeezed}'\\r' '\\n' < {old} > {new}` converts it"


def other_kind(path: Path, ending: str | None = None) -> str:
    """Return a sentence with what to do with a file of another kind, by its ending, or nothing; it begins with a blank.

    Examples
    --------
    >>> other_kind(Path("data/customers.csv.gz")), other_kind(Path("customers.orc"))
    (' `gunzip --keep data/customers.csv.gz` unpacks it.', '')
    """
    ending = ending or path.suffix.lower()
    if ending in WORKBOOKS:
        return " Save the sheet as `CSV UTF-8` in the program for it."
    plain = OTHERS.get(ending, "").format(shlex.quote(str(path)), shlex.quote(str(path.with_suffix(""))))
    return f" `{plain}." if plain else ""


def _beyond_ascii(first: bytes, path: Path) -> list[bytes]:
    """Return the bytes of a file from its first line that is not UTF-8 on, at most BYTES of them."""
    if not _is_utf8(first):
        with path.open("rb") as file:
            return [file.read(BYTES)]
    with path.open("rb") as file:
        for line in file:
            if not _is_utf8(line):
                return [line, file.read(BYTES)]
    return []


def _is_utf8(text: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text)  # a character that is cut at the end is none yet
    except UnicodeDecodeError:
        return False
    return True


def _western(sample: bytes) -> str | None:
    beyond = [number for number, byte in enumerate(sample) if byte > 127]
    if sum(after - before == 1 for before, after in pairwise(beyond)) > len(beyond) / 2:
        return None
    scores = {}
    for name, codec in WESTERN.items():
        try:
            text = sample.decode(codec)
        except UnicodeDecodeError:
            continue
        scores[name] = sum(text.count(letter) for letter in COMMON)
    return max(scores, key=lambda name: scores[name])
