import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRandomModel, trainByteLevelBpe } from "@drydock/engine";
import { z } from "zod";
import {
  chatTemplate,
  jsonTokens,
  preprocessorConfig,
  specialTokens,
  tinyConfig,
  vocabularySize,
} from "./architecture.ts";

const TokenizerFile = z.looseObject({
  added_tokens: z.array(z.looseObject({ id: z.int(), content: z.string() })),
  model: z.looseObject({ vocab: z.record(z.string(), z.int()) }),
});

/**
 * Writes a new model in Hugging Face layout: configuration, tokenizer learned from `corpus`, chat template, picture
 * settings, random weights.
 *
 * @returns the number of parameters
 */
export async function createTinyModel(directory: string, corpus: Iterable<string>, seed: number): Promise<number> {
  await mkdir(directory, { recursive: true });
  const tokenizer = TokenizerFile.parse(trainByteLevelBpe(corpus, vocabularySize - jsonTokens.length, specialTokens));
  const firstSpecialId = tokenizer.added_tokens[0]!.id;
  const firstJsonId = firstSpecialId + specialTokens.length;
  const added = jsonTokens.map((content, index) => ({
    id: firstJsonId + index,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: false,
  }));
  await writeJson(join(directory, "tokenizer.json"), {
    ...tokenizer,
    added_tokens: [...tokenizer.added_tokens, ...added],
  });
  await writeJson(join(directory, "tokenizer_config.json"), {
    // Not a Qwen class: those put their own splitting of numbers, digit by digit, in place of the file's.
    tokenizer_class: "PreTrainedTokenizerFast",
    processor_class: "Qwen3VLProcessor",
    model_max_length: 4096,
    eos_token: "<|im_end|>",
    pad_token: "<|endoftext|>",
    bos_token: null,
    unk_token: null,
    add_bos_token: false,
    add_prefix_space: false,
    clean_up_tokenization_spaces: false,
    split_special_tokens: false,
    errors: "replace",
  });
  await writeFile(join(directory, "chat_template.jinja"), chatTemplate);
  await writeJson(join(directory, "preprocessor_config.json"), preprocessorConfig);
  await writeJson(join(directory, "generation_config.json"), {
    do_sample: false,
    eos_token_id: firstSpecialId + specialTokens.indexOf("<|im_end|>"),
    pad_token_id: firstSpecialId,
  });
  const { parameters } = await createRandomModel(tinyConfig(firstSpecialId), directory, seed);
  return parameters;
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 1)}\n`);
}
