import sharp, { type Sharp } from "sharp";
import { describe, expect, test } from "vitest";
import { decodeImage } from "./decode-image.ts";

function plain(
  width: number,
  height: number,
  background: string | { r: number; g: number; b: number; alpha: number },
): Sharp {
  return sharp({ create: { width, height, channels: typeof background === "string" ? 3 : 4, background } });
}

function noisy(side: number): Sharp {
  const bytes = Uint8Array.from({ length: side * side * 3 }, (_, index) => (index * 7919) % 251);
  return sharp(bytes, { raw: { width: side, height: side, channels: 3 } });
}

async function firstPixel(picture: Sharp): Promise<number[]> {
  return [...(await decodeImage(await picture.toBuffer(), "it")).data.subarray(0, 3)];
}

const orange = "#ff8000";

test("a picture that its EXIF data turns is turned", async () => {
  const image = await decodeImage(
    await plain(40, 20, "#ff0000").jpeg().withMetadata({ orientation: 6 }).toBuffer(),
    "it",
  );
  expect([image.width, image.height, image.data.length]).toEqual([20, 40, 2400]);
});

test("what is half transparent stands on white", async () => {
  expect(await firstPixel(plain(2, 2, { r: 255, g: 0, b: 0, alpha: 0.5 }).png())).toEqual([255, 127, 127]);
  expect(await firstPixel(plain(2, 2, { r: 0, g: 0, b: 0, alpha: 0 }).png())).toEqual([255, 255, 255]);
});

describe.each<[string, () => Sharp, number[]]>([
  ["a 16-bit picture", () => plain(4, 4, orange).toColourspace("rgb16").png(), [255, 128, 0]],
  ["a palette picture", () => plain(4, 4, "#336699").png({ palette: true }), [51, 102, 153]],
  ["a grey picture", () => plain(4, 4, "#808080").greyscale().png(), [128, 128, 128]],
  ["a 16-bit grey picture", () => plain(4, 4, "#808080").toColourspace("grey16").png(), [128, 128, 128]],
  [
    "grey with transparency",
    () => sharp(Uint8Array.of(100, 128), { raw: { width: 1, height: 1, channels: 2 } }).png(),
    [177, 177, 177],
  ],
])("%s", (_, picture, pixel) => {
  test("becomes 8-bit RGB", async () => expect(await firstPixel(picture())).toEqual(pixel));
});

test("a CMYK picture becomes RGB near what is seen", async () => {
  const pixel = await firstPixel(plain(8, 8, orange).toColourspace("cmyk").jpeg());
  [255, 128, 0].forEach((value, channel) => expect(Math.abs((pixel[channel] as number) - value)).toBeLessThan(12));
});

test("a colour profile is not applied, as the reference does not", async () => {
  const stored = await sharp(await plain(4, 4, orange).withIccProfile("p3").png().toBuffer(), { ignoreIcc: true })
    .raw()
    .toBuffer();
  expect(await firstPixel(plain(4, 4, orange).withIccProfile("p3").png())).toEqual([...stored.subarray(0, 3)]);
});

test("of an animation the first frame counts", async () => {
  const frames = await Promise.all(
    ["#ff0000", "#00ff00"].map(async (colour) => await plain(4, 4, colour).png().toBuffer()),
  );
  const image = await decodeImage(
    await sharp(frames, { join: { animated: true } })
      .gif()
      .toBuffer(),
    "it",
  );
  expect([image.height, ...image.data.subarray(0, 3)]).toEqual([4, 255, 0, 0]);
});

describe.each([
  ["jpeg", () => noisy(200).jpeg().toBuffer()],
  ["png", () => noisy(200).png().toBuffer()],
] as const)("a cut %s", (kind, make) => {
  test.each([0.3, 0.99])("is refused with its name at %d of its length", async (share) => {
    const bytes = await make();
    await expect(decodeImage(bytes.subarray(0, Math.floor(bytes.length * share)), `photos/a.${kind}`)).rejects.toThrow(
      new RegExp(
        `^picture photos/a\\.${kind} cannot be decoded: the file is cut off: .*; save it again as PNG or JPEG, or leave it out$`,
      ),
    );
  });
});

test("a small file that would unpack to a huge picture is refused before it is unpacked", async () => {
  const bomb = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="30000" height="30000"/>');
  await expect(decodeImage(bomb, "bomb.svg")).rejects.toThrow(
    "picture bomb.svg has more than 100 million pixels; scale it down or leave it out",
  );
});

test.each([
  ["text", Buffer.from("no picture at all, only words")],
  ["empty", Buffer.alloc(0)],
])("%s instead of a picture is refused with its name", async (name, bytes) => {
  await expect(decodeImage(bytes, name)).rejects.toThrow(`picture ${name} cannot be decoded`);
});

test("a missing file is refused with its name", async () => {
  await expect(decodeImage("/nowhere/a.png", "a.png")).rejects.toThrow(
    /^picture a\.png cannot be decoded: Input file is missing/,
  );
});
