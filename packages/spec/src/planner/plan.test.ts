import { describe, expect, test } from "vitest";
import {
  accelerators,
  cpuAccelerator,
  findAccelerator,
  gpuAccelerators,
  processorSupply,
} from "../accelerators/accelerators.ts";
import { overrideAccelerator } from "../accelerators/accelerator.ts";
import { catalogue, findModel } from "../catalogue/catalogue.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import type { DatasetStatistics } from "../contract/dataset.ts";
import { Plan } from "../contract/plan.ts";
import { RunSpec, type RunSpecInput } from "../contract/run-spec.ts";
import { explainPlan } from "./explain.ts";
import { plan } from "./plan.ts";
import { planDigest } from "./plan-digest.ts";

function specOf(changes: Partial<RunSpecInput> = {}): RunSpec {
  return RunSpec.parse({ name: "weld", model: "qwen3-vl-4b", dataset: "weld@3", task: "vqa", ...changes });
}

function statisticsOf(rows: number, changes: Partial<DatasetStatistics> = {}): DatasetStatistics {
  const samples = Array.from({ length: Math.min(rows, 100) }, (_, index) => ({
    images: [[640, 480 + (index % 5)]] as [number, number][],
    promptCharacters: 60,
    answerCharacters: 20,
  }));
  return {
    rows,
    trainRows: rows,
    validationRows: 50,
    images: rows,
    pairs: rows,
    boxes: rows,
    tasks: { vqa: rows },
    samples,
    ...changes,
  };
}

const codes = (notes: readonly { code: string }[]): string[] => notes.map((note) => note.code);

describe("every model × mode × base weights × accelerator", () => {
  const cases = catalogue.flatMap((model) =>
    (["lora", "full"] as const).flatMap((mode) =>
      (["bf16", "int8", "nf4"] as const).flatMap((baseWeights) =>
        accelerators.map((accelerator) => ({ model, mode, baseWeights, accelerator })),
      ),
    ),
  );
  const planned = cases.map((entry) => ({
    ...entry,
    result: plan({
      spec: specOf({
        model: entry.model.name,
        mode: entry.mode,
        training: { baseWeights: entry.baseWeights },
        resources: { accelerator: entry.accelerator.name },
      }),
    }),
  }));

  test("gives a layout or a refusal that says what to do, never both and never neither", () => {
    for (const { result } of planned) {
      expect(Plan.safeParse(result).error).toBeUndefined();
      expect(result.layout === null).toBe(result.refusals.length > 0);
      for (const refusal of result.refusals) expect(refusal.message).toMatch(/\b(Use|use|set|Set|lower|Lower)\b/);
    }
  });

  test("has memory terms, each with a formula, that sum to the total and fit the device", () => {
    for (const { result } of planned) {
      if (result.memory === null) continue;
      expect(result.memory.terms.map((term) => term.name)).toEqual([
        "weights",
        "adapter",
        "gradients",
        "optimizer",
        "activations",
        "logits",
        "runtime",
      ]);
      expect(result.memory.terms.reduce((sum, term) => sum + term.sizeBytes, 0)).toBeCloseTo(
        result.memory.totalBytes,
        0,
      );
      for (const term of result.memory.terms) expect(term.formula).not.toBe("");
      expect(result.memory.totalBytes <= result.memory.availableBytes).toBe(result.layout !== null);
    }
  });

  test("keeps the global batch: micro-batch × accumulation × data parallel, in the plan and in every alternative", () => {
    for (const { result } of planned)
      for (const layout of [result.layout, ...result.alternatives]) {
        if (layout === null) continue;
        expect(layout.microBatchSize * layout.accumulationSteps * layout.dataParallel).toBe(16);
        expect(layout.dataParallel * layout.pipelineStages).toBe(layout.gpus);
        expect(layout.pods * layout.gpusPerPod).toBe(layout.gpus);
      }
  });

  test("refuses a quantized base in full mode and LoRA on NVILA-Lite, and nothing else but size", () => {
    for (const { model, mode, baseWeights, result } of planned) {
      const refused = codes(result.refusals);
      expect(refused.includes("quantized_base_needs_lora")).toBe(mode === "full" && baseWeights !== "bf16");
      expect(refused.includes("mode_not_supported")).toBe(model.name === "nvila-lite-2b" && mode === "lora");
      for (const code of refused)
        expect(["quantized_base_needs_lora", "mode_not_supported", "no_accelerator_fits"]).toContain(code);
    }
  });

  test("fewer bits never need more memory", () => {
    const bytes = (name: string, accelerator: string, baseWeights: string): number =>
      planned.find(
        (entry) =>
          entry.model.name === name &&
          entry.mode === "lora" &&
          entry.baseWeights === baseWeights &&
          entry.accelerator.name === accelerator,
      )?.result.memory?.terms[0]?.sizeBytes ?? 0;
    for (const model of catalogue.filter((entry) => entry.modes.includes("lora"))) {
      expect(bytes(model.name, "nvidia-h100-80gb", "nf4")).toBeLessThan(bytes(model.name, "nvidia-h100-80gb", "int8"));
      expect(bytes(model.name, "nvidia-h100-80gb", "int8")).toBeLessThan(bytes(model.name, "nvidia-h100-80gb", "bf16"));
    }
  });
});

