"""Nasty inputs, by the rows of the project's list: every way in which tiles may be encoded, packed or damaged."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate, encapsulate_extended

from connectors.protocols import Source
from connectors.registry import open_source
from models.domain.errors import (
    EndpointError,
    FrameUndecodable,
    NotASlide,
    SlideIncomplete,
    SlidewireError,
    SourceUnreadable,
)
from models.imaging.syntax import EXPLICIT_BIG_ENDIAN, EXPLICIT_LITTLE_ENDIAN, JPEG_BASELINE
from tests.rows.encodings import (
    ENDPOINTS,
    SCANNER,
    EncodedSlide,
    Encoding,
    Pixels,
    decoded,
    each,
    fragments,
    item,
    jpeg,
    offsets,
    open_folder,
)
from tests.services.hostile import Answer, Asked, hostile_server, passed_on
from tests.services.orthanc import Orthanc
from tests.services.slides import SlideOnDisk
from tests.unit.models.imaging.frames import jpeg_rgb, paired, rle, ybr_of

Open = Callable[[EncodedSlide], Source]
IMPLICIT, DEFLATED, RLE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
HTJ2K_LOSSLESS, HTJ2K = "1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.203"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
_DECODED = 'multipart/related; type="application/octet-stream"'


@pytest.fixture
def slide(cmu_slide: SlideOnDisk, tmp_path: Path) -> EncodedSlide:
    """Begin a series to which levels are written."""
    return EncodedSlide(cmu_slide, tmp_path / "slide")


@pytest.fixture
def opened() -> Iterator[list[Source]]:
    """Close what was opened."""
    sources: list[Source] = []
    yield sources
    for source in sources:
        source.close()


@pytest.fixture
def files(opened: list[Source]) -> Open:
    """Open a slide in its files."""

    def open_files(slide: EncodedSlide) -> Source:
        opened.append(open_folder(slide.folder))
        return opened[-1]

    return open_files


@pytest.fixture(params=["dicom-files", "dicomweb"])
def anywhere(request: pytest.FixtureRequest, opened: list[Source], files: Open, orthanc: Orthanc) -> Open:
    """Open a slide in its files, and once more in a real Orthanc."""

    def open_in_pacs(slide: EncodedSlide) -> Source:
        orthanc.load(slide.folder)
        ref = ENDPOINTS.locate(f"{orthanc.dicomweb}/{slide.location}")
        opened.append(open_source(ref, ENDPOINTS))
        return opened[-1]

    return files if request.param == "dicom-files" else open_in_pacs


def assert_close(found: list[Pixels], expected: list[Pixels], most: float = 3.0) -> None:
    """Compare tiles that went through a lossy codec, in their order."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < most


def native(tile: Pixels) -> bytes:
    """Return a tile's samples."""
    return tile.tobytes()


def jpeg_2000(tile: Pixels) -> bytes:
    """Encode without loss, with the reversible colour transform."""
    return bytes(imagecodecs.jpeg2k_encode(tile, codecformat="j2k", level=0, reversible=True, mct=True))


def htj2k(tile: Pixels) -> bytes:
    """Encode without loss, with the reversible colour transform."""
    return bytes(imagecodecs.htj2k_encode(tile, reversible=True))


def htj2k_lossy(tile: Pixels) -> bytes:
    """Encode with the irreversible transforms."""
    return bytes(imagecodecs.htj2k_encode(tile, reversible=False))


def only_tile(number: int, change: Callable[[bytes], bytes]) -> Callable[[list[bytes]], bytes]:
    """Pack frames of which one is changed."""
    return lambda frames: fragments(
        [[change(frame) if place == number else frame] for place, frame in enumerate(frames)]
    )


def assert_only_tile_fails(source: Source, tiles: list[Pixels], number: int) -> None:
    """See that the damaged tile is an error with a code, and that all others are what they were."""
    for place, fetch in enumerate(each(source)):
        if place == number:
            with pytest.raises(SlidewireError) as caught:
                fetch()
            assert caught.value.code
        else:
            assert_close([fetch()], [tiles[place]])


