/*
 * `make bench-delta`: one gated DeltaNet layer over a row of 8,192 tokens, forward, backward and update: seconds a step and peak memory of a
 * fresh process, with activations kept and computed again. Beside it the same layer with attention in place of the state.
 *
 * usage: delta-net.ts [--tokens N] [--threads N] [--steps N]
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { EngineTrainer, SeededRandom, collate, createRandomModel } from "@drydock/engine";

const { values: flags } = parseArgs({
  options: {
    tokens: { type: "string", default: "8192" },
    threads: { type: "string", default: "2" },
    steps: { type: "string", default: "2" },
    layer: { type: "string" },
    recompute: { type: "boolean", default: false },
  },
});
const vocabulary = 512;

function configOf(layer: string): object {
  return {
    model_type: "qwen3_5",
    image_token_id: 3,
    tie_word_embeddings: true,
    text_config: {
      vocab_size: vocabulary,
      hidden_size: 512,
      intermediate_size: 1024,
      num_hidden_layers: 1,
      layer_types: [layer],
      num_attention_heads: 8,
      num_key_value_heads: 2,
      head_dim: 64,
      max_position_embeddings: 16384,
      rope_parameters: { rope_theta: 1e6, mrope_section: [4, 2, 2], partial_rotary_factor: 0.25 },
      linear_num_key_heads: 4,
      linear_key_head_dim: 64,
      linear_num_value_heads: 8,
      linear_value_head_dim: 64,
    },
    vision_config: {
      depth: 1,
      hidden_size: 32,
      intermediate_size: 32,
      num_heads: 2,
      patch_size: 8,
      out_hidden_size: 512,
      num_position_embeddings: 16,
    },
  };
}

/** Prints one line of JSON. */
async function measure(layer: string): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "drydock-delta-"));
  try {
    await createRandomModel(configOf(layer), directory, 1);
    const trainer = await EngineTrainer.open({
      directory,
      mode: "full",
      lora: { rank: 1, alpha: 1, dropout: 0, targets: "all-linear" },
      optimizer: { betas: [0.9, 0.999], epsilon: 1e-8, weightDecay: 0, maxGradientNorm: 1 },
      schedule: { kind: "constant", learningRate: 1e-4, warmupRatio: 0, totalSteps: 10 },
      seed: 1,
      threads: Number(flags.threads),
      recomputes: flags.recompute,
    });
    const random = new SeededRandom(2);
    const inputIds = Array.from(
      { length: Number(flags.tokens) },
      () => 5 + Math.floor(random.uniform() * (vocabulary - 5)),
    );
    const labels = inputIds.map((_, index) => inputIds[index + 1] ?? -100);
    const row = { name: "row", inputIds, labels, images: [], imagePositions: [] };
    const batch = collate([row], trainer.model);
    const seconds: number[] = [];
    const losses: number[] = [];
    for (let step = 0; step < Number(flags.steps); step++) {
      const started = performance.now();
      losses.push((await trainer.step([batch])).loss);
      seconds.push((performance.now() - started) / 1000);
    }
    await trainer.close();
    const peakMB = Math.round((process.resourceUsage().maxRSS * 1024) / 1e6);
    console.log(JSON.stringify({ layer, recompute: flags.recompute, seconds: Math.min(...seconds), peakMB, losses }));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

if (flags.layer !== undefined) await measure(flags.layer);
else {
  const given = ["--tokens", flags.tokens, "--threads", flags.threads, "--steps", flags.steps];
  for (const layer of ["linear_attention", "full_attention"])
    for (const recompute of [[], ["--recompute"]]) {
      const parameters = [import.meta.filename, ...given, "--layer", layer, ...recompute];
      const { stdout } = await promisify(execFile)(process.execPath, parameters);
      process.stdout.write(stdout);
    }
}