describe("more GPUs never need more memory on each, at one micro-batch", () => {
  const totals = (
    model: string,
    mode: "lora" | "full",
    layouts: readonly { gpus: number; pipelineStages: number }[],
  ): number[] =>
    layouts.map((layout) => {
      const spec = specOf({
        model,
        mode,
        training: { microBatchSize: 1 },
        resources: { accelerator: "nvidia-b200-192gb", ...layout },
      });
      return plan({ spec }).memory?.totalBytes ?? 0;
    });
  const pairs = catalogue.flatMap((model) => model.modes.map((mode) => [model.name, mode] as const));

  test.each(pairs)("%s, %s: as data-parallel ranks", (model, mode) => {
    const bytes = totals(
      model,
      mode,
      [1, 2, 4, 8].map((gpus) => ({ gpus, pipelineStages: 1 })),
    );
    expect(bytes).toEqual(bytes.toSorted((a, b) => b - a));
  });

  test.each(pairs)("%s, %s: as pipeline stages", (model, mode) => {
    const bytes = totals(
      model,
      mode,
      [1, 2, 4, 8].map((gpus) => ({ gpus, pipelineStages: gpus })),
    );
    expect(bytes).toEqual(bytes.toSorted((a, b) => b - a));
  });
});

test("alternatives need less memory each than the one before, so that they remedy out-of-memory", () => {
  const result = plan({ spec: specOf({ resources: { accelerator: "nvidia-h100-80gb" } }) });
  expect(result.alternatives.length).toBeGreaterThan(0);
  expect(result.alternatives.map((layout) => layout.microBatchSize)).toEqual(
    result.alternatives.map((layout) => layout.microBatchSize).toSorted((a, b) => b - a),
  );
  expect(result.alternatives[0]?.microBatchSize).toBe((result.layout?.microBatchSize ?? 0) / 2);
});

