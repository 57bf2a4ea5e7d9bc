"""Draws the pictures and makes the sounds of tests/goldens/media, and writes what PIL and transformers make of them.

Made with transformers 5.23.0, torch 2.15.0, torchvision 0.29.2, Pillow 13.0.0, NumPy 2.4.6; the sounds also with soundfile 0.14.0
(libsndfile with LAME, libvorbis, libopus), PyAV 18.1.0 (AAC) and soxr 1.1.0 (resampling).
Run: python scripts/make_media_goldens.py
"""

import io
import pathlib
import random
import shutil
import struct
import zlib

import av
import numpy as np
import soundfile
import soxr
from PIL import Image, ImageDraw, ImageOps
from safetensors.numpy import save_file
from transformers.image_transforms import convert_to_rgb
from transformers.models.gemma3.image_processing_gemma3 import Gemma3ImageProcessor
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers import Gemma3nAudioFeatureExtractor, SiglipImageProcessor

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests/goldens/media"
PICTURES = OUT / "pictures"
SOUNDS = OUT / "sounds"


def scene(width, height, seed=0):
    """Shades, edges, noise and a circle, with every channel different."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x / max(width - 1, 1)
    green = 127 + 120 * np.sin(x / 3.1) * np.cos(y / 2.3)
    blue = 255 * (1 - y / max(height - 1, 1))
    image = np.stack([red, green, blue], -1) + rng.normal(0, 12, (height, width, 3))
    image = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse([width // 4, height // 4, width * 2 // 3, height * 3 // 4], fill=(250, 240, 20), outline=(0, 0, 90))
    draw.line([0, height - 1, width - 1, 0], fill=(255, 0, 255), width=2)
    return image


def alpha(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(((x * 255 // max(width - 1, 1) + 40 * (y % 3)) % 256).astype(np.uint8))


def with_alpha(image):
    image = image.copy()
    image.putalpha(alpha(*image.size))
    return image


def save(name, image, **options):
    image.save(PICTURES / name, **options)


def write(name, data):
    (PICTURES / name).write_bytes(data)


def encode(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


# ---------- PNG by hand: what PIL reads and cannot write


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, samples, *chunks, adam7=False):
    """`samples` is [height, width, channels] of the file's own numbers."""

    def rows(part):
        out = b""
        for row in part:
            flat = row.reshape(-1)
            if depth == 16:
                data = flat.astype(">u2").tobytes()
            else:
                bits = "".join(format(int(v), f"0{depth}b") for v in flat)
                bits += "0" * (-len(bits) % 8)
                data = int(bits, 2).to_bytes(len(bits) // 8, "big")
            out += b"\0" + data
        return out

    if adam7:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        data = b"".join(rows(samples[y::dy, x::dx]) for x, y, dx, dy in passes if samples[y::dy, x::dx].size)
    else:
        data = rows(samples)
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(adam7))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def exif(orientation):
    data = Image.Exif()
    data[274] = orientation
    return data


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


