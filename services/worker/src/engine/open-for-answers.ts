import { availableParallelism } from "node:os";
import { loadModel, type AnswerGenerator } from "@drydock/engine";
import type { RecordImage } from "@drydock/spec";
import { deviceFrom } from "./device-choice.ts";
import { RecordEncoder } from "./record-encoder.ts";

export interface AnswerModelOptions {
  /** Base model in Hugging Face layout. */
  readonly directory: string;
  readonly adapterDirectory?: string | undefined;
  readonly image: { readonly minPixels?: number | undefined; readonly maxPixels?: number | undefined };
  readonly systemPrompt: string;
  readonly threads?: number | undefined;
  readonly pathOf: (image: RecordImage) => Promise<string>;
}

export interface AnswerModel {
  readonly generator: AnswerGenerator;
  readonly encoder: RecordEncoder;
}

/** A model that only answers, with its tokenizer, template and picture settings. */
export async function openForAnswers(options: AnswerModelOptions): Promise<AnswerModel> {
  const threads = options.threads ?? availableParallelism();
  const device = deviceFrom(process.env, threads);
  const { folder, generator } = await loadModel({
    directory: options.directory,
    threads,
    ...(device ? { device } : {}),
    ...(options.adapterDirectory === undefined ? {} : { adapterDirectory: options.adapterDirectory }),
  });
  const encoder = await RecordEncoder.open({
    directory: options.directory,
    model: folder.model,
    image: options.image,
    systemPrompt: options.systemPrompt,
    pathOf: options.pathOf,
  });
  return { generator, encoder };
}
