import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { copyConfig } from "./copy-config.ts";

test("numbers keep their spelling, whole ones with a point too, and changes are written", async () => {
  const folder = await mkdtemp(join(tmpdir(), "drydock-config-"));
  await writeFile(
    join(folder, "config.json"),
    '{"initializer_factor": 1.0, "eps": 1e-06, "sizes": [14, 2.50], "dtype": "bfloat16"}',
  );
  await copyConfig(folder, folder, { dtype: "float32", steps: 3 });
  const written = await readFile(join(folder, "config.json"), "utf8");
  await rm(folder, { recursive: true });
  expect(written.replaceAll(/\s/g, "")).toBe(
    '{"initializer_factor":1.0,"eps":1e-06,"sizes":[14,2.50],"dtype":"float32","steps":3}',
  );
});