def test_row_03_empty_basic_offset_table(slide: EncodedSlide, anywhere: Open) -> None:
    """One fragment is one frame; nothing is missed or remarked on."""
    slide.write(SCANNER)
    source = anywhere(slide)
    assert_close(decoded(source), slide.tiles())
    assert not any("table" in note for note in source.slide.notes)


@pytest.mark.parametrize("encoding", [SCANNER, Encoding(JPEG_2000_LOSSLESS, "YBR_RCT", jpeg_2000)])
def test_row_03_frames_in_several_fragments(slide: EncodedSlide, files: Open, encoding: Encoding) -> None:
    """Without a table, frames of several fragments do not shift those that follow."""

    def split(frames: list[bytes]) -> bytes:
        return fragments(
            [[f[:100], f[100:1000], f[1000:]] if place % 3 == 1 else [f] for place, f in enumerate(frames)]
        )

    slide.write(Encoding(encoding.syntax, encoding.photometric, encoding.encode, split))
    assert_close(decoded(files(slide)), slide.tiles())


def test_row_03_fragments_that_cannot_be_told_apart(slide: EncodedSlide, files: Open) -> None:
    """Fragments that no table and no mark assigns to frames are refused."""

    def split(frames: list[bytes]) -> bytes:
        return fragments([[b"\0\0" + frame[:99], frame[99:]] for frame in frames])

    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, split))
    with pytest.raises(SourceUnreadable, match="18 fragments for 9 frames"):
        files(slide)


@pytest.mark.parametrize("fault", ["none", "offsets", "lengths", "count"])
def test_row_04_extended_offset_table(slide: EncodedSlide, files: Open, fault: str) -> None:
    """A right table is followed; a wrong one is not, which is told, and the frames are the same."""
    encoded = [jpeg(tile) for tile in slide.tiles()]
    data, starts, lengths = encapsulate_extended(encoded)
    if fault == "offsets":
        starts = starts[8:] + starts[:8]
    elif fault == "lengths":
        lengths = lengths[8:] + lengths[:8]
    elif fault == "count":
        starts, lengths = starts[:-8], lengths[:-8]
    attributes = {"ExtendedOffsetTable": starts, "ExtendedOffsetTableLengths": lengths}
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, lambda _: data, attributes))
    source = files(slide)
    assert_close(decoded(source), slide.tiles())
    assert any("offset table is wrong" in note for note in source.slide.notes) == (fault != "none")
    header = source.header(0)
    assert header is not None
    assert not {"7FE00001", "7FE00002", "7FE00010"} & set(header)


@pytest.mark.parametrize("fault", ["none", "zeros", "shifted", "split"])
def test_row_04_basic_offset_table(slide: EncodedSlide, files: Open, fault: str) -> None:
    """The same for the basic table, also where only it can tell which fragments are a frame."""

    def pack(frames: list[bytes]) -> bytes:
        parts = [[f[:50], f[50:]] if fault == "split" else [f] for f in frames]
        table = offsets(parts)
        if fault == "zeros":
            table = [0] * len(table)
        elif fault == "shifted":
            table = [offset + 8 for offset in table]
        return fragments(parts, table)

    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, pack))
    source = files(slide)
    assert_close(decoded(source), slide.tiles())
    assert any("offset table is wrong" in note for note in source.slide.notes) == (fault in {"zeros", "shifted"})


@pytest.mark.parametrize("letters", [False, True])
@pytest.mark.parametrize("app14", [False, True])
def test_rows_07_and_08_rgb_jpeg(slide: EncodedSlide, anywhere: Open, *, app14: bool, letters: bool) -> None:
    """JPEG of R, G, B keeps its colours, with the marks that say so and by Photometric Interpretation without them."""

    def encode(tile: Pixels) -> bytes:
        return jpeg_rgb(tile, app14=app14, letters=letters)

    slide.write(Encoding(JPEG_BASELINE, "RGB", encode))
    assert_close(decoded(anywhere(slide)), slide.tiles())