describe("bad input is refused with the field and what to do", () => {
  const rankZero = { ...specOf(), training: { ...specOf().training, lora: { ...specOf().training.lora, rank: 0 } } };
  test.each<[string, RunSpec, string, string, RegExp]>([
    [
      "LoRA on NVILA-Lite",
      specOf({ model: "nvila-lite-2b" }),
      "mode_not_supported",
      "mode",
      /NVILA-Lite-2B cannot be trained with mode "lora": .*adapter.* Use mode "full"/,
    ],
    [
      "more pipeline stages than layers",
      specOf({ resources: { gpus: 64, pipelineStages: 64 } }),
      "more_stages_than_layers",
      "resources.pipelineStages",
      /36 decoder layers.*64 pipeline stages. Use at most 36/,
    ],
    ["rank 0", rankZero, "rank_not_positive", "training.lora.rank", /rank of 0 leaves nothing to train/],
    [
      "an unknown layer as LoRA target",
      specOf({ training: { lora: { targets: ["query"] } } }),
      "unknown_lora_target",
      "training.lora.targets",
      /no layer named "query".*q_proj/,
    ],
    [
      "a quantized base in full mode",
      specOf({ mode: "full", training: { baseWeights: "nf4" } }),
      "quantized_base_needs_lora",
      "training.baseWeights",
      /bf16.*lora/,
    ],
    ["an unknown model", specOf({ model: "qwen9-vl" }), "unknown_model", "model", /no model "qwen9-vl".*qwen3-vl-4b/],
    [
      "an unknown accelerator",
      specOf({ resources: { accelerator: "nvidia-h900" } }),
      "unknown_accelerator",
      "resources.accelerator",
      /"nvidia-h900".*nvidia-h100-80gb/,
    ],
    [
      "more GPUs than there are",
      specOf({ resources: { accelerator: "nvidia-h100-80gb", gpus: 100 } }),
      "not_enough_gpus",
      "resources.gpus",
      /100 GPUs; at most 64/,
    ],
    [
      "stages that do not divide the GPUs",
      specOf({ resources: { gpus: 3, pipelineStages: 2 } }),
      "stages_do_not_divide_gpus",
      "resources.gpus",
      /multiple of 2/,
    ],
    [
      "a micro-batch that does not divide the batch",
      specOf({ training: { microBatchSize: 5 } }),
      "micro_batch_does_not_divide",
      "training.microBatchSize",
      /16 cannot be made of micro-batches of 5/,
    ],
    [
      "GPUs that do not share the batch evenly",
      specOf({ resources: { gpus: 3 } }),
      "batch_does_not_divide",
      "training.globalBatchSize",
      /global batch of 16.*3 GPUs/,
    ],
    [
      "crossed pixel bounds",
      specOf({ image: { minPixels: 100, maxPixels: 50 } }),
      "pixel_bounds_crossed",
      "image.minPixels",
      /100 is above maxPixels 50/,
    ],
    [
      "a system prompt over the window",
      specOf({ model: "nvila-lite-2b", mode: "full", systemPrompt: "word ".repeat(4000) }),
      "prompt_over_window",
      "systemPrompt",
      /6,260 tokens, more than NVILA-Lite-2B's context window of 4,096 tokens. Shorten/,
    ],
    [
      "a model too large for one small GPU",
      specOf({ model: "qwen3.5-27b", resources: { accelerator: "nvidia-l4-24gb", gpus: 1 } }),
      "no_accelerator_fits",
      "resources",
      /Qwen3.5-27B \(lora, bf16\) needs .* GiB on each of 1 × nvidia-l4-24gb, which offers .* "nf4"/,
    ],
  ])("%s", (_name, spec, code, path, message) => {
    const result = plan({ spec });
    expect(result.refusals).toContainEqual(
      expect.objectContaining({ code, path, message: expect.stringMatching(message) as string }),
    );
    expect(result.layout).toBeNull();
  });

  test("a cluster without GPUs is told to add a node", () => {
    expect(plan({ spec: specOf(), supply: [] }).refusals).toEqual([
      expect.objectContaining({ code: "no_accelerator" }),
    ]);
  });

  test("an accelerator that exists but is not here is told apart from an unknown one", () => {
    const supply = [{ accelerator: cpuAccelerator, maxDevices: 1 }];
    expect(codes(plan({ spec: specOf({ resources: { accelerator: "nvidia-h100-80gb" } }), supply }).refusals)).toEqual([
      "accelerator_not_available",
    ]);
  });

  test("pictures of full size on small GPUs are told as what they are: activations", () => {
    const statistics = statisticsOf(1000);
    const samples = statistics.samples.map((sample) => ({ ...sample, images: [[4032, 3024]] as [number, number][] }));
    const result = plan({ spec: specOf(), statistics: { ...statistics, samples } });
    expect(result.refusals[0]?.message).toMatch(
      /Most of it are the activations .* To change that, lower image.maxPixels/,
    );
    expect(codes(result.warnings)).toContain("pictures_cost_many_tokens");
    expect(
      plan({ spec: specOf({ image: { maxPixels: 1_003_520 } }), statistics: { ...statistics, samples } }).refusals,
    ).toEqual([]);
  });

  test("a model that nearly fits shows the memory of the layout that came nearest", () => {
    const result = plan({
      spec: specOf({ model: "qwen3.5-27b", mode: "full", resources: { accelerator: "nvidia-a10-24gb" } }),
    });
    expect(codes(result.refusals)).toEqual(["no_accelerator_fits"]);
    expect(result.memory?.totalBytes).toBeGreaterThan(result.memory?.availableBytes ?? 0);
  });
});

