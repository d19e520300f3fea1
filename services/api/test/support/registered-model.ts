import { sha256 } from "@drydock/kit";
import type { Lineage, Model } from "@drydock/spec";
import type { TestApi } from "./api.ts";

export const modelContents: Readonly<Record<string, string>> = {
  "adapter_config.json": '{"r":16}',
  "adapter_model.safetensors": "weights".repeat(100),
  "drydock.json": "{}",
};

export interface RegisteredModel {
  readonly name: string;
  readonly version: number;
  readonly kind?: "adapter" | "full";
  readonly runId?: string;
  readonly lineage?: Partial<Lineage>;
}

/** Puts the files of a version into storage and registers it, as the controller does when a run has ended. */
export async function registerModel(api: TestApi, model: RegisteredModel): Promise<Model> {
  const { name, version, kind = "adapter", runId = "run_unknown" } = model;
  const files = [];
  for (const [file, content] of Object.entries(modelContents)) {
    await api.storage.put(`models/${name}/${version}/${file}`, content);
    files.push({ name: file, sizeBytes: content.length, sha256: sha256(content) });
  }
  const lineage: Lineage = {
    base: "qwen3-vl-2b",
    baseDigest: null,
    runId,
    step: 30,
    dataset: "weld@1",
    datasetDigest: null,
    mode: "lora",
    planDigest: "p",
    scores: { before: null, after: { "f1@0.5": 80 + version } },
    codeVersion: "0.1.0",
    ...model.lineage,
  };
  return await api.ok("POST", "/internal/v1/models", {
    name,
    version,
    kind,
    task: "vqa",
    systemPrompt: "",
    files,
    lineage,
  });
}