@pytest.mark.parametrize("subsampling", ["422", "420"])
def test_row_09_subsampled_jpeg(slide: EncodedSlide, anywhere: Open, subsampling: str) -> None:
    """Fewer samples of chroma are spread by one pinned decoder: files and PACS give the same bits."""

    def encode(tile: Pixels) -> bytes:
        return bytes(imagecodecs.jpeg8_encode(tile, level=95, subsampling=subsampling))

    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", encode))
    found = decoded(anywhere(slide))
    assert_close(found, slide.tiles(), 5)
    expected = [np.asarray(imagecodecs.jpeg8_decode(encode(tile))) for tile in slide.tiles()]
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_row_16_zero_length_frame(slide: EncodedSlide, anywhere: Open) -> None:
    """A frame without bytes is an error of that frame."""
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, only_tile(4, lambda _: b"")))
    assert_only_tile_fails(anywhere(slide), slide.tiles(), 4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_row_17_truncated_jpeg(slide: EncodedSlide, anywhere: Open, share: float) -> None:
    """A frame that is cut off is an error of that frame, never grey."""
    cut = only_tile(4, lambda frame: frame[: int(len(frame) * share)])
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, cut))
    assert_only_tile_fails(anywhere(slide), slide.tiles(), 4)


def test_row_17_jpeg_without_its_last_marker(slide: EncodedSlide, anywhere: Open) -> None:
    """Frames that lack only the end marker lack nothing."""
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", lambda tile: jpeg(tile)[:-2]))
    assert_close(decoded(anywhere(slide)), slide.tiles())


def test_row_18_garbage(slide: EncodedSlide, anywhere: Open) -> None:
    """A frame of bytes that mean nothing is an error of that frame."""
    garbage = np.random.default_rng(2).bytes(5000)
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, only_tile(4, lambda _: garbage)))
    assert_only_tile_fails(anywhere(slide), slide.tiles(), 4)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (256, 255), (512, 512)])
def test_row_19_another_size(slide: EncodedSlide, anywhere: Open, height: int, width: int) -> None:
    """A frame that decodes to another size is an error of that frame, not cropped and not filled up."""
    other = jpeg(np.full((height, width, 3), 200, np.uint8))
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, only_tile(4, lambda _: other)))
    source = anywhere(slide)
    assert_only_tile_fails(source, slide.tiles(), 4)
    fetch = list(each(source))[4]
    with pytest.raises(FrameUndecodable, match=f"{width} x {height} px"):
        fetch()


def test_row_26_levels_in_different_syntaxes(slide: EncodedSlide, anywhere: Open) -> None:
    """Each level is decoded by what its own frames are."""
    slide.write(SCANNER, -3)
    slide.write(Encoding(JPEG_2000_LOSSLESS, "YBR_RCT", jpeg_2000), -2)
    slide.write(Encoding(EXPLICIT_LITTLE_ENDIAN, "RGB", native), -1)
    source = anywhere(slide)
    for number, level in enumerate((-3, -2, -1)):
        assert_close(decoded(source, number), slide.tiles(level))


