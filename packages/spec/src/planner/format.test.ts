import { expect, test } from "vitest";
import { formatBytes, formatCount, formatInteger, formatSeconds, plural } from "./format.ts";

test.each([
  [formatBytes(0), "0"],
  [formatBytes(1536), "1.5 KiB"],
  [formatBytes(5 * 2 ** 20), "5 MiB"],
  [formatBytes(15.442 * 2 ** 30), "15.44 GiB"],
  [formatCount(512), "512"],
  [formatCount(43_646_976), "43.6 M"],
  [formatCount(8_767_123_696), "8.77 G"],
  [formatSeconds(12), "12 s"],
  [formatSeconds(41 * 60), "41 min"],
  [formatSeconds(7500), "2 h 5 min"],
  [formatSeconds(3 * 86_400), "3 days"],
  [formatInteger(999), "999"],
  [formatInteger(262_144), "262,144"],
  [formatInteger(1_003_520), "1,003,520"],
  [plural(1, "GPU"), "1 GPU"],
  [plural(1200, "row"), "1,200 rows"],
])("%s is written so", (text, expected) => {
  expect(text).toBe(expected);
});
