import type { Accelerator } from "../accelerators/accelerator.ts";
import type { ModelFacts } from "../catalogue/model-facts.ts";
import { countParameters, fullAttentionLayers } from "../catalogue/parameters.ts";
import type { Layout, Plan } from "../contract/plan.ts";
import type { RunSpec } from "../contract/run-spec.ts";
import type { SampleTokens } from "../tokens/token-monitor.ts";
import { formatCount, formatSeconds, plural } from "./format.ts";
import { countedAs } from "./recipe.ts";

/**
 * Share of the stated bf16 throughput that training reaches: slow, expected, fast. Published PyTorch runs reach 0.33–0.5
 * on A100 and H100; ONNX Runtime has no published figure for training, so the range is wide and the middle cautious.
 */
const utilisation = {
  gpu: { slow: 0.15, expected: 0.3, fast: 0.5 },
  cpu: { slow: 0.35, expected: 0.6, fast: 0.9 },
} as const;

/** A quantized base is unpacked at every use; Qwen's series: 1,579 against 1,954 and 2,341 against 3,151 tokens a second. */
const quantizedSlowdown = 1.3;

/** Throughput that remains of each further GPU, in one node and across nodes. */
const scaling = { oneNode: 0.92, manyNodes: 0.85 } as const;

const secondsPerStepOverhead = { gpu: 0.05, cpu: 0.01 } as const;
const secondsToStart = { gpu: 120, cpu: 5 } as const;

/**
 * Floating-point operations to train on one sample. Forward 2 per weight and token, gradient of the input 2, gradient of
 * the weight 2 (where it is trained), forward again 2 (where activations are recomputed).
 *
 * Source: Kaplan et al. 2020 (arXiv 2001.08361), section 2.1, and domain reference 6 (LoRA 4, 6 with recomputation).
 */
export function trainingOperations(
  spec: Pick<RunSpec, "mode">,
  model: ModelFacts,
  sample: SampleTokens,
  recomputes: boolean,
): number {
  const { text, vision } = model.architecture;
  const counts = countParameters(model.architecture);
  const perWeight = (spec.mode === "full" ? 6 : 4) + (recomputes ? 2 : 0);
  const passes = perWeight / 2;
  const decoder = perWeight * counts.decoderLinears * sample.total;
  const attention = passes * 2 * fullAttentionLayers(text) * text.heads * text.headSize * sample.total ** 2;
  const head = (spec.mode === "full" ? 6 : 4) * text.vocabularySize * text.hiddenSize * sample.labels;
  const towerPasses = spec.mode === "full" ? passes : 1;
  const tower =
    vision === null
      ? 0
      : towerPasses *
        (2 * (counts.vision + counts.bridge / vision.patchesPerToken) * sample.patches +
          4 * vision.layers * vision.hiddenSize * sample.patches * sample.patchesPerSegment);
  return decoder + attention + head + tower;
}

export interface DurationQuestion {
  readonly spec: RunSpec;
  readonly model: ModelFacts;
  readonly accelerator: Accelerator;
  readonly layout: Layout;
  readonly mean: SampleTokens;
  readonly steps: number;
}

/** Time of the training steps and the start, with a range. Waiting and evaluation are not in it. */
export function estimateDuration(question: DurationQuestion): NonNullable<Plan["timeSeconds"]> {
  const { spec, model, accelerator, layout, mean, steps } = question;
  const kind = accelerator.kind;
  const perSample = trainingOperations(spec, model, mean, layout.recomputeActivations);
  const samples = steps * spec.training.globalBatchSize;
  const quantized = countedAs(spec, model) === "bf16" ? 1 : quantizedSlowdown;
  const bubble = (layout.accumulationSteps + layout.pipelineStages - 1) / layout.accumulationSteps;
  const efficiency =
    layout.gpus === 1 ? 1 : layout.gpus <= accelerator.devicesPerNode ? scaling.oneNode : scaling.manyNodes;
  const atFullSpeed =
    (perSample * samples * quantized * bubble) / (accelerator.bf16Teraflops * 1e12 * layout.gpus * efficiency);
  const fixed = secondsToStart[kind] + steps * secondsPerStepOverhead[kind];
  const { slow, expected, fast } = utilisation[kind];
  const share = `${Math.round(expected * 100)} % (${Math.round(slow * 100)}–${Math.round(fast * 100)} %)`;
  return {
    low: fixed + atFullSpeed / fast,
    expected: fixed + atFullSpeed / expected,
    high: fixed + atFullSpeed / slow,
    basis: `${formatCount(samples)} samples × ${formatCount(perSample / 1e9)} GFLOP on ${plural(layout.gpus, "device")} at ${share} of ${accelerator.bf16Teraflops} TFLOP/s each${quantized > 1 ? `, × ${quantized} for the quantized base` : ""}, plus ${formatSeconds(fixed)} to start and between steps; waiting and evaluation not included`,
  };
}

/** Cost of the accelerators for that time; null where the accelerator has no price (one's own computer). */
export function estimateCost(
  accelerator: Accelerator,
  layout: Layout,
  time: NonNullable<Plan["timeSeconds"]>,
): Plan["cost"] {
  const price = accelerator.pricePerHour;
  if (price === null) return null;
  const ofSeconds = (seconds: number): number => Number(((seconds / 3600) * layout.gpus * price.amount).toFixed(2));
  return {
    low: ofSeconds(time.low),
    expected: ofSeconds(time.expected),
    high: ofSeconds(time.high),
    currency: price.currency,
    basis: `${plural(layout.gpus, "device")} × ${price.amount} ${price.currency} an hour${price.isAssumption ? ", an assumed price: set your own" : ""}`,
  };
}