def test_row_26_parts_in_different_syntaxes(slide: EncodedSlide, anywhere: Open) -> None:
    """The parts of a concatenation are decoded each by its own syntax and its own colour model."""
    encodings = (
        SCANNER,
        Encoding(JPEG_2000_LOSSLESS, "YBR_RCT", jpeg_2000),
        Encoding(EXPLICIT_LITTLE_ENDIAN, "YBR_FULL", lambda tile: ybr_of(tile).tobytes()),
    )
    for number, encoding in enumerate(encodings):
        attributes = {
            "ConcatenationUID": "2.25.26",
            "InConcatenationNumber": number + 1,
            "InConcatenationTotalNumber": 3,
            "ConcatenationFrameOffsetNumber": 3 * number,
            "LossyImageCompression": "01" if number == 0 else "00",
        }
        how = Encoding(encoding.syntax, encoding.photometric, encoding.encode, attributes=dict(attributes))
        slide.write(how, part=slice(3 * number, 3 * number + 3))
    source = anywhere(slide)
    assert len(source.slide.levels[0].instances) == 3
    assert_close(decoded(source), slide.tiles())


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_row_31_rle(slide: EncodedSlide, anywhere: Open, photometric: str) -> None:
    """RLE is decoded here; no server is asked to."""

    def encode(tile: Pixels) -> bytes:
        return rle(tile if photometric == "RGB" else ybr_of(tile))

    slide.write(Encoding(RLE, photometric, encode))
    assert_close(decoded(anywhere(slide)), slide.tiles(), 1)


@pytest.mark.parametrize(("syntax", "photometric"), [(HTJ2K_LOSSLESS, "YBR_RCT"), (HTJ2K, "YBR_ICT")])
def test_row_31_htj2k(slide: EncodedSlide, files: Open, syntax: str, photometric: str) -> None:
    """HTJ2K is decoded, without loss or with it."""
    slide.write(Encoding(syntax, photometric, htj2k if syntax == HTJ2K_LOSSLESS else htj2k_lossy))
    found = decoded(files(slide))
    assert_close(found, slide.tiles(), 1)
    if syntax == HTJ2K_LOSSLESS:
        assert all(np.array_equal(one, other) for one, other in zip(found, slide.tiles(), strict=True))


def test_row_31_htj2k_from_a_server(slide: EncodedSlide, orthanc: Orthanc, opened: list[Source]) -> None:
    """HTJ2K frames that a server gives (as AWS does) are decoded, whatever the metadata call them."""
    slide.write(Encoding(JPEG_2000_LOSSLESS, "YBR_RCT", jpeg_2000))
    orthanc.load(slide.folder)
    encoded = [htj2k(tile) for tile in slide.tiles()]
    head = b"--e\r\nContent-Type: image/jphc; transfer-syntax=1.2.840.10008.1.2.4.202\r\n\r\n"

    def answer(asked: Asked) -> Answer | None:
        if "/frames/" not in asked.path:
            return None
        numbers = [int(number) for number in asked.path.rpartition("/")[2].split(",")]
        body = b"".join(head + encoded[number - 1] + b"\r\n" for number in numbers) + b"--e--\r\n"
        return Answer(200, body, {"Content-Type": 'multipart/related; type="image/jphc"; boundary=e'})

    with hostile_server(answer, orthanc.dicomweb) as server:
        opened.append(open_source(ENDPOINTS.locate(f"{server.url}/{slide.location}"), ENDPOINTS))
        found = decoded(opened[-1])
    assert all(np.array_equal(one, other) for one, other in zip(found, slide.tiles(), strict=True))


def test_row_31_a_server_that_does_not_know_htj2k(slide: EncodedSlide, orthanc: Orthanc) -> None:
    """Orthanc 1.10 keeps HTJ2K and cannot give its frames: that is the server's failure, by its code."""
    slide.write(Encoding(HTJ2K_LOSSLESS, "YBR_RCT", htj2k))
    orthanc.load(slide.folder)
    with pytest.raises(EndpointError):
        open_source(ENDPOINTS.locate(f"{orthanc.dicomweb}/{slide.location}"), ENDPOINTS)


