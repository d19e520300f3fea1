import { RetentionRule, type Model } from "@drydock/spec";
import { expect, test } from "vitest";
import { decideRetention } from "./decide-retention.ts";

const now = new Date("2026-11-23T00:00:00.000Z");

function aModel(version: number, changes: Partial<Model> = {}, ageDays = 100): Model {
  const createdAt = new Date(now.getTime() - ageDays * 86_400_000).toISOString();
  return {
    name: "weld",
    version,
    kind: "adapter",
    task: "vqa",
    systemPrompt: "",
    files: [{ name: "a", sizeBytes: 100, sha256: "0" }],
    lineage: {
      base: "qwen3-vl-2b",
      baseDigest: null,
      runId: `run_${version}`,
      step: 1,
      dataset: "weld@1",
      datasetDigest: null,
      mode: "lora",
      planDigest: "p",
      scores: { before: null, after: { "f1@0.5": version === 2 ? 99 : version } },
    },
    stage: "archived",
    aliases: [],
    notes: "",
    manifest: null,
    filesRemovedAt: null,
    etag: '"1"',
    createdAt,
    updatedAt: createdAt,
    ...changes,
  };
}

function decide(rule: Partial<RetentionRule>, models: readonly Model[], references: Record<number, string[]> = {}) {
  const candidates = models.map((model) => ({ model, references: references[model.version] ?? [] }));
  const items = decideRetention(RetentionRule.parse({ keepLast: 1, ...rule }), candidates, now);
  return Object.fromEntries(
    items.map(({ version, decision, reasons }) => [version, `${decision}: ${reasons.join("; ")}`]),
  );
}

test("the newest, the young and the stages that a rule names are kept; the rest goes, with the reason", () => {
  const models = [
    aModel(1),
    aModel(2, { stage: "staging" }),
    aModel(3, {}, 3),
    aModel(4, { stage: "production" }),
    aModel(5),
  ];
  expect(decide({}, models)).toEqual({
    1: "remove: in stage archived, older than 30 days, not among the newest 1, and nothing refers to it",
    2: "keep: in stage staging",
    3: "keep: younger than 30 days",
    4: "keep: in stage production",
    5: "keep: among the newest 1",
  });
});

test("production is kept even by a rule that names no stage", () => {
  expect(
    decide({ keepStages: [] }, [aModel(1, { stage: "production" }), aModel(2, { stage: "staging" }), aModel(3)]),
  ).toMatchObject({
    1: "keep: in stage production",
    2: expect.stringMatching(/^remove: in stage staging/) as string,
  });
});

test("what is referred to is kept, with what refers to it", () => {
  expect(
    decide({}, [aModel(1), aModel(2)], { 1: ['the alias "line-4" means it', "a rollback would go back to it"] }),
  ).toMatchObject({
    1: 'keep: the alias "line-4" means it; a rollback would go back to it',
  });
});

test("the best by a score are kept, and versions without files do not count among the newest", () => {
  const models = [aModel(1), aModel(2), aModel(3), aModel(4, { filesRemovedAt: "2026-11-01T00:00:00.000Z" })];
  expect(decide({ keepBest: { metric: "f1@0.5", count: 1 } }, models)).toMatchObject({
    2: "keep: among the best 1 by f1@0.5",
    3: "keep: among the newest 1",
    4: "removed-before: removed on 2026-11-01",
  });
});
