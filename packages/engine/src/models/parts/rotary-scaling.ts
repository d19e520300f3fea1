import { z } from "zod";
import { readConfigFile } from "./config-file.ts";

const Llama3 = z.looseObject({
  factor: z.number().positive(),
  low_freq_factor: z.number().positive(),
  high_freq_factor: z.number().positive(),
  original_max_position_embeddings: z.number().positive(),
});

/**
 * Rotary frequencies of Llama 3.1 and later: waves longer than the first context window are stretched, short ones kept, those
 * between stretched by degrees.
 * Source: `_compute_llama3_parameters` of `modeling_rope_utils.py`, huggingface/transformers 5.23.
 *
 * @param key   where the rotary settings stand in config.json
 * @param rope  factor, low_freq_factor, high_freq_factor, original_max_position_embeddings
 * @throws InvalidError (`bad_model_config`) naming the key
 */
export function llama3Frequencies(frequencies: Float32Array, key: string, rope: unknown): Float32Array {
  const { [key]: settings } = readConfigFile(z.object({ [key]: Llama3 }), { [key]: rope }) as Record<
    string,
    z.output<typeof Llama3>
  >;
  if (!settings) return frequencies;
  const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: first } = settings;
  return frequencies.map((frequency) => {
    const waves = (first * frequency) / (2 * Math.PI); // in the first context window
    if (waves < low) return frequency / factor;
    if (waves > high) return frequency;
    const share = (waves - low) / (high - low);
    return ((1 - share) * frequency) / factor + share * frequency;
  });
}
