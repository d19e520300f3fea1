import { readAdapter, type Adapter } from "../adapters/peft-files.ts";
import type { DeviceSettings } from "../device/device.ts";
import { openDevicePasses } from "../device/device-passes.ts";
import { HostPasses } from "../generation/host-passes.ts";
import { AnswerGenerator } from "../generation/answer-generator.ts";
import type { QuantizationSettings } from "../quantization/quantized-weights.ts";
import { openModelFolder } from "../weights/open-model-folder.ts";
import type { ModelFolder } from "../weights/model-folder.ts";
import type { FeedTensor } from "../runtime/feeds.ts";
import { toShared } from "../runtime/shared-floats.ts";
import { InvalidError } from "@drydock/kit";

export interface LoadedModel {
  readonly folder: ModelFolder;
  readonly generator: AnswerGenerator;
}

/** Opens a model folder for answering, with a PEFT adapter when one is given. @throws InvalidError naming file and fault */
export async function loadModel(options: {
  readonly directory: string;
  readonly adapterDirectory?: string;
  readonly threads: number;
  /** Quantizes the decoder's linear layers as they are read. */
  readonly quantize?: QuantizationSettings;
  /** Where it answers; absent = on the CPU, with arrays of the host. */
  readonly device?: DeviceSettings;
}): Promise<LoadedModel> {
  const folder = await openModelFolder(options.directory, options);
  const adapter =
    options.adapterDirectory === undefined ? null : await readAdapter(options.adapterDirectory, folder.model);
  const live = adapter
    ? liveTensors(folder, adapter, `adapter ${options.adapterDirectory}`)
    : new Map<string, FeedTensor>();
  const lora = adapter?.placement ?? null;
  const passes = options.device
    ? await openDevicePasses({ device: options.device, folder, lora, live })
    : new HostPasses({ threads: options.threads, folder, lora, live });
  return { folder, generator: new AnswerGenerator(passes) };
}

/**
 * The tensors of an adapter as a model takes them.
 * @param name  what messages call the adapter
 * @throws InvalidError (`adapter_mismatch`) naming the tensor that the model has in another size, or does not have
 */
export function liveTensors(folder: ModelFolder, adapter: Adapter, name: string): Map<string, LiveTensor> {
  const forward = folder.model.forward({ hasImages: true, lora: adapter.placement });
  forward.logits("all");
  const live = new Map<string, LiveTensor>();
  for (const [tensor, node] of forward.variables.trained) {
    const data = adapter.tensors.get(tensor);
    const shape = node.shape.map(Number);
    if (!data || data.length !== shape.reduce((size, side) => size * side, 1))
      throw new InvalidError(
        "adapter_mismatch",
        `${name} does not fit model ${folder.directory}: ${tensor} should be [${shape.join(", ")}]`,
      );
    live.set(tensor, { data: toShared(data), shape });
  }
  const unused = [...adapter.tensors.keys()].find((tensor) => !live.has(tensor));
  if (unused !== undefined)
    throw new InvalidError(
      "adapter_mismatch",
      `${name} holds ${unused}, a layer that model ${folder.directory} does not have`,
    );
  return live;
}

export interface LiveTensor extends FeedTensor {
  readonly data: Float32Array;
}
