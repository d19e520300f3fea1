import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findModel } from "../engine/find-model.ts";
import { baseDigestOf } from "./base-digest.ts";
import { refuseOtherBase } from "./check-base.ts";

const golden = resolve(import.meta.dirname, "../../../../test/golden/parity/qwen3-vl/untied");
let scratch: string;
let base: string;
let adapter: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "drydock-base-"));
  [base, adapter] = [join(scratch, "base"), join(scratch, "adapter")];
  await cp(join(golden, "model"), base, { recursive: true });
  await cp(join(golden, "adapter"), adapter, { recursive: true });
});
afterAll(async () => await rm(scratch, { recursive: true, force: true }));

async function writeCard(baseDigest: string | null): Promise<void> {
  const card = {
    format: "drydock-model/1",
    name: "weld",
    version: 1,
    kind: "adapter",
    task: "vqa",
    systemPrompt: "",
    image: {},
    base,
    lineage: {
      base: "drydock-tiny-vl",
      baseDigest,
      runId: "run_1",
      step: 3,
      dataset: "weld@1",
      datasetDigest: null,
      mode: "lora",
      planDigest: "p",
      scores: { before: null, after: null },
    },
  };
  await writeFile(join(adapter, "drydock.json"), JSON.stringify(card));
}

test("an adapter from elsewhere, and one of this base, are taken", async () => {
  await refuseOtherBase(adapter, base);
  await writeCard(await baseDigestOf(base));
  expect(await findModel(base, adapter)).toMatchObject({ directory: base, adapterDirectory: adapter });
});

test("an adapter of a base with other weights is refused with both, though every shape fits", async () => {
  await writeCard(await baseDigestOf(base));
  const path = join(base, "model.safetensors");
  const bytes = await readFile(path);
  bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
  await writeFile(path, bytes);
  await expect(findModel(base, adapter)).rejects.toThrow(
    /adapter .* was trained on drydock-tiny-vl \(digest [0-9a-f]{12}\), but .* holds other weights \(digest [0-9a-f]{12}\): give the base that it was trained on/,
  );
});