describe("data", () => {
  test.each([
    [{ images: 19, pairs: 500 }, "refused", "data_below_minimum"],
    [{ images: 500, pairs: 99 }, "refused", "data_below_minimum"],
    [{ images: 20, pairs: 100 }, "warned", "data_small"],
    [{ images: 100, pairs: 500 }, "warned", "data_below_production"],
    [{ images: 500, pairs: 999 }, "warned", "data_below_production"],
  ])("%o is %s", (counts, kind, code) => {
    const result = plan({ spec: specOf(), statistics: statisticsOf(600, counts) });
    expect(codes(kind === "refused" ? result.refusals : result.warnings)).toContain(code);
  });

  test("500 pictures and 1,000 pairs are production size: nothing to say", () => {
    expect(plan({ spec: specOf(), statistics: statisticsOf(1000, { images: 500, pairs: 1000 }) }).warnings).toEqual([]);
  });

  test("allowSmall turns the refusal into a warning", () => {
    const result = plan({ spec: specOf({ allowSmall: true }), statistics: statisticsOf(10) });
    expect(result.refusals).toEqual([]);
    expect(codes(result.warnings)).toContain("data_below_minimum");
  });

  test.each([
    ["only grounding rows", { "phrase-grounding": 1000 }, true],
    ["some of both", { "phrase-grounding": 900, vqa: 100 }, false],
  ])("a vqa run over a data set with %s", (_name, tasks, isWarned) => {
    const { warnings } = plan({ spec: specOf({ task: "vqa" }), statistics: statisticsOf(1000, { tasks }) });
    expect(codes(warnings).includes("task_not_in_data")).toBe(isWarned);
  });

  test("grounding without boxes is refused, and NVILA's missing box format is warned about", () => {
    expect(
      codes(
        plan({ spec: specOf({ task: "phrase-grounding" }), statistics: statisticsOf(1000, { boxes: 0 }) }).refusals,
      ),
    ).toEqual(["no_boxes"]);
    expect(
      codes(plan({ spec: specOf({ model: "nvila-lite-2b", mode: "full", task: "phrase-grounding" }) }).warnings),
    ).toContain("box_convention_undocumented");
  });

  test("a large model for few pictures is advised against", () => {
    expect(codes(plan({ spec: specOf({ model: "qwen3.5-27b" }), statistics: statisticsOf(600) }).warnings)).toContain(
      "model_large_for_data",
    );
  });

  test("rows over the window are counted, left out of the steps and warned about", () => {
    const statistics = statisticsOf(1000);
    const samples = [
      ...statistics.samples.slice(0, 50),
      ...statistics.samples.slice(50).map((sample) => ({ ...sample, promptCharacters: 200_000 })),
    ];
    const result = plan({
      spec: specOf({ model: "nvila-lite-2b", mode: "full" }),
      statistics: { ...statistics, samples },
    });
    expect(result.tokens.overWindow).toBe(50);
    expect(result.steps.samples).toBe(500);
    expect(result.warnings).toContainEqual(
      expect.objectContaining({
        code: "rows_over_window",
        message: expect.stringMatching(/50 rows of 100 .* left out, never cut/) as string,
      }),
    );
  });

  test("when no row fits the window the run is refused", () => {
    const statistics = statisticsOf(1000);
    const samples = statistics.samples.map((sample) => ({ ...sample, promptCharacters: 200_000 }));
    expect(
      codes(
        plan({ spec: specOf({ model: "nvila-lite-2b", mode: "full" }), statistics: { ...statistics, samples } })
          .refusals,
      ),
    ).toContain("prompt_over_window");
  });

  test("steps follow rows, epochs and batch, and maxSteps ends them early", () => {
    expect(plan({ spec: specOf({ training: { epochs: 3 } }), statistics: statisticsOf(1000) }).steps).toMatchObject({
      perEpoch: 62.5,
      total: 188,
      samples: 1000,
    });
    expect(plan({ spec: specOf({ training: { maxSteps: 10 } }), statistics: statisticsOf(1000) }).steps.total).toBe(10);
    expect(plan({ spec: specOf({ training: { maxSteps: 900 } }), statistics: statisticsOf(1000) }).steps.total).toBe(
      900,
    );
    expect(
      plan({
        spec: specOf({ training: { epochs: 1, globalBatchSize: 64 } }),
        statistics: statisticsOf(30, { images: 30, pairs: 200 }),
      }).steps.total,
    ).toBe(1);
  });
});