@pytest.mark.parametrize(
    "attributes",
    [
        {"BitsAllocated": 16, "BitsStored": 16, "HighBit": 15},
        {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "PlanarConfiguration": None},
        {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME1", "PlanarConfiguration": None},
    ],
)
def test_row_32_sixteen_bit_and_monochrome(slide: EncodedSlide, anywhere: Open, attributes: dict[str, object]) -> None:
    """Fluorescence and greyscale are refused by name, not turned into colours."""
    slide.write(Encoding(JPEG_2000_LOSSLESS, "RGB", jpeg_2000, attributes=attributes))
    with pytest.raises(NotASlide, match="8-bit colour"):
        anywhere(slide)


@pytest.mark.parametrize("encode", [jpeg_2000, lambda tile: bytes(imagecodecs.png_encode(tile))], ids=["J2K", "PNG"])
def test_row_33_another_codec_under_a_jpeg_label(
    slide: EncodedSlide, anywhere: Open, encode: Callable[[Pixels], bytes]
) -> None:
    """Frames are decoded by what their bytes are, and that the label was wrong is told."""
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422" if encode is not jpeg_2000 else "RGB", encode))
    source = anywhere(slide)
    found = decoded(source)
    assert all(np.array_equal(one, other) for one, other in zip(found, slide.tiles(), strict=True))
    assert any("believed" in note for note in source.slide.notes)


def test_row_34_padding_to_an_even_length(slide: EncodedSlide, anywhere: Open) -> None:
    """Frames of odd length have a byte of padding, which changes nothing."""

    def odd(tile: Pixels) -> bytes:
        data = jpeg(tile)
        return data if len(data) % 2 else data[:2] + b"\xff\xfe\x00\x03!" + data[2:]

    assert all(len(odd(tile)) % 2 for tile in slide.tiles())
    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", odd))
    assert_close(decoded(anywhere(slide)), slide.tiles())


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE_ENDIAN, IMPLICIT, DEFLATED, EXPLICIT_BIG_ENDIAN])
@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL", "YBR_FULL_422", "planes"])
def test_native_pixels(slide: EncodedSlide, files: Open, syntax: str, photometric: str) -> None:
    """Uncompressed tiles of every syntax, colour model and order of samples give the picture."""

    def encode(tile: Pixels) -> bytes:
        if photometric == "planes":
            return np.ascontiguousarray(np.moveaxis(tile, -1, 0)).tobytes()
        if photometric == "YBR_FULL_422":
            return paired(ybr_of(tile))
        return (tile if photometric == "RGB" else ybr_of(tile)).tobytes()

    planar = {"PlanarConfiguration": int(photometric == "planes")}
    slide.write(Encoding(syntax, "RGB" if photometric == "planes" else photometric, encode, attributes=dict(planar)))
    assert_close(decoded(files(slide)), slide.tiles())


def test_big_endian_words(slide: EncodedSlide, files: Open) -> None:
    """Samples that are stored as words of the other byte order (OW) are turned."""
    path = slide.write(Encoding(EXPLICIT_BIG_ENDIAN, "RGB", native))
    data = path.read_bytes()
    at = data.index(b"\x7f\xe0\x00\x10OB")
    words = np.frombuffer(data[at + 12 :], np.uint16).byteswap().tobytes()
    path.write_bytes(data[: at + 4] + b"OW" + data[at + 6 : at + 12] + words)
    found = decoded(files(slide))
    assert all(np.array_equal(one, other) for one, other in zip(found, slide.tiles(), strict=True))


def test_frames_that_a_server_decodes(slide: EncodedSlide, orthanc: Orthanc, opened: list[Source]) -> None:
    """A server that decodes whatever is asked for gives RGB of tiles it stores as YBR: the colours are right."""
    slide.write(SCANNER)
    orthanc.load(slide.folder)

    def answer(asked: Asked) -> Answer | None:
        if "/frames/" not in asked.path:
            return None
        kept = {name: value for name, value in asked.headers.items() if name != "Accept"}
        decoding = Asked(asked.method, asked.path, kept | {"Accept": _DECODED}, asked.body)
        return passed_on(decoding, orthanc.dicomweb)

    with hostile_server(answer, orthanc.dicomweb) as server:
        opened.append(open_source(ENDPOINTS.locate(f"{server.url}/{slide.location}"), ENDPOINTS))
        first = next(iter(opened[-1].frames(0, [0])))
        assert len(first.data) == 256 * 256 * 3
        assert_close(decoded(opened[-1]), slide.tiles())