def draw_pngs():
    image = scene(33, 21)
    array = np.asarray(image)
    save("bilevel.png", image.convert("1"))
    save("grey.png", image.convert("L"))
    save("grey_alpha.png", with_alpha(image).convert("LA"))
    save("rgb.png", image)
    save("rgba.png", with_alpha(image))
    save("one_pixel.png", scene(1, 1))
    save("one_row.png", scene(40, 1))
    save("palette.png", image.quantize(60))
    save("palette_4bit.png", image.quantize(13), bits=4)
    save("palette_alpha.png", image.quantize(20), transparency=bytes(range(0, 200, 10)))
    save("palette_one_clear.png", image.quantize(20), transparency=3)
    save("grey_one_clear.png", image.convert("L").point(lambda v: v // 32 * 32), transparency=96)
    save("rgb_one_clear.png", image.point(lambda v: v // 128 * 128), transparency=(128, 128, 0))
    save("exif_6.png", image, exif=exif(6))
    frames = [scene(33, 21, seed) for seed in (1, 2)]
    save("animated.png", frames[0], save_all=True, append_images=frames[1:])
    wide = array.astype(np.uint16) * 257
    grey = (np.arange(33 * 21).reshape(21, 33, 1) * 3).astype(np.uint16)
    write("grey_16bit.png", png(33, 21, 16, 0, grey))
    write("grey_alpha_16bit.png", png(33, 21, 16, 4, np.concatenate([wide[..., :1] + 100, wide[..., 1:2]], -1)))
    write("rgb_16bit.png", png(33, 21, 16, 2, wide ^ 0x55))
    write("rgba_16bit.png", png(33, 21, 16, 6, np.concatenate([wide ^ 0xAA, wide[..., :1]], -1)))
    write("grey_2bit.png", png(33, 21, 2, 0, array[..., :1] >> 6))
    write("grey_4bit.png", png(33, 21, 4, 0, array[..., :1] >> 4))
    write("rgb_interlaced.png", png(33, 21, 8, 2, array, adam7=True))
    write("grey_1bit_interlaced.png", png(33, 21, 1, 0, array[..., :1] >> 7, adam7=True))
    text = b"\nexif\n     " + str(len(exif(3).tobytes())).encode() + b"\n" + exif(3).tobytes().hex().encode() + b"\n"
    raw = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    write("exif_text.png", png(33, 21, 8, 2, array, raw))
    write("xmp_8.png", png(33, 21, 8, 2, array, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)))


def draw_jpegs():
    image = scene(53, 37)
    save("grey.jpg", image.convert("L"))
    for name, subsampling in ("444", 0), ("422", 1), ("420", 2):
        save(f"ycbcr_{name}.jpg", image, subsampling=subsampling, quality=85)
    save("progressive.jpg", image, progressive=True, quality=60)
    save("restarts.jpg", image, restart_marker_blocks=2)
    save("rgb.jpg", image, keep_rgb=True)
    save("cmyk.jpg", image.convert("CMYK"))
    save("low_quality.jpg", image, quality=5)
    save("one_pixel.jpg", scene(1, 1))
    save("narrow.jpg", scene(3, 50), quality=90)
    for orientation in range(2, 9):
        save(f"exif_{orientation}.jpg", scene(24, 9), exif=exif(orientation))
    save("xmp_8.jpg", image, xmp=XMP)


def draw_webps():
    image = scene(53, 37)
    save("lossy.webp", image, quality=70)
    save("lossless.webp", image, lossless=True)
    save("lossy_alpha.webp", with_alpha(image), quality=70)
    save("lossless_alpha.webp", with_alpha(image), lossless=True)
    save("exif_5.webp", image, exif=exif(5))
    save("animated.webp", image, save_all=True, append_images=[scene(53, 37, 3)], quality=60)


def draw_gifs():
    image = scene(33, 21)
    plain = encode(image.quantize(30), "GIF")
    write("palette.gif", plain)
    save("grey.gif", image.convert("L"))
    save("clear.gif", image.quantize(30), transparency=7)
    save("animated.gif", image.quantize(30), save_all=True, append_images=[scene(33, 21, 5).quantize(30)])
    # A frame that does not fill its canvas, and one that hangs out of it.
    descriptor = plain.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 33, 21))
    place = lambda left, top: plain[: descriptor + 1] + struct.pack("<HH", left, top) + plain[descriptor + 5 :]
    write("small_frame.gif", place(4, 3)[:6] + struct.pack("<HH", 44, 30) + place(4, 3)[10:])
    write("large_frame.gif", place(4, 3))


def bmp(width, height, bits, pixels, compression=0, palette=b"", masks=b"", colours=0):
    offset = 54 + len(masks) + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, colours, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(pixels), 0, 0, offset) + info + masks + palette + pixels