describe("choice of the accelerator", () => {
  test("is the lowest price an hour that meets the deadline, and larger when the deadline is short", () => {
    const relaxed = plan({ spec: specOf() });
    const hurried = plan({ spec: specOf({ deadlineSeconds: 300 }) });
    expect(relaxed.accelerator?.name).toBe("nvidia-l4-24gb");
    expect(hurried.timeSeconds?.expected).toBeLessThanOrEqual(300);
    expect(hurried.timeSeconds?.expected).toBeLessThan(relaxed.timeSeconds?.expected ?? 0);
  });

  test("warns when nothing meets the deadline", () => {
    const result = plan({ spec: specOf({ deadlineSeconds: 60 }) });
    expect(codes(result.warnings)).toContain("deadline_too_short");
  });

  test("the processor is planned in fp32, without a price, and keeps activations while they fit", () => {
    const machine = overrideAccelerator(cpuAccelerator, { memoryBytes: 256 * 2 ** 30 });
    const result = plan({ spec: specOf({ model: "qwen3-vl-2b" }), supply: [{ accelerator: machine, maxDevices: 1 }] });
    expect(result).toMatchObject({ accelerator: { name: "cpu" }, cost: null, layout: { recomputeActivations: false } });
    expect(result.memory?.terms[0]?.formula).toMatch(/^4 B ×/);
  });

  test("a computer without a GPU supplies its own memory and cores", () => {
    const supply = processorSupply({ memoryBytes: 64 * 2 ** 30, cores: 16 });
    expect(plan({ spec: specOf({ model: "qwen3-vl-2b" }), supply }).accelerator).toMatchObject({
      name: "cpu",
      memoryBytes: 64 * 2 ** 30,
    });
    expect(supply[0]?.accelerator.bf16Teraflops).toBeCloseTo(0.88);
  });

  test("ranks that a run asks for on one computer are processes that share its memory and cores, and the plan says so", () => {
    const supply = processorSupply({ memoryBytes: 64 * 2 ** 30, cores: 4 });
    const asking = (gpus?: number) =>
      plan({ spec: specOf({ model: "qwen3-vl-2b", ...(gpus === undefined ? {} : { resources: { gpus } }) }), supply });
    expect(asking()).toMatchObject({ layout: { gpus: 1, dataParallel: 1 } });
    const two = asking(2);
    expect(two).toMatchObject({
      layout: { gpus: 2, pods: 2, dataParallel: 2 },
      accelerator: { name: "cpu", memoryBytes: 32 * 2 ** 30 },
    });
    expect(two.warnings).toContainEqual({
      code: "ranks_share_machine",
      path: "resources.gpus",
      message:
        "The 2 ranks are 2 worker processes on this computer. Each gets its share of the memory and of the cores, so the run is no faster than with one.",
    });
    expect(asking(8).refusals).toMatchObject([{ code: "not_enough_gpus" }]);
  });

  test("an operator's own price is no longer called assumed", () => {
    const h100 = findAccelerator("nvidia-h100-80gb");
    if (h100 === undefined) throw new Error("no H100");
    const priced = overrideAccelerator(h100, { pricePerHour: { amount: 2.5, currency: "EUR" } });
    expect(plan({ spec: specOf(), supply: [{ accelerator: priced, maxDevices: 8 }] }).cost).toMatchObject({
      currency: "EUR",
      basis: expect.not.stringContaining("assumed") as string,
    });
    expect(plan({ spec: specOf() }).cost?.basis).toMatch(/assumed price/);
  });

  test("every GPU of the table has a throughput, a price marked as assumed and a node size", () => {
    for (const accelerator of gpuAccelerators) {
      expect(accelerator.pricePerHour?.isAssumption).toBe(true);
      expect(accelerator.bf16Teraflops).toBeGreaterThan(100);
      expect(accelerator.devicesPerNode).toBeGreaterThanOrEqual(4);
    }
  });
});