@pytest.mark.parametrize("photometric", ["RGB", "planes"])
def test_native_pixels_in_a_pacs(slide: EncodedSlide, anywhere: Open, photometric: str) -> None:
    """A PACS gives uncompressed frames as they are stored, plane by plane where they are."""
    planar = photometric == "planes"
    encode = (lambda tile: np.ascontiguousarray(np.moveaxis(tile, -1, 0)).tobytes()) if planar else native
    attributes: dict[str, object] = {"PlanarConfiguration": int(planar)}
    slide.write(Encoding(EXPLICIT_LITTLE_ENDIAN, "RGB", encode, attributes=attributes))
    assert_close(decoded(anywhere(slide)), slide.tiles())


def test_a_level_with_damaged_pixel_data_harms_no_other(slide: EncodedSlide, files: Open) -> None:
    """A torn file makes its own level unreadable; the others are read as ever."""
    slide.write(SCANNER, -2)
    path = slide.write(SCANNER, -3)
    path.write_bytes(path.read_bytes()[:-2000])
    source = files(slide)
    assert "cut off" in source.slide.levels[0].problem
    assert source.slide.levels[1].problem == ""
    assert_close(decoded(source, 1), slide.tiles(-2))


def test_fewer_native_frames_than_promised(slide: EncodedSlide, files: Open) -> None:
    """Pixel data that lack a frame are incomplete, whatever the grid says."""
    slide.write(Encoding(EXPLICIT_LITTLE_ENDIAN, "RGB", native, lambda frames: b"".join(frames[:-1])))
    with pytest.raises(SlideIncomplete):
        files(slide)


def test_pixel_data_of_known_length_under_a_compressed_syntax(slide: EncodedSlide, files: Open) -> None:
    """Items where uncompressed pixels should be are refused, and nothing is read as what it is not."""
    path = slide.write(SCANNER)
    data = path.read_bytes()
    at = data.index(struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF))
    path.write_bytes(data[: at + 8] + struct.pack("<I", len(data) - at - 12) + data[at + 12 :])
    with pytest.raises((SourceUnreadable, SlideIncomplete)):
        files(slide)


@pytest.mark.parametrize("cuts", [1, 3])
def test_a_frame_longer_than_any_can_be(slide: EncodedSlide, files: Open, cuts: int) -> None:
    """Of megabytes in the place of one tile only so much is read as it takes to refuse them."""

    def pack(frames: list[bytes]) -> bytes:
        long = frames[4] + bytes(9_000_000 - len(frames[4]))
        size = len(long) // cuts
        parts = [[frame] for frame in frames]
        parts[4] = [long[at : at + size] for at in range(0, len(long), size)]
        return fragments(parts)

    slide.write(Encoding(JPEG_BASELINE, "YBR_FULL_422", jpeg, pack))
    source = files(slide)
    assert_only_tile_fails(source, slide.tiles(), 4)
    assert source.close().bytes_read < 2_000_000


def test_a_deflated_slide_that_was_closed(slide: EncodedSlide, files: Open) -> None:
    """What was inflated is gone with the source, and nothing else is read in its place."""
    slide.write(Encoding(DEFLATED, "RGB", native))
    source = files(slide)
    assert_close(decoded(source), slide.tiles())
    source.close()
    with pytest.raises(SourceUnreadable):
        decoded(source)


def test_garbage_between_fragments(slide: EncodedSlide, files: Open) -> None:
    """Bytes that are no item, in the middle of the pixel data, end the search for frames."""
    slide.write(
        Encoding(
            JPEG_BASELINE, "YBR_FULL_422", jpeg, lambda f: item(b"") + item(f[0]) + b"nonsense" + encapsulate(f[1:])
        )
    )
    with pytest.raises(SourceUnreadable, match="Fragment 2 "):
        files(slide)
