from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from palletfit.config import DownloadSettings
from palletfit.errors import ArchiveError, ConfigError
from palletfit.pallet.archive import NESTING, matching, unpack

from ...disks import small_file_system

PALLETS = Path(__file__).parents[4] / "shared" / "pallets"
SETTINGS = DownloadSettings(max_unpacked_bytes=1_000_000, max_members=20)
BACKGROUND = b'{"channels": []}'
PATCHSET = os.urandom(3000)  # incompressible, so that cutting an archive cuts it
FILES = {"BkgOnly.json": BACKGROUND, "README.md": b"read", "patchset.json": PATCHSET}
WANTED = ["BkgOnly.json", "patchset.json"]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def tar_entry(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    for key, value in fields.items():
        setattr(entry, key, value)
    return entry


def make_tar(
    files: dict[str, bytes],
    *extra: tarfile.TarInfo,
    tar_format: int = tarfile.PAX_FORMAT,
) -> bytes:
    """A tar archive; members in `extra` have zeros as content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as tar:
        for name, content in files.items():
            tar.addfile(tar_entry(name, len(content)), io.BytesIO(content))
        for entry in extra:
            tar.addfile(entry, io.BytesIO(bytes(entry.size)))
    return buffer.getvalue()


def before_the_end(tar: bytes) -> bytes:
    """A tar archive without the zeros that end it."""
    content = tar.rstrip(b"\0")
    return content + bytes(-len(content) % tarfile.BLOCKSIZE)


def make_zip(
    files: dict[str, bytes],
    *extra: tuple[zipfile.ZipInfo, bytes],
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
        for entry, content in extra:
            opened.writestr(entry, content)
    return buffer.getvalue()


FORMATS = {
    "tar": make_tar,
    "tar.gz": lambda files: gzip.compress(make_tar(files)),
    "tar.bz2": lambda files: bz2.compress(make_tar(files)),
    "tar.xz": lambda files: lzma.compress(make_tar(files)),
    "zip": make_zip,
    "stored zip": lambda files: make_zip(files, compression=zipfile.ZIP_STORED),
    "gnu tar": lambda files: make_tar(files, tar_format=tarfile.GNU_FORMAT),
    "ustar": lambda files: make_tar(files, tar_format=tarfile.USTAR_FORMAT),
}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return tmp_path / "archive"  # the name says nothing


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def refused(
    archive: Path,
    out: Path,
    content: bytes,
    *,
    members: list[str] = WANTED,
    settings: DownloadSettings = SETTINGS,
    pins: dict[str, str] | None = None,
) -> ArchiveError:
    """The error of unpacking `content`, which writes nothing."""
    archive.write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        unpack(archive, members, out, settings, sha256=pins or {})
    assert caught.value.file == str(archive)
    assert caught.value.remedy
    assert not out.exists() or list(out.iterdir()) == []
    return caught.value


# --- what succeeds


@pytest.mark.parametrize("name", FORMATS)
def test_formats(archive, out, name):
    archive.write_bytes(FORMATS[name](FILES))
    pins = {member: sha256(FILES[member]) for member in WANTED}
    unpacked = unpack(archive, WANTED, out, SETTINGS, sha256=pins)
    assert unpacked == {member: out / member for member in WANTED}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        member: FILES[member] for member in WANTED
    }


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_regions_in_folders(archive, out, make):
    archive.write_bytes(make({"RegionA/BkgOnly.json": b"A", "RegionB/BkgOnly.json": b"B"}))
    unpacked = unpack(archive, ["RegionB/BkgOnly.json"], out, SETTINGS, sha256={})
    assert unpacked["RegionB/BkgOnly.json"] == out / "RegionB" / "BkgOnly.json"
    assert unpacked["RegionB/BkgOnly.json"].read_bytes() == b"B"
    assert not (out / "RegionA").exists()


@pytest.mark.parametrize("make", [make_tar, make_zip])
@pytest.mark.parametrize("top", ["./", "likelihoods/", "./likelihoods/"])
def test_leading_dot_and_single_folder(archive, out, make, top):
    archive.write_bytes(make({top + name: content for name, content in FILES.items()}))
    pins = {"BkgOnly.json": sha256(BACKGROUND)}
    unpacked = unpack(archive, WANTED, out, SETTINGS, sha256=pins)
    assert unpacked["BkgOnly.json"] == out / "BkgOnly.json"
    assert unpacked["BkgOnly.json"].read_bytes() == BACKGROUND
    pins = {"BkgOnly.json": sha256(b"other")}
    with pytest.raises(ArchiveError, match="another digest"):
        unpack(archive, WANTED, out, SETTINGS, sha256=pins)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_junk_of_macos_is_ignored(archive, out, make):
    junk = {"__MACOSX/x/._BkgOnly.json": b"junk", "x/._BkgOnly.json": b"junk", ".DS_Store": b""}
    archive.write_bytes(make({**junk, **{f"x/{name}": body for name, body in FILES.items()}}))
    unpacked = unpack(archive, WANTED, out, SETTINGS, sha256={})
    assert unpacked["BkgOnly.json"].read_bytes() == BACKGROUND


def test_folders_are_no_problem(archive, out):
    folder = tar_entry("./", type=tarfile.DIRTYPE)
    archive.write_bytes(make_tar(FILES, folder))
    assert unpack(archive, WANTED, out, SETTINGS, sha256={})


def test_previous_files_are_replaced(archive, out):
    out.mkdir()
    (out / "BkgOnly.json").write_bytes(b"previous")
    archive.write_bytes(make_tar(FILES))
    unpack(archive, WANTED, out, SETTINGS, sha256={})
    assert (out / "BkgOnly.json").read_bytes() == BACKGROUND


# --- files that are missing, changed or asked for wrongly


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_missing_file(archive, out, make):
    error = refused(archive, out, make(FILES), members=["bkgonly.json"])
    assert "no file 'bkgonly.json'" in error.problem
    assert "Did you mean 'BkgOnly.json'?" in error.remedy
    assert "'README.md', 'patchset.json'" in error.remedy


def test_missing_file_among_many(archive, out):
    files = {f"patch.{number:02}.json": b"" for number in range(30)}
    roomy = SETTINGS.model_copy(update={"max_members": 30})
    error = refused(archive, out, make_tar(files), settings=roomy)
    assert "'patch.19.json' and 10 more" in error.remedy
    assert "patch.20" not in error.remedy


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_wrong_digest_writes_nothing(archive, out, make):
    # The file whose digest is right comes first, and must not be there either.
    pins = {"BkgOnly.json": sha256(BACKGROUND), "patchset.json": sha256(b"other")}
    error = refused(archive, out, make(FILES), pins=pins)
    assert "'patchset.json'" in error.problem
    assert sha256(b"other") in error.problem
    assert sha256(PATCHSET) in error.problem
    assert "version" in error.remedy


def test_pin_of_another_file_is_not_verified(archive, out):
    archive.write_bytes(make_tar(FILES))
    assert unpack(archive, WANTED, out, SETTINGS, sha256={"README.md": sha256(b"other")})


def test_pin_of_a_file_that_is_not_there(archive, out):
    error = refused(archive, out, make_tar(FILES), pins={"BkgOnly.jsn": sha256(BACKGROUND)})
    assert "no file 'BkgOnly.jsn'" in error.problem


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "", ".", "C:/x", "a\\x"])
def test_wanted_name_that_leads_out(archive, out, name):
    archive.write_bytes(make_tar(FILES))
    with pytest.raises(ConfigError, match="inside an archive"):
        unpack(archive, [name], out, SETTINGS, sha256={})


# --- damaged archives


@pytest.mark.parametrize("name", FORMATS)
def test_truncated_archive(archive, out, name):
    content = FORMATS[name](FILES)
    # Beyond the padding of tar archives, which nobody misses.
    end = len(content.rstrip(b"\0"))
    for length in (1, 300, 600, end // 2, end - 40, end - 4):
        refused(archive, out, content[:length])


@pytest.mark.parametrize("name", ["tar.gz", "tar.bz2", "tar.xz", "zip", "stored zip"])
def test_damaged_content(archive, out, name):
    content = bytearray(FORMATS[name](FILES))
    content[len(content) // 2] ^= 0xFF
    refused(archive, out, bytes(content))


def test_damaged_later_header_of_a_tar(archive, out):
    content = bytearray(make_tar(FILES, tar_entry("more.json", 10)))
    position = content.index(b"more.json")
    content[position] ^= 0xFF
    # tarfile alone takes this for the end of the archive, and the wanted files came before.
    assert "bad header" in refused(archive, out, bytes(content)).problem


@pytest.mark.parametrize(
    "content",
    [b"", b"<!doctype html><html></html>", b"\0" * 10240, b'{"channels": []}' * 100],
    ids=["empty", "page", "zeros", "json"],
)
def test_no_archive(archive, out, content):
    assert "not a tar or zip archive" in refused(archive, out, content).problem


def test_compressed_file_that_is_no_archive(archive, out):
    assert "cannot be read" in refused(archive, out, gzip.compress(b"a text")).problem
    assert "one JSON file, and 2" in refused(archive, out, gzip.compress(BACKGROUND)).problem


def test_no_file(archive, out):
    with pytest.raises(ArchiveError, match="no such archive"):
        unpack(archive, WANTED, out, SETTINGS, sha256={})


def test_destination_that_cannot_be_written(archive, tmp_path):
    archive.write_bytes(make_tar(FILES))
    (tmp_path / "file").touch()
    with pytest.raises(ArchiveError, match="cannot be written"):
        unpack(archive, WANTED, tmp_path / "file" / "out", SETTINGS, sha256={})


# --- hostile members

NAMES = ["/etc/passwd", "../escape", "a/../../escape", "C:/escape", "c:escape", "a\\..\\escape"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pack", [lambda tar: tar, gzip.compress], ids=["tar", "tar.gz"])
def test_hostile_name_in_tar(archive, out, name, pack):
    error = refused(archive, out, pack(make_tar(FILES, tar_entry(name, 5))))
    assert repr(name) in error.problem
    assert "refused" in error.problem


@pytest.mark.parametrize("name", NAMES)
def test_hostile_name_in_zip(archive, out, name):
    error = refused(archive, out, make_zip(FILES, (zipfile.ZipInfo(name), b"x")))
    assert repr(name) in error.problem


def test_name_with_nul_in_zip(archive, out):
    content = make_zip({**FILES, "patchset.json+x": b""}).replace(b"json+x", b"json\0x")
    assert "NUL" in refused(archive, out, content).problem


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (tarfile.SYMTYPE, "is a link"),
        (tarfile.LNKTYPE, "is a link"),
        (tarfile.CHRTYPE, "neither a file nor a folder"),
        (tarfile.BLKTYPE, "neither a file nor a folder"),
        (tarfile.FIFOTYPE, "neither a file nor a folder"),
        (b"Z", "neither a file nor a folder"),
    ],
)
def test_special_member_in_tar(archive, out, kind, problem):
    hostile = tar_entry("special", type=kind, linkname="BkgOnly.json")
    assert problem in refused(archive, out, make_tar(FILES, hostile)).problem


def test_sparse_member_in_tar(archive, out):
    headers = {
        "GNU.sparse.size": str(10**15),
        "GNU.sparse.map": "0,1",
        "GNU.sparse.numblocks": "1",
    }
    sparse = tar_entry("sparse", 1, pax_headers=headers)
    assert "sparse" in refused(archive, out, make_tar(FILES, sparse)).problem


def test_negative_size_in_tar(archive, out):
    block = bytearray(tar_entry("negative", 0).tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512 as a number in base 256
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    content = before_the_end(make_tar(FILES)) + bytes(block) + bytes(1024)
    error = refused(archive, out, content)
    assert "negative" in error.problem or "bad header" in error.problem


@pytest.mark.parametrize(
    ("mode", "problem"),
    [
        (stat.S_IFLNK, "is a link"),
        (stat.S_IFIFO, "neither a file nor a folder"),
        (stat.S_IFCHR, "neither a file nor a folder"),
    ],
)
def test_special_member_in_zip(archive, out, mode, problem):
    entry = zipfile.ZipInfo("special")
    entry.create_system = 3
    entry.external_attr = (mode | 0o777) << 16
    assert problem in refused(archive, out, make_zip(FILES, (entry, b"BkgOnly.json"))).problem


def with_flag(content: bytes, flag: int) -> bytes:
    """Set a flag in each local header of a zip archive and each entry of its directory."""
    flagged = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        position = flagged.find(signature)
        while position >= 0:
            flagged[position + offset] |= flag
            position = flagged.find(signature, position + 1)
    return bytes(flagged)


def test_encrypted_zip(archive, out):
    error = refused(archive, out, with_flag(make_zip(FILES), 0x01))
    assert "its member 'BkgOnly.json' is encrypted" in error.problem


def test_unsupported_feature_of_zip(archive, out):
    patched_data = 0x20
    error = refused(archive, out, with_flag(make_zip(FILES), patched_data))
    assert "cannot be read" in error.problem


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_in_zip(archive, out, compression):
    content = make_zip(FILES, compression=compression)
    assert "other than deflate" in refused(archive, out, content).problem


@pytest.mark.parametrize("twin", ["BkgOnly.json", "./BkgOnly.json", ".//BkgOnly.json"])
def test_same_file_twice_in_tar(archive, out, twin):
    error = refused(archive, out, make_tar(FILES, tar_entry(twin, 5)))
    assert "2 files named 'BkgOnly.json'" in error.problem


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_same_file_twice_in_zip(archive, out):
    content = make_zip(FILES, (zipfile.ZipInfo("BkgOnly.json"), b"x"))
    assert "2 files named 'BkgOnly.json'" in refused(archive, out, content).problem


# --- bombs


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_too_many_members(archive, out, make):
    files = {**FILES, **{f"file{number}": b"" for number in range(20)}}
    error = refused(archive, out, make(files))
    assert "more than 20 members" in error.problem
    assert "download.max_members" in error.remedy


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_sum_of_sizes(archive, out, make):
    files = {**FILES, "one": bytes(600_000), "two": bytes(600_000)}
    error = refused(archive, out, make(files))
    assert "more than 1000000 bytes" in error.problem
    assert "download.max_unpacked_bytes" in error.remedy


def peak_memory(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_bytes_of_gzip(monkeypatch) -> list[int]:
    """Count what is really decompressed."""
    sizes = []
    original = gzip.GzipFile.read

    def read(self, size=-1):
        block = original(self, size)
        sizes.append(len(block))
        return block

    monkeypatch.setattr(gzip.GzipFile, "read", read)
    return sizes


def zeros_behind(content: bytes, megabytes: int = 60) -> bytes:
    """Compress something with many zeros behind it."""
    return gzip.compress(content + bytes(megabytes * 1_000_000), compresslevel=1)


@pytest.mark.parametrize(
    "start",
    [
        before_the_end(make_tar(FILES)) + tar_entry("bomb", 10**8).tobuf(),
        tar_entry("bomb", 10**8).tobuf(),
        tar_entry("header", 5 * 10**7, type=tarfile.XHDTYPE).tobuf(tarfile.GNU_FORMAT),
        tar_entry("header", 5 * 10**7, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT),
        make_tar(FILES),
    ],
    ids=["later member", "first member", "extended header", "long name", "padding"],
)
def test_tar_bomb_is_not_unpacked(archive, out, monkeypatch, start):
    content = zeros_behind(start)
    sizes = read_bytes_of_gzip(monkeypatch)
    peak = peak_memory(lambda: refused(archive, out, content))
    assert sum(sizes) < 1_300_000
    assert peak < 5_000_000


def with_dictionary(xz: bytes, code: int) -> bytes:
    """Change the size of the dictionary in the header of the first block of an xz file."""
    size = (xz[12] + 1) * 4
    header = bytearray(xz[12 : 12 + size - 4])
    assert header[2:4] == b"\x21\x01"  # the filter LZMA2, with one byte of properties
    header[4] = code
    checksum = zlib.crc32(header).to_bytes(4, "little")
    return xz[:12] + bytes(header) + checksum + xz[12 + size :]


@pytest.mark.parametrize("before", [b"", lzma.compress(make_tar(FILES)[:512])])
def test_an_xz_file_that_asks_for_4_gb(archive, out, before):
    content = lzma.compress(make_tar(FILES)[512:] if before else make_tar(FILES))
    error = refused(archive, out, before + with_dictionary(content, 40))
    assert "more than 256 MiB of memory" in error.problem
    assert "xz -9" in error.remedy


@pytest.mark.parametrize("code", [28, 31])  # 64 MiB, as `xz -9` does, and 192 MiB
def test_a_large_dictionary_of_xz(archive, out, code):
    archive.write_bytes(with_dictionary(lzma.compress(make_tar(FILES)), code))
    unpack(archive, WANTED, out, SETTINGS, sha256={})


def test_xz_streams_with_padding(archive, out):
    tar = make_tar(FILES)
    archive.write_bytes(
        lzma.compress(tar[:700]) + bytes(8) + lzma.compress(tar[700:]) + bytes(200_000)
    )
    paths = unpack(archive, WANTED, out, SETTINGS, sha256={})
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        name: FILES[name] for name in WANTED
    }


def test_xz_bomb_is_not_unpacked(archive, out):
    content = lzma.compress(
        before_the_end(make_tar(FILES)) + tar_entry("bomb", 10**8).tobuf() + bytes(20_000_000),
        preset=0,  # a dictionary of 256 KiB
    )
    assert peak_memory(lambda: refused(archive, out, content)) < 5_000_000


def test_nested_headers(archive, out):
    header = tar_entry("x", 1, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT)
    nested = (header + b"y" + bytes(511)) * 5000
    refused(archive, out, gzip.compress(nested + make_tar(FILES)))


def lie_about_size(content: bytes, real: int, claimed: int) -> bytes:
    return content.replace(struct.pack("<L", real), struct.pack("<L", claimed))


def test_zip_bomb_whose_headers_lie(archive, out):
    real, claimed = 54_321_987, 1000
    content = make_zip({**FILES, "BkgOnly.json": bytes(real)})
    lying = lie_about_size(content, real, claimed)
    assert lying != content
    peak = peak_memory(lambda: refused(archive, out, lying))
    assert peak < 5_000_000


def test_zip_that_claims_too_little_content(archive, out):
    real = 54_321
    content = make_zip({**FILES, "BkgOnly.json": bytes(real)})
    refused(archive, out, lie_about_size(content, real, 900_000))


def test_zip_with_a_huge_directory(archive, out):
    content = bytearray(make_zip(FILES))
    end = content.index(b"PK\x05\x06")
    start = struct.unpack_from("<L", content, end + 16)[0]
    entries = bytes(content[start:end])
    many = entries * (2_000_000 // len(entries))
    struct.pack_into("<HHL", content, end + 8, 3, 3, len(many))
    archive_bytes = bytes(content[:start]) + many + bytes(content[end:])
    assert "directory is too long" in refused(archive, out, archive_bytes).problem


# --- the real ones


@pytest.mark.skipif(not PALLETS.is_dir(), reason="needs published pallets in ../shared/pallets")
def test_published_pallet(out):
    pins = {
        "BkgOnly.json": "be293b0316ec6c84ac07fb37d28916ee94d8aa4164dda89a6835dcbc157ad742",
        "patchset.json": "32b94a2867b2fe2d3efcf51911b8c8438bcf8432e4988b3efe45f339c3c4ae34",
    }
    archive = PALLETS / "1Lbb-likelihoods-hepdata.tar.gz"
    unpacked = unpack(archive, pins, out, DownloadSettings(), sha256=pins)
    assert {name: sha256(path.read_bytes()) for name, path in unpacked.items()} == pins


@pytest.mark.skipif(not PALLETS.is_dir(), reason="needs published pallets in ../shared/pallets")
def test_published_pallet_with_regions(out):
    pins = {
        "Region-combined/BkgOnly.json": (
            "4c91542321ec53cda9f424ab32f4e68ffa5d4d8ea0e099df7c5e078f690f9fc0"
        ),
        "Region-combined/patchset.json": (
            "330ea77c6dc82113304f542038df19f53eaf10a8647ac6015adac8250ab8c5a6"
        ),
    }
    archive = PALLETS / "SUSY-2018-04_likelihoods.tar.gz"
    unpacked = unpack(archive, pins, out, DownloadSettings(), sha256=pins)
    assert unpacked["Region-combined/BkgOnly.json"] == out / "Region-combined" / "BkgOnly.json"
    assert sorted(path.name for path in out.iterdir()) == ["Region-combined"]


@pytest.mark.parametrize("size", [6_000, 200_000])
def test_a_full_disk_is_not_taken_for_a_damaged_archive(tmp_path, size):
    archive = tmp_path / "pallet.tar"
    content = tmp_path / "BkgOnly.json"
    content.write_bytes(bytes(size))
    with tarfile.open(archive, "w") as tar:
        tar.add(content, "BkgOnly.json")
    with small_file_system(tmp_path / "disk") as disk:
        (disk / "rest").write_bytes(bytes(60 * 1024))  # leaves room for names, not for content
        with pytest.raises(ArchiveError, match="cannot be written: No space left") as error:
            unpack(archive, ["BkgOnly.json"], disk / "out", DownloadSettings(), sha256={})
    assert "free space" in error.value.remedy
    assert "delete" not in error.value.remedy


# --- archives in archives, and files that are compressed alone


COMPRESSED = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


def nested(levels: int) -> bytes:
    """Archives in one another, the innermost with a file."""
    content = make_tar({"BkgOnly.json": BACKGROUND})
    for _ in range(levels - 1):
        content = make_zip({"inner": content})
    return content


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("outer", [make_tar, make_zip])
def test_files_of_an_inner_archive(archive, out, name, outer):
    inner = FORMATS[name]({f"top/{file}": content for file, content in FILES.items()})
    archive.write_bytes(outer({"README.md": b"", "A/inner.tgz": inner, "other.tgz": b"no archive"}))
    pins = {"A/inner.tgz/BkgOnly.json": sha256(BACKGROUND)}
    wanted = ["A/inner.tgz/BkgOnly.json", "A/inner.tgz/top/patchset.json", "README.md"]
    unpacked = unpack(archive, wanted, out, SETTINGS, sha256=pins)
    assert [unpacked[name].read_bytes() for name in wanted] == [BACKGROUND, PATCHSET, b""]
    assert sorted(path.name for path in out.iterdir()) == ["A", "README.md"]


def test_levels_are_limited(archive, out):
    archive.write_bytes(nested(NESTING))
    name = "inner/" * (NESTING - 1) + "BkgOnly.json"
    assert unpack(archive, [name], out, SETTINGS, sha256={})[name].read_bytes() == BACKGROUND
    archive.write_bytes(nested(NESTING + 1))
    with pytest.raises(ArchiveError, match="5th of archives in one another") as caught:
        unpack(archive, ["inner/" + name], out / "more", SETTINGS, sha256={})
    assert str(caught.value.file).startswith("inner in ")


def test_limits_count_inner_archives(archive, out):
    inner = make_tar({str(number): b"" for number in range(15)} | {"BkgOnly.json": BACKGROUND})
    files = {"inner.tar": inner, **{str(number): b"" for number in range(10)}}
    archive.write_bytes(make_tar(files))
    with pytest.raises(ArchiveError, match="more than 20 members") as caught:
        unpack(archive, ["inner.tar/BkgOnly.json"], out, SETTINGS, sha256={})
    assert caught.value.file == f"inner.tar in {archive}"


@pytest.mark.parametrize("name", COMPRESSED)
def test_limits_count_what_is_decompressed(archive, out, name):
    bomb = COMPRESSED[name](b"[" + b" " * 2_000_000 + b"]")
    error = refused(archive, out, make_tar({"a.json": bomb}), members=["a.json"])
    assert "more than 1000000 bytes when unpacked" in error.problem


def test_an_inner_archive_is_no_safer(archive, out):
    link = tar_entry("BkgOnly.json", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    archive.write_bytes(make_tar({"inner.tar": make_tar({"a": b""}, link)}))
    with pytest.raises(ArchiveError, match="is a link") as caught:
        unpack(archive, ["inner.tar/BkgOnly.json"], out, SETTINGS, sha256={})
    assert caught.value.file == f"inner.tar in {archive}"


def test_a_name_that_leads_into_a_plain_file(archive, out):
    archive.write_bytes(make_tar({"a.json": b"{}"}))
    with pytest.raises(ArchiveError, match="leads into this file, but it is no archive"):
        unpack(archive, ["a.json/BkgOnly.json"], out, SETTINGS, sha256={})


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_file_compressed_alone_is_its_content(archive, out, name):
    packed = COMPRESSED[name](BACKGROUND)
    archive.write_bytes(make_tar({"B.json": packed}))
    for pin in (sha256(packed), sha256(BACKGROUND)):
        unpacked = unpack(archive, ["B.json"], out, SETTINGS, sha256={"B.json": pin})
        assert unpacked["B.json"].read_bytes() == BACKGROUND
    with pytest.raises(ArchiveError, match="another digest"):
        unpack(archive, ["B.json"], out, SETTINGS, sha256={"B.json": "0" * 64})


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_source_that_is_one_file(archive, out, pack):
    archive.write_bytes(pack(BACKGROUND))
    pins = {"likelihood.json": sha256(BACKGROUND)}
    unpacked = unpack(archive, ["likelihood.json"], out, SETTINGS, sha256=pins)
    assert unpacked["likelihood.json"].read_bytes() == BACKGROUND


def test_names_that_match_a_pattern(archive):
    inner = make_tar({"patch.S_1.json": b"[]", "patch.S_[2].json": b"[]", "patch.json": b"[]"})
    archive.write_bytes(make_tar({"top/A.tar": inner, "top/patch.S_3.json": b"[]"}))
    assert matching(archive, "A.tar/patch.*.json", SETTINGS) == {
        "A.tar/patch.S_1.json": "S_1",
        "A.tar/patch.S_[2].json": "S_[2]",
    }
    assert matching(archive, "patch.*.json", SETTINGS) == {"patch.S_3.json": "S_3"}
    with pytest.raises(ArchiveError, match="No file of the archive matches"):
        matching(archive, "B/*.json", SETTINGS)