describe("digest", () => {
  test("is the same for the same input and changes with the plan", () => {
    const digest = plan({ spec: specOf() }).digest;
    expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(plan({ spec: specOf() }).digest).toBe(digest);
    expect(plan({ spec: specOf({ training: { globalBatchSize: 32 } }) }).digest).not.toBe(digest);
  });

  test("does not depend on the queue's length, nor on the order of keys", () => {
    const result = plan({ spec: specOf() });
    expect(plan({ spec: specOf(), queueWait: { expectedSeconds: 90, basis: "2 runs ahead" } }).digest).toBe(
      result.digest,
    );
    const reversed = Object.fromEntries(Object.entries(result).toReversed()) as Plan;
    expect(planDigest(reversed)).toBe(result.digest);
  });
});

test.each<[string, RunSpecInput["model"], RegExp]>([
  [
    "a folder that could not be read",
    { uri: "s3://models/mine" },
    /No config\.json was found in s3:\/\/models\/mine\. Use the URI/,
  ],
  ["the tiny model before it was made", "drydock-tiny-vl", /The folder of drydock-tiny-vl is not here.*make tiny-base/],
])("%s is refused with what to do", (_name, model, message) => {
  expect(plan({ spec: specOf({ model }) }).refusals).toEqual([
    { code: "unknown_model", path: "model", message: expect.stringMatching(message) as string },
  ]);
});

test("a rank wider than the model is warned about", () => {
  const spec = specOf({ model: "qwen3-vl-2b", training: { lora: { rank: 1024 } } });
  const narrow = findModel("qwen3-vl-2b");
  if (narrow === undefined) throw new Error("no Qwen3-VL-2B");
  const model = {
    ...narrow,
    architecture: { ...narrow.architecture, text: { ...narrow.architecture.text, hiddenSize: 512 } },
  };
  expect(codes(plan({ spec, model }).warnings)).toContain("rank_large");
  expect(codes(plan({ spec }).warnings)).not.toContain("rank_large");
});

describe("a folder whose decoder is in few bits", () => {
  const base = findModel("qwen3-vl-4b");
  if (base === undefined) throw new Error("no Qwen3-VL-4B");
  const weightsOf = (spec: RunSpec, model: ModelFacts): string =>
    plan({ spec, model }).memory?.terms.find(({ name }) => name === "weights")?.formula ?? "";
  const stored = { ...base, storedIn: "fp4" } as const;

  test("is counted as a base that is quantized when it is read, with the layer that is unpacked", () => {
    const formula = weightsOf(specOf(), stored);
    expect(formula).toContain("0.5625 B × 3.63 G decoder layers");
    expect(formula).toContain("10 B × 24.9 M of the layer that is unpacked");
    expect(formula).toBe(weightsOf(specOf({ training: { baseWeights: "nf4" } }), base));
  });

  test("takes no full training and no other format", () => {
    const { refusals } = plan({ spec: specOf({ mode: "full", training: { baseWeights: "int8" } }), model: stored });
    expect(refusals.map(({ message }) => message)).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/holds its weights in fp4, and full fine-tuning changes every weight/),
        expect.stringMatching(
          /holds its weights in fp4 already; to train on int8, use the model that it was made from/,
        ),
      ]),
    );
  });
});

test("a plan reads as text: accelerator, memory by term with formulas, tokens, time, warnings", () => {
  const text = explainPlan(plan({ spec: specOf() })).join("\n");
  for (const part of [
    "nvidia-l4-24gb",
    "weights",
    "2 B × 3.63 G decoder layers",
    "p95",
    "Steps",
    "assumed price",
    "[no_data_yet]",
    "ready to run",
  ])
    expect(text).toContain(part);
});

test("a refused plan reads as text with what to do", () => {
  const lines = explainPlan(plan({ spec: specOf({ model: "nvila-lite-2b" }) }));
  expect(lines.join("\n")).toMatch(/Refused\n {2}mode: NVILA-Lite-2B cannot/);
  expect(lines.at(-1)).toBe("This run would be refused.");
});