def draw_bmps():
    image = scene(33, 21)
    array = np.asarray(image).astype(np.uint32)
    save("bilevel.bmp", image.convert("1"))
    save("grey.bmp", image.convert("L"))
    save("palette.bmp", image.quantize(50))
    save("rgb.bmp", image)
    save("rgba.bmp", with_alpha(image))
    rows = lambda words, kind: b"".join((lambda r: r + b"\0" * (-len(r) % 4))(row.astype(kind).tobytes()) for row in words)
    r, g, b = array[..., 0], array[..., 1], array[..., 2]
    write("rgb_555.bmp", bmp(33, 21, 16, rows((r >> 3) << 10 | (g >> 3) << 5 | b >> 3, "<u2")))
    masks = struct.pack("<III", 0xF800, 0x7E0, 0x1F)
    write("rgb_565.bmp", bmp(33, 21, 16, rows((r >> 3) << 11 | (g >> 2) << 5 | b >> 3, "<u2"), 3, masks=masks))
    write("rgbx_top_down.bmp", bmp(33, -21, 32, rows(r << 16 | g << 8 | b | 0x80000000, "<u4")))
    masks = struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)
    write("xbgr.bmp", bmp(33, 21, 32, rows(r << 24 | g << 16 | b << 8, "<u4"), 3, masks=masks))
    palette = b"".join(struct.pack("<BBBB", i * 16, 255 - i * 16, i * 7, 0) for i in range(16))
    index = (r >> 4).astype(np.uint8)[::-1]
    nibbles = np.concatenate([index, np.zeros((21, 1), np.uint8)], 1)
    write("palette_4bit.bmp", bmp(33, 21, 4, rows(nibbles[:, 0::2] << 4 | nibbles[:, 1::2], "u1"), palette=palette))

    def runs(row):
        out, x = b"", 0
        while x < len(row):
            run = 1
            while x + run < len(row) and row[x + run] == row[x]:
                run += 1
            if run == 1 and x + 5 <= len(row):
                out += bytes([0, 5]) + bytes(row[x : x + 5]) + b"\0"
                x += 5
            else:
                out += bytes([run, row[x]])
                x += run
        return out + b"\0\0"

    write("rle8.bmp", bmp(33, 21, 8, b"".join(runs(row) for row in index) + b"\0\1", 1, palette, colours=16))
    four = b"".join(bytes([33, 0x10 * (y % 16) | (y * 3 % 16)]) + b"\0\0" for y in range(21)) + b"\0\1"
    write("rle4.bmp", bmp(33, 21, 4, four, 2, palette, colours=16))
    core = struct.pack("<IHHHH", 12, 33, 21, 1, 8) + b"".join(bytes([i, 255 - i, i // 2]) for i in range(256))
    write("os2.bmp", b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(core)) + core + rows((r ^ 1).astype(np.uint8)[::-1], "u1"))


def draw_tiffs():
    image = scene(33, 21)
    array = np.asarray(image)
    save("bilevel.tif", image.convert("1"))
    save("bilevel_group4.tif", image.convert("1"), compression="group4")
    save("grey.tif", image.convert("L"))
    save("grey_16bit.tif", Image.fromarray((np.asarray(image.convert("L")).astype(np.uint16) * 2)))
    save("grey_32bit.tif", Image.fromarray(array[..., 0].astype(np.int32) * 3 - 200))
    save("grey_float.tif", Image.fromarray(array[..., 0].astype(np.float32) * 1.3 - 20))
    save("grey_alpha.tif", with_alpha(image).convert("LA"))
    save("palette.tif", image.quantize(50))
    save("palette_lzw.tif", image.quantize(50), compression="tiff_lzw")
    save("rgb.tif", image)
    save("rgb_lzw.tif", image, compression="tiff_lzw", tiffinfo={317: 2})
    save("rgb_deflate.tif", image, compression="tiff_adobe_deflate")
    save("rgb_packbits.tif", image, compression="packbits")
    save("rgb_jpeg.tif", image, compression="jpeg")
    save("rgba.tif", with_alpha(image))
    save("cmyk.tif", image.convert("CMYK"))
    save("exif_7.tif", image, tiffinfo={274: 7})
    save("two_pages.tif", image, save_all=True, append_images=[scene(20, 20)])


# One side grows, both do, none does; the height goes first in the second, third and last.
SIZES = [(20, 91), (107, 12), (53, 20), (53, 60), (30, 37), (1, 1), (160, 111), (40, 12), (50, 30)]


def expected(name, drop=False):
    image = ImageOps.exif_transpose(Image.open(PICTURES / name))
    return np.array(image.convert("RGB")) if drop else convert_to_rgb(image, return_numpy=True)


# ---------- sounds


def voice(rate, length):
    """A gliding buzz that swells, and noise; `src/media/audio/tests.rs` makes the same."""
    t = np.arange(length) / rate
    phase = 2 * np.pi * (120 * t + 3 * np.sin(2 * np.pi * 1.3 * t))
    buzz = sum(np.sin(k * phase) / k for k in range(1, int(0.42 * rate / 150) + 1))
    state, noise = 1, []
    for _ in range(length):
        state = (state * 1664525 + 1013904223) % 2**32
        noise.append(state / 2**31 - 1)
    return 0.3 * buzz * (0.2 + np.sin(2 * np.pi * 3 * t) ** 2) + 0.02 * np.array(noise)


def encode_av(name, samples, rate, codec, layout, bit_rate=64000, **options):
    with av.open(str(SOUNDS / name), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = bit_rate
        stream.options = options
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in stream.encode(frame) + stream.encode(None):
            file.mux(packet)


def decode_av(name):
    with av.open(str(SOUNDS / name)) as file:
        if not name.endswith(".opus"):
            frames = list(file.decode(audio=0))
        else:
            # libopus instead of FFmpeg's own decoder, which delays speech otherwise.
            stream = file.streams.audio[0]
            decoder = av.CodecContext.create("libopus", "r")
            decoder.extradata = stream.codec_context.extradata
            frames = [frame for packet in file.demux(stream) for frame in decoder.decode(packet if packet.size else None)]
        planes = []
        for frame in frames:
            samples = frame.to_ndarray().astype(np.float32)
            if not frame.format.is_planar:
                samples = samples.reshape(-1, frame.layout.nb_channels).T
            if frame.format.name.startswith("s16"):
                samples /= 32768
            planes.append(samples)
        return np.concatenate(planes, 1).mean(0, dtype=np.float32)


def make_sounds():
    mono = (0.5 * voice(16000, 3000)).astype(np.float32)
    stereo = np.stack([0.5 * voice(44100, 6000), 0.3 * np.cos(np.arange(6000) / 9)], 1).astype(np.float32)
    forms = dict(u8="PCM_U8", s16="PCM_16", s24="PCM_24", s32="PCM_32", f32="FLOAT", f64="DOUBLE", a_law="ALAW", mu_law="ULAW")
    for name, form in forms.items():
        soundfile.write(SOUNDS / f"{name}.wav", mono, 16000, subtype=form, format="WAV")
    soundfile.write(SOUNDS / "extensible.wav", stereo[:2000], 44100, subtype="PCM_24", format="WAVEX")
    soundfile.write(SOUNDS / "stereo.wav", stereo[:2000], 44100, subtype="PCM_16")
    soundfile.write(SOUNDS / "s16.flac", mono, 16000, subtype="PCM_16")
    soundfile.write(SOUNDS / "stereo_s24.flac", stereo, 44100, subtype="PCM_24")
    soundfile.write(SOUNDS / "mono.mp3", voice(44100, 9000) * 0.5, 44100, format="MP3")
    soundfile.write(SOUNDS / "stereo.mp3", stereo, 44100, format="MP3")
    soundfile.write(SOUNDS / "low.mp3", mono, 16000, format="MP3")
    soundfile.write(SOUNDS / "stereo.ogg", stereo, 44100, format="OGG", subtype="VORBIS")
    soundfile.write(SOUNDS / "mono.ogg", mono, 16000, format="OGG", subtype="VORBIS")
    soundfile.write(SOUNDS / "stereo.opus", soxr.resample(stereo, 44100, 48000, "VHQ"), 48000, format="OGG", subtype="OPUS")
    soundfile.write(SOUNDS / "mono.opus", mono, 16000, format="OGG", subtype="OPUS")
    encode_av("mono.m4a", mono[None], 16000, "aac", "mono")
    encode_av("stereo.m4a", stereo.T, 44100, "aac", "stereo")
    encode_av("voice_note.opus", soxr.resample(mono, 16000, 48000, "VHQ")[None], 48000, "libopus", "mono", 14000, application="voip")


def heard(name):
    # libsndfile gives Opus at the rate that it was made from.
    if name.endswith((".m4a", ".opus")):
        return decode_av(name)
    samples, _ = soundfile.read(SOUNDS / name, dtype="float32", always_2d=True)
    return samples.mean(1, dtype=np.float32)


def main_sounds():
    shutil.rmtree(SOUNDS, ignore_errors=True)
    SOUNDS.mkdir(parents=True)
    make_sounds()
    golden = {}
    for path in sorted(SOUNDS.iterdir()):
        samples = heard(path.name)
        golden[f"{path.name}/length"] = np.array([len(samples)], np.int64)
        golden[f"{path.name}/every_7th"] = samples[::7].copy()
    extractor = Gemma3nAudioFeatureExtractor()
    golden["window"] = extractor.window
    features = lambda samples: extractor(samples.astype(np.float32), return_tensors="np")
    for name, samples in dict(
        voice=voice(16000, 20000),
        quiet=1e-3 * voice(16000, 5000),
        # With noise: in bins without sound the extractor has what its transform of f32 rounds.
        sweep=voice(16000, 24000) + 0.3 * np.sin(2 * np.pi * (50 * np.arange(24000) / 16000 + 2600 * (np.arange(24000) / 16000) ** 2)),
        silence=np.zeros(4000),
        shortest=voice(16000, 641),
    ).items():
        made = features(samples)
        golden[f"log_mel/{name}"] = made["input_features"][0].reshape(-1)[::5].copy()
        golden[f"log_mel/{name}/valid"] = np.array([made["input_features_mask"].sum(), *made["input_features"].shape[1:]], np.int64)
    lengths = [800, 1000, 1279, 1280, 1281, 15999, 16000, 47840, 160001, 479840, 479999, 480000]
    counts = []
    for length in lengths:
        made = features(np.zeros(length))
        counts.append([length, made["input_features"].shape[1], int(made["input_features_mask"].sum())])
    golden["frames"] = np.array(counts, np.int64)
    for rate in (8000, 11025, 22050, 24000, 32000, 44100, 48000):
        resampled = soxr.resample(voice(rate, rate * 5 // 4), rate, 16000, "VHQ")
        golden[f"resampled/{rate}/length"] = np.array([len(resampled)], np.int64)
        golden[f"resampled/{rate}"] = features(resampled)["input_features"][0].reshape(-1)[::3].copy()
    save_file(golden, OUT / "sounds.safetensors")


def main():
    random.seed(0)
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    for draw in (draw_pngs, draw_jpegs, draw_webps, draw_gifs, draw_bmps, draw_tiffs):
        draw()
    names = sorted(path.name for path in PICTURES.iterdir())
    rgb = {name: expected(name) for name in names}
    dropped = {f"{name}/dropped": expected(name, drop=True) for name in ("rgba.png", "palette_alpha.png", "lossy_alpha.webp")}
    resized = {}
    image = scene(53, 37)
    save("resized.png", image)
    for width, height in SIZES:
        resized[f"resized/{width}x{height}"] = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    save_file(rgb | dropped | resized, OUT / "pictures.safetensors")

    options = dict(size=dict(height=896, width=896), resample=2, do_resize=True, do_rescale=True, rescale_factor=1 / 255,
                   do_normalize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_convert_rgb=True)
    pil, torchvision = Gemma3ImageProcessorPil(**options), Gemma3ImageProcessor(**options)
    unit = SiglipImageProcessor(size=dict(height=768, width=768), resample=2, do_normalize=False)
    pan = dict(do_pan_and_scan=True, pan_and_scan_min_crop_size=16, pan_and_scan_max_num_crops=4, pan_and_scan_min_ratio_to_activate=1.2)
    values = {}
    for name in ("rgba.png", "ycbcr_420.jpg", "narrow.jpg", "grey_16bit.png", "clear.gif"):
        image = ImageOps.exif_transpose(Image.open(PICTURES / name))
        for backend, processor in ("pil", pil), ("torchvision", torchvision):
            whole = np.asarray(processor(images=image, return_tensors="np")["pixel_values"])
            values[f"{name}/{backend}"] = whole.reshape(-1)[::4999].copy()
            values[f"{name}/{backend}/mean"] = whole.mean((2, 3), dtype=np.float64)
        values[f"{name}/unit"] = np.asarray(unit(images=image.convert("RGB"), return_tensors="np")["pixel_values"]).reshape(-1)[::4999].copy()
    for name in ("one_row.png", "ycbcr_422.jpg", "narrow.jpg", "exif_6.jpg"):
        image = ImageOps.exif_transpose(Image.open(PICTURES / name))
        pieces = np.asarray(pil(images=image, return_tensors="np", **pan)["pixel_values"])
        values[f"{name}/pan"] = pieces.reshape(-1)[::9973].copy()
        values[f"{name}/pan/count"] = np.array([len(pieces)], np.int64)
    save_file(values, OUT / "pixel_values.safetensors")


main()
main_sounds()
